import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { ICheckpointRow } from '../src/pure/rows.ts';
import { filterRows, metricNames, newestFirst, runOrder, toRows } from '../src/pure/rows.ts';
import type { ICheckpoint, IRun } from '../src/records.ts';

let count = 0;

function createRow(
  epoch: number,
  metrics: Record<string, number>,
  fields: Partial<ICheckpoint> = {}
): ICheckpointRow {
  count += 1;
  const createdAt = `2026-01-01T00:00:${String(count).padStart(2, '0')}.000000Z`;
  const detail = { tags: [], pinned: false, ...fields } as unknown as ICheckpoint;
  const runId = fields.run_id ?? '';
  return { id: `id-${count}`, runId, epoch, step: epoch * 10, createdAt, metrics, detail };
}

function createRuns(runs: Record<string, Partial<IRun>>): Map<string, IRun> {
  return new Map(Object.entries(runs) as [string, IRun][]);
}

test('columns become rows, and names of non-finite numbers become numbers', () => {
  const rows = toRows({
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

test('rows are sorted by time, the newest first', () => {
  const rows = [0, 1, 2].map(epoch => createRow(epoch, {}));
  assert.deepEqual(
    newestFirst(rows).map(({ epoch }) => epoch),
    [2, 1, 0]
  );
});

test('a filter matches tags, pins, positions and comparisons; all words must match', () => {
  const rows = [
    createRow(1, { val_loss: 0.5 }, { tags: ['Paper'], pinned: true, run_id: '1' }),
    createRow(2, { val_loss: 0.2 }, { run_id: '2' }),
    createRow(3, {})
  ];
  const epochs = (query: string): number[] =>
    filterRows(rows, query, createRuns({})).map(({ epoch }) => epoch);
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

test('a filter by a run does not match runs whose number begins alike, nor rows without a run', () => {
  const numbers = Array.from({ length: 12 }, (_, i) => i + 2);
  const runs = createRuns(
    Object.fromEntries(numbers.map(number => [`r${number}`, { number, name: `Wide${number}` }]))
  );
  const rows = ['', ...runs.keys()].map(run_id => createRow(0, {}, { run_id }));
  const runIds = (query: string): string[] =>
    filterRows(rows, query, runs).map(({ runId }) => runId);
  assert.deepEqual(runIds('run:2'), ['r2']);
  assert.deepEqual(runIds('run:12'), ['r12']);
  assert.deepEqual(runIds('run:wide3'), ['r3']);
  assert.deepEqual(runIds('run:1'), []);
  assert.deepEqual(runIds('run:undefined'), []);
  assert.deepEqual(runIds('run'), []);
});

test('runs are ordered by their first checkpoints', () => {
  const rows = [
    createRow(0, {}, { run_id: 'b' }),
    createRow(0, {}, { run_id: 'a' }),
    createRow(1, {}, { run_id: 'b' })
  ];
  assert.deepEqual(runOrder(rows.reverse()), ['b', 'a']);
});

test('the most frequent metrics are listed first', () => {
  assert.deepEqual(metricNames([createRow(0, { b: 1, a: 1 }), createRow(1, { b: 1 })]), ['b', 'a']);
});
