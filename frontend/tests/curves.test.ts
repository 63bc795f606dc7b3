import assert from 'node:assert/strict';
import { test } from 'node:test';

import { curves, MOST_RUNS, runsToDraw } from '../src/pure/curves.ts';
import type { IRow } from '../src/pure/rows.ts';

function row(runId: string, epoch: number, step: number, loss: number): IRow {
  const id = `${runId}-${epoch}-${step}`;
  return { id, runId, epoch, step, createdAt: `2026-01-01T00:00:${10 + step}Z`, metrics: { loss } };
}

const options = { metric: 'loss', axis: 'epoch', log: false, parents: new Map() } as const;

test('runs share one axis, and curves go on where a run has no point', () => {
  const drawn = curves([row('a', 0, 1, 4), row('a', 2, 3, 2), row('b', 1, 2, 3)], options);
  assert.deepEqual(drawn.x, [0, 1, 2]);
  assert.deepEqual(drawn.y.get('a'), [4, undefined, 2]);
  assert.deepEqual(drawn.y.get('b'), [undefined, 3, undefined]);
});

test('of several checkpoints in an epoch the last step counts, in whatever order they come', () => {
  const rows = [row('a', 0, 2, 3), row('a', 0, 1, 4)];
  assert.deepEqual(curves(rows, options).y.get('a'), [3]);
  assert.deepEqual(curves(rows.reverse(), options).y.get('a'), [3]);
  assert.deepEqual(curves(rows, { ...options, axis: 'step' }).y.get('a'), [4, 3]);
});

test('what cannot be drawn is counted, and a gap in its curve', () => {
  const rows = [
    row('a', 0, 0, NaN),
    row('a', 1, 1, Infinity),
    row('a', 2, 2, 0),
    row('a', 3, 3, 1)
  ];
  assert.equal(curves(rows, options).left, 2);
  const log = curves(rows, { ...options, log: true });
  assert.equal(log.left, 3);
  assert.deepEqual(log.x, [0, 1, 2, 3]);
  assert.deepEqual(log.y.get('a'), [null, null, null, 1]);
  assert.deepEqual(log.summaries.get('a'), { points: 1, last: 1, least: 1, most: 1 });
});

test('a run that was resumed begins at the checkpoint it was resumed from', () => {
  const parent = row('a', 1, 1, 3);
  const rows = [row('a', 0, 0, 4), parent, row('a', 2, 2, 5), row('b', 2, 2, 2)];
  const drawn = curves(rows, { ...options, parents: new Map([['b', parent]]) });
  assert.deepEqual(drawn.y.get('b'), [undefined, 3, 2]);
});

test('a run is summed up by its own checkpoints, not by the one it was resumed from', () => {
  const parent = row('a', 1, 1, 0.2);
  const rows = [parent, row('b', 3, 3, 0.6), row('b', 2, 2, 0.5)];
  const { summaries } = curves(rows, { ...options, parents: new Map([['b', parent]]) });
  assert.deepEqual(summaries.get('b'), { points: 2, last: 0.6, least: 0.5, most: 0.6 });
});

test('a checkpoint that runs were resumed from is counted once where it cannot be drawn', () => {
  const parent = row('a', 1, 1, NaN);
  const rows = [parent, row('b', 2, 2, 1)];
  assert.equal(curves(rows, { ...options, parents: new Map([['b', parent]]) }).left, 1);
});

test('of many runs the newest are drawn, those that run, and the best', () => {
  const order = Array.from({ length: 1000 }, (_, i) => `r${i}`);
  const newest = order.slice(-MOST_RUNS);
  assert.deepEqual([...runsToDraw(order, run => run === 'r7', 'r3')], ['r3', 'r7', ...newest]);
  assert.deepEqual([...runsToDraw(order, () => true)], newest);
  assert.equal(runsToDraw(newest, () => false).size, MOST_RUNS);
});
