import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { IRow } from '../src/pure/rows.ts';
import { filterRows, metricNames, rowsOfSeries, runOrder, sortRows } from '../src/pure/rows.ts';
import type { ICheckpoint } from '../src/records.ts';

let made = 0;

function row(
  epoch: number,
  metrics: Record<string, number>,
  given: Partial<ICheckpoint> = {}
): IRow {
  made += 1;
  const createdAt = `2026-01-01T00:00:${String(made).padStart(2, '0')}.000000Z`;
  const detail = { tags: [], pinned: false, ...given } as unknown as ICheckpoint;
  const runId = given.run_id ?? '';
  return { id: `id-${made}`, runId, epoch, step: epoch * 10, createdAt, metrics, detail };
}

test('columns become rows, non-finite numbers spelled out among them', () => {
  const rows = rowsOfSeries({
    run_id: 'r',
    checkpoint_id: ['a', 'b'],
    epoch: [1, 2],
    step: [10, 20],
    created_at: ['x', 'y'],
    metrics: { loss: [0.5, 'NaN'], accuracy: [null, 0.9] }
  });
  const [first, second] = rows;
  assert.deepEqual(first?.metrics, { loss: 0.5 });
  assert.deepEqual(second?.metrics, { loss: NaN, accuracy: 0.9 });
  assert.equal(second.runId, 'r');
});

test('rows sort by a metric either way, and those without it come last', () => {
  const rows = [row(0, { loss: 2 }), row(1, {}), row(2, { loss: 1 }), row(3, { loss: NaN })];
  const epochs = (descending: boolean): number[] =>
    sortRows(rows, { key: { metric: 'loss' }, descending }, []).map(({ epoch }) => epoch);
  assert.deepEqual(epochs(false).slice(0, 2), [2, 0]);
  assert.deepEqual(epochs(true).slice(0, 2), [0, 2]);
  assert.deepEqual(new Set(epochs(true).slice(2)), new Set([1, 3]));
});

test('ten thousand rows sort in one order whatever order they come in', () => {
  const rows = Array.from({ length: 10_000 }, (_, i) => row(i % 7, { loss: i % 5 }));
  const sort = { key: { metric: 'loss' }, descending: false } as const;
  assert.deepEqual(sortRows(rows, sort, []), sortRows([...rows].reverse(), sort, []));
});

test('a filter takes tags, runs, pins, places and comparisons, and all words must hold', () => {
  const rows = [
    row(1, { val_loss: 0.5 }, { tags: ['Paper'], pinned: true, run_id: '1' }),
    row(2, { val_loss: 0.2 }, { run_id: '2' }),
    row(3, {})
  ];
  const epochs = (query: string): number[] =>
    filterRows(rows, query, ['1', '2', '']).map(({ epoch }) => epoch);
  assert.deepEqual(epochs(''), [1, 2, 3]);
  assert.deepEqual(epochs('paper'), [1]);
  assert.deepEqual(epochs('pinned'), [1]);
  assert.deepEqual(epochs('epoch:3'), [3]);
  assert.deepEqual(epochs('val_loss<0.3'), [2]);
  assert.deepEqual(epochs('val_loss<=0.5 pinned'), [1]);
  assert.deepEqual(epochs('val_loss < 0.3'), [2]);
  assert.deepEqual(epochs('epoch: 3'), [3]);
  assert.deepEqual(epochs('epoch>=2'), [2, 3]);
  assert.deepEqual(epochs('nothing'), []);
});

test('a filter by a run takes that run, no other whose number begins alike, and none of no run', () => {
  const runs = ['', ...Array.from({ length: 12 }, (_, i) => `r${i + 2}`)];
  const rows = runs.map(run_id => row(0, {}, { run_id }));
  const found = (query: string): string[] =>
    filterRows(rows, query, runs).map(({ runId }) => runId);
  assert.deepEqual(found('run:2'), ['r2']);
  assert.deepEqual(found('run:12'), ['r12']);
  assert.deepEqual(found('run:1'), []);
  assert.deepEqual(found('run'), []);
});

test('runs are in the order of their first checkpoints', () => {
  const rows = [
    row(0, {}, { run_id: 'b' }),
    row(0, {}, { run_id: 'a' }),
    row(1, {}, { run_id: 'b' })
  ];
  assert.deepEqual(runOrder(rows.reverse()), ['b', 'a']);
});

test('the most frequent metrics are named first', () => {
  assert.deepEqual(metricNames([row(0, { b: 1, a: 1 }), row(1, { b: 1 })]), ['b', 'a']);
});
