import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { ICheckpointRow } from '../src/pure/rows.ts';
import { metricNames, newestFirst, runOrder, toRows } from '../src/pure/rows.ts';
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

test('runs are ordered by their starts, or else by their first checkpoints', () => {
  const rows = [
    createRow(0, {}, { run_id: 'b' }),
    createRow(0, {}, { run_id: 'a' }),
    createRow(1, {}, { run_id: 'b' })
  ].reverse();
  assert.deepEqual(runOrder(rows), ['b', 'a']);
  const runs = [
    { id: 'a', started_at: '2025-12-31T00:00:00.000000Z' },
    { id: 'c', started_at: '2026-02-01T00:00:00.000000Z' }
  ] as IRun[];
  assert.deepEqual(runOrder(rows, new Map(runs.map(run => [run.id, run]))), ['a', 'b', 'c']);
});

test('the most frequent metrics are listed first', () => {
  assert.deepEqual(metricNames([createRow(0, { b: 1, a: 1 }), createRow(1, { b: 1 })]), ['b', 'a']);
});
