import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fitColumns, redundantColumns, sample } from '../src/pure/columns.ts';
import { automaticColumns, bestRuns, collectNames, sortItems } from '../src/pure/runs.ts';
import type { IRunRow } from '../src/records.ts';

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

const row = (
  id: string,
  notebook: string,
  metrics: Record<string, number>,
  others: Partial<IRunRow> = {}
): IRunRow =>
  ({
    id,
    notebook_id: notebook,
    config: {},
    tags: [],
    metrics: Object.fromEntries(
      Object.entries(metrics).map(([name, value]) => [
        name,
        { last: value, min: value, max: value }
      ])
    ),
    ...others
  }) as unknown as IRunRow;

test('the best run of a notebook without the metric is that by its own metric', () => {
  const runs = [
    row('a', 'first', { loss: 0.5 }),
    row('b', 'first', { loss: 0.2 }),
    row('c', 'first', { loss: 0.1 }, { archived: true }),
    row('d', 'second', { val_acc: 0.7 }),
    row('e', 'second', { val_acc: 0.9 }),
    row('f', 'third', {})
  ];
  const best = { first: 'b', second: 'e' };
  assert.deepEqual(Object.fromEntries(bestRuns(runs, { metric: 'loss', minimize: true })), best);
  assert.deepEqual(Object.fromEntries(bestRuns(runs, undefined)), best);
  const worst = bestRuns(runs, { metric: 'loss', minimize: false });
  assert.equal(worst.get('first'), 'a');
});

test('columns of which no run that is shown has a value are left out', () => {
  const runs = [
    row('a', 'first', { loss: 0.5, val_loss: 0.6, acc: 0.7 }, { config: { lr: 1 } }),
    row('b', 'first', { loss: 0.5, val_loss: 0.6, acc: 0.7 }, { config: { lr: 2 } }),
    row('c', 'second', { reward: 1, 'system/cpu_percent': 3 }, { config: { gamma: 0.9 } })
  ];
  const shown = (runs: readonly IRunRow[], all: readonly IRunRow[]): string[] =>
    automaticColumns(runs, collectNames(all), 'loss').filter(id => /^(metrics|config)/.test(id));
  assert.deepEqual(shown(runs, runs), [
    ...['loss', 'acc', 'val_loss'].map(name => `metrics.${name}.best`),
    'config.lr',
    'config.gamma'
  ]);
  assert.deepEqual(shown(runs.slice(2), runs), ['metrics.reward.best', 'config.gamma']);
});
