import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fitColumns, redundantColumns, sample } from '../src/pure/columns.ts';
import { sortItems } from '../src/pure/runs.ts';

test('the most important columns are shown, and less important ones that still fit', () => {
  const columns = [
    { key: 'tags', width: 90, priority: 3 },
    { key: 'epoch', width: 50, priority: 1 },
    { key: 'size', width: 40, priority: 4 },
    { key: 'loss', width: 60, priority: 0 }
  ];
  assert.deepEqual([...fitColumns(columns, 160)], ['loss', 'epoch', 'size']);
  assert.deepEqual([...fitColumns(columns, 240)], ['loss', 'epoch', 'tags', 'size']);
  assert.deepEqual([...fitColumns(columns, 10)], []);
});

test('empty columns and repetitions tell nothing', () => {
  const rows = [
    { epoch: 0, step: 0, loss: NaN, again: NaN, tags: '' },
    { epoch: 1, step: 1, loss: 2, again: 2, tags: '' }
  ];
  const columns = (['epoch', 'step', 'loss', 'again', 'tags'] as const).map(key => ({
    key,
    value: (row: (typeof rows)[number]) => row[key]
  }));
  assert.deepEqual([...redundantColumns(columns, rows)], ['step', 'again', 'tags']);
  rows.push({ epoch: 1, step: 2, loss: 1, again: 1, tags: 'x' });
  assert.deepEqual([...redundantColumns(columns, rows)], ['again']);
});

test('a sample has the first and the last element', () => {
  const items = Array.from({ length: 100 }, (_, i) => i);
  assert.deepEqual(sample(items, 3), [0, 50, 99]);
  assert.deepEqual(sample([1, 2], 3), [1, 2]);
});

test('items are sorted by several keys; missing values come last in both directions', () => {
  const items = [
    { id: 'a', loss: 2, name: 'run 10' },
    { id: 'b', loss: undefined, name: 'run 2' },
    { id: 'c', loss: 1, name: 'run 2' },
    { id: 'd', loss: 2, name: 'run 9' }
  ];
  const by = (key: 'loss' | 'name', isDescending = false) => ({
    valueOf: (item: (typeof items)[number]) => item[key],
    isDescending
  });
  const order = (...keys: ReturnType<typeof by>[]): string =>
    sortItems(items, keys)
      .map(({ id }) => id)
      .join('');
  assert.equal(order(), 'abcd');
  assert.equal(order(by('loss')), 'cadb');
  assert.equal(order(by('loss', true)), 'adcb');
  assert.equal(order(by('loss', true), by('name')), 'dacb');
  assert.equal(order(by('name', true)), 'adbc');
});
