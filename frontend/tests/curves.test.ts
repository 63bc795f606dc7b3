import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  allMetrics,
  CurveCache,
  groupByRun,
  MAX_RUNS,
  metricsToDraw,
  pointsOf,
  runsToDraw
} from '../src/pure/curves.ts';
import type { ICheckpointRow } from '../src/pure/rows.ts';
import type { ILoggedSeries, IRun } from '../src/records.ts';

function row(runId: string, epoch: number, step: number, loss: number): ICheckpointRow {
  const id = `${runId}-${epoch}-${step}`;
  return { id, runId, epoch, step, createdAt: `2026-01-01T00:00:${10 + step}Z`, metrics: { loss } };
}

function group(rows: readonly ICheckpointRow[]): readonly ICheckpointRow[] {
  return groupByRun(rows, new Map()).get('a') ?? [];
}

const START = Date.parse('2026-01-01T00:00:10Z');

test('a curve of checkpoints has the values of its run in the order of the axis', () => {
  const rows = group([row('a', 2, 3, 2), row('b', 1, 2, 3), row('a', 0, 1, 4)]);
  const source = { logged: undefined, rows, startedAt: START };
  assert.deepEqual(pointsOf('loss', 'step', source), { x: [1, 3], y: [4, 2] });
  assert.deepEqual(pointsOf('loss', 'epoch', source), { x: [0, 2], y: [4, 2] });
  assert.deepEqual(pointsOf('loss', 'time', source), { x: [1, 3], y: [4, 2] });
  assert.deepEqual(pointsOf('accuracy', 'step', source), { x: [], y: [] });
});

test('the last step of an epoch counts, regardless of the order of the rows', () => {
  for (const rows of [
    [row('a', 0, 2, 3), row('a', 0, 1, 4)],
    [row('a', 0, 1, 4), row('a', 0, 2, 3)]
  ]) {
    const source = { logged: undefined, rows: group(rows), startedAt: undefined };
    assert.deepEqual(pointsOf('loss', 'epoch', source), { x: [0], y: [3] });
  }
});

test('a value that cannot be drawn leaves a gap', () => {
  const rows = group([row('a', 0, 0, 1), row('a', 1, 1, NaN), row('a', 2, 2, Infinity)]);
  const source = { logged: undefined, rows, startedAt: undefined };
  assert.deepEqual(pointsOf('loss', 'step', source).y, [1, null, null]);
});

test('the curve of a resumed run begins at the checkpoint that it was resumed from', () => {
  const parent = row('a', 1, 10, 0.5);
  const groups = groupByRun([parent, row('b', 2, 20, 0.4)], new Map([['b', parent]]));
  assert.deepEqual(
    groups.get('b')?.map(({ step }) => step),
    [10, 20]
  );
});

test('logged values are drawn by step, by time since the start, and by epochs of checkpoints', () => {
  const logged: ILoggedSeries = {
    step: [0, 5, 10, 20],
    value: [4, 3, 2, 'NaN'],
    time: [0, 5, 10, 20].map(seconds => START / 1000 + seconds)
  };
  const rows = group([row('a', 0, 0, 9), row('a', 1, 10, 9)]);
  const source = { logged, rows, startedAt: START };
  assert.deepEqual(pointsOf('loss', 'step', source), { x: [0, 5, 10, 20], y: [4, 3, 2, null] });
  assert.deepEqual(pointsOf('loss', 'time', source).x, [0, 5, 10, 20]);
  assert.deepEqual(pointsOf('loss', 'epoch', source).x, [0, 0.5, 1, 2]);
});

test('curves and groups that have not changed are the same objects', () => {
  const cache = new CurveCache();
  const rows = [row('a', 0, 0, 1), row('b', 0, 0, 2)];
  const get = (all: readonly ICheckpointRow[], run: string): object => {
    const groups = cache.group(all, new Map());
    const source = { logged: undefined, rows: groups.get(run) ?? [], startedAt: START };
    return cache.get(run, 'loss', 'step', source);
  };
  const [a, b] = [get(rows, 'a'), get(rows, 'b')];
  cache.prune();
  const more = [...rows, row('b', 1, 1, 1)];
  assert.equal(get(more, 'a'), a);
  assert.notEqual(get(more, 'b'), b);
});

test('metrics of checkpoints come first, and those of the system last', () => {
  const runs = [{ metrics: { 'system/cpu': {}, loss: {}, grad: {} } }] as unknown as IRun[];
  assert.deepEqual(allMetrics(['loss'], runs), ['loss', 'grad', 'system/cpu']);
  assert.deepEqual(metricsToDraw(['acc', 'lr', 'loss', 'system/cpu'], 'loss', 4), ['loss', 'acc']);
  assert.deepEqual(metricsToDraw(['acc', 'f1', 'loss'], 'loss', 2), ['loss', 'acc']);
  assert.deepEqual(metricsToDraw([], undefined, 2), []);
});

test('of many runs the newest ones, running ones and the best one are drawn', () => {
  const order = Array.from({ length: MAX_RUNS + 20 }, (_, i) => `r${i}`);
  const drawn = runsToDraw(order, run => run === 'r3' || run === 'r49', 'r7');
  assert.equal(drawn.size, MAX_RUNS + 2);
  assert.ok(drawn.has('r3') && drawn.has('r7') && !drawn.has('r4'));
  assert.equal(runsToDraw(order, () => true).size, MAX_RUNS);
  assert.equal(runsToDraw(order, () => false, undefined, order.length).size, order.length);
});
