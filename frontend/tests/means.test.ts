import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { IPoints } from '../src/pure/curve.ts';
import { bandPolygons, bordersOf, meanOf, smoothedMean } from '../src/pure/means.ts';
import { aggregate } from '../src/pure/runs.ts';
import { smooth } from '../src/pure/smoothing.ts';

const same = (value: number): number => value;

test('the mean and the deviation are those of the table', () => {
  const runs = [0.1, 0.2, 0.6].map(value => ({ x: [0, 10], y: [value, 2 * value] }));
  const { x, y, spread } = meanOf(runs);
  const first = aggregate([0.1, 0.2, 0.6]);
  assert.deepEqual(x, [0, 10]);
  assert.equal(y[0], first?.mean);
  assert.equal(spread?.deviation[0], first?.deviation);
  assert.deepEqual(spread?.count, [3, 3]);
});

test('runs with other steps count with the values of their lines, and only between their ends', () => {
  const { x, y, spread } = meanOf([
    { x: [0, 10, 20], y: [0, 10, 20] },
    { x: [5, 15], y: [7, 17] }
  ]);
  assert.deepEqual(x, [0, 5, 10, 15, 20]);
  assert.deepEqual(y, [0, 6, 11, 16, 20]);
  assert.deepEqual(spread?.count, [1, 2, 2, 2, 1]);
  assert.deepEqual(
    spread.deviation.map(value => value > 0),
    [false, true, true, true, false]
  );
});

test('values that are missing or not finite do not count, nor does the line to them', () => {
  const { y, spread } = meanOf([
    { x: [0, 2, 4, 5, 6], y: [1, 1, null, 1, NaN] },
    { x: [0, 3, 4, 6], y: [3, 3, 3, 3] }
  ]);
  assert.deepEqual(spread?.count, [2, 2, 1, 1, 2, 1]);
  assert.deepEqual(y, [2, 2, 3, 3, 2, 3]);
});

test('the mean has a gap where no run has values', () => {
  const gap = meanOf([
    { x: [0, 1, 2], y: [1, Infinity, 1] },
    { x: [0, 1, 2], y: [3, null, 3] }
  ]);
  assert.deepEqual(
    gap.y.filter(value => value !== null),
    [2, 2]
  );
  assert.equal(gap.y[gap.x.indexOf(1)], null);
  const apart = meanOf([
    { x: [0, 1], y: [1, 1] },
    { x: [5, 6], y: [3, 3] }
  ]);
  assert.deepEqual(apart.x, [0, 1, 3, 5, 6]);
  assert.deepEqual(apart.y, [1, 1, null, 3, 3]);
});

test('the mean of a single run is its curve, without a band', () => {
  const run = { x: [0, 1], y: [1, null] };
  const mean = meanOf([run]);
  assert.equal(mean.x, run.x);
  assert.equal(mean.y, run.y);
  assert.equal(mean.spread, undefined);
});

test('the mean of long runs has a limited number of points, with the first and the last', () => {
  const runs = [0, 0.5].map(offset => {
    const x = Array.from({ length: 5000 }, (_, index) => index + offset);
    return { x, y: x };
  });
  const { x, y } = meanOf(runs);
  assert.equal(x.length, 500);
  assert.deepEqual([x[0], x.at(-1)], [0, 4999.5]);
  assert.deepEqual(y, x);
});

test('each run is smoothed before the mean', () => {
  const runs = [
    { x: [0, 1, 2], y: [1, 5, 1] },
    { x: [0, 2], y: [3, 9] }
  ];
  const [first, second] = runs.map(({ y }) => smooth(y, 0.5));
  const { x, y } = smoothedMean(runs, 0.5);
  assert.deepEqual(x, meanOf(runs).x);
  assert.equal(y[2], ((first?.[2] ?? 0) + (second?.[1] ?? 0)) / 2);
});

test('a border that is far below the mean does not extend a logarithmic axis', () => {
  const points = { x: [0, 1, 2], y: [1, 1, null] };
  const spread = { deviation: [0.5, 0.95, 0], count: [2, 2, 0] };
  const borders = (log: boolean): unknown => bordersOf(points, spread, log).map(({ y }) => y);
  assert.deepEqual(borders(true), [
    [1.5, 1.95, null],
    [0.5, null, null]
  ]);
  assert.deepEqual(borders(false), [
    [1.5, 1.95, null],
    [0.5, 1 - 0.95, null]
  ]);
});

function polygons(points: IPoints, deviation: number[], log: boolean): unknown {
  const spread = { deviation, count: deviation.map(() => 2) };
  const range = { min: 0, max: 10 };
  return bandPolygons(points, spread, range, 0.25, log, same, same);
}

test('a band has a polygon for each part between gaps, and a bar for a single point', () => {
  assert.deepEqual(polygons({ x: [0, 1, 2, 6], y: [1, 2, null, 5] }, [1, 1, 0, 2], false), [
    [
      [0, 2],
      [1, 3],
      [1, 1],
      [0, 0]
    ],
    [
      [3, 7],
      [9, 7],
      [9, 3],
      [3, 3]
    ]
  ]);
});

test('on a logarithmic scale a band ends at the bottom of the axis', () => {
  assert.deepEqual(polygons({ x: [0, 1], y: [1, 1] }, [2, 0.5], true), [
    [
      [0, 3],
      [1, 1.5],
      [1, 0.5],
      [0, 0.25]
    ]
  ]);
});
