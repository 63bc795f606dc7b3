import assert from 'node:assert/strict';
import { test } from 'node:test';

import { MAX_RUNS, runsToDraw, toCurves } from '../src/pure/curves.ts';
import type { ICheckpointRow } from '../src/pure/rows.ts';

function row(runId: string, epoch: number, step: number, loss: number): ICheckpointRow {
  const id = `${runId}-${epoch}-${step}`;
  return { id, runId, epoch, step, createdAt: `2026-01-01T00:00:${10 + step}Z`, metrics: { loss } };
}

const options = { metric: 'loss', axis: 'epoch', log: false, parents: new Map() } as const;

test('runs share one axis, and curves continue where a run has no point', () => {
  const curves = toCurves([row('a', 0, 1, 4), row('a', 2, 3, 2), row('b', 1, 2, 3)], options);
  assert.deepEqual(curves.x, [0, 1, 2]);
  assert.deepEqual(curves.y.get('a'), [4, undefined, 2]);
  assert.deepEqual(curves.y.get('b'), [undefined, 3, undefined]);
});

test('the last step of an epoch counts, regardless of the order of the rows', () => {
  const rows = [row('a', 0, 2, 3), row('a', 0, 1, 4)];
  assert.deepEqual(toCurves(rows, options).y.get('a'), [3]);
  assert.deepEqual(toCurves(rows.reverse(), options).y.get('a'), [3]);
  assert.deepEqual(toCurves(rows, { ...options, axis: 'step' }).y.get('a'), [4, 3]);
});

test('a value that cannot be drawn is counted and leaves a gap', () => {
  const rows = [
    row('a', 0, 0, NaN),
    row('a', 1, 1, Infinity),
    row('a', 2, 2, 0),
    row('a', 3, 3, 1)
  ];
  assert.equal(toCurves(rows, options).skipped, 2);
  const log = toCurves(rows, { ...options, log: true });
  assert.equal(log.skipped, 3);
  assert.deepEqual(log.x, [0, 1, 2, 3]);
  assert.deepEqual(log.y.get('a'), [null, null, null, 1]);
  assert.deepEqual(log.summaries.get('a'), { points: 1, last: 1, min: 1, max: 1 });
});

test('the curve of a resumed run begins at the checkpoint it was resumed from', () => {
  const parent = row('a', 1, 1, 3);
  const rows = [row('a', 0, 0, 4), parent, row('a', 2, 2, 5), row('b', 2, 2, 2)];
  const curves = toCurves(rows, { ...options, parents: new Map([['b', parent]]) });
  assert.deepEqual(curves.y.get('b'), [undefined, 3, 2]);
});

test('the summary of a run does not include the checkpoint it was resumed from', () => {
  const parent = row('a', 1, 1, 0.2);
  const rows = [parent, row('b', 3, 3, 0.6), row('b', 2, 2, 0.5)];
  const { summaries } = toCurves(rows, { ...options, parents: new Map([['b', parent]]) });
  assert.deepEqual(summaries.get('b'), { points: 2, last: 0.6, min: 0.5, max: 0.6 });
});

test('a parent checkpoint that cannot be drawn is counted once', () => {
  const parent = row('a', 1, 1, NaN);
  const rows = [parent, row('b', 2, 2, 1)];
  assert.equal(toCurves(rows, { ...options, parents: new Map([['b', parent]]) }).skipped, 1);
});

test('the newest, the running and the best of many runs are drawn', () => {
  const order = Array.from({ length: 1000 }, (_, i) => `r${i}`);
  const newest = order.slice(-MAX_RUNS);
  assert.deepEqual([...runsToDraw(order, run => run === 'r7', 'r3')], ['r3', 'r7', ...newest]);
  assert.deepEqual([...runsToDraw(order, () => true)], newest);
  assert.equal(runsToDraw(newest, () => false).size, MAX_RUNS);
});
