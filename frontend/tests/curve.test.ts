import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  countPoints,
  extentOf,
  nearestIndex,
  padRange,
  summarizeCurve,
  trace,
  valueAt,
  valueRange
} from '../src/pure/curve.ts';
import type { IPoints, IRange } from '../src/pure/curve.ts';

/** Return what is drawn as text, with x and y as pixels. */
function draw(points: IPoints, range: IRange, log = false): string {
  const steps: string[] = [];
  trace(
    points,
    range,
    log,
    x => x,
    y => y,
    {
      moveTo: (x, y) => steps.push(`M${x},${y}`),
      lineTo: (x, y) => steps.push(`L${x},${y}`),
      dot: (x, y) => steps.push(`.${x},${y}`)
    }
  );
  return steps.join(' ');
}

const all = { min: 0, max: 100 };

test('a curve is a line, with gaps where a value is missing', () => {
  const points = { x: [0, 10, 20, 30, 40], y: [1, 2, null, 3, 4] };
  assert.equal(draw(points, all), 'M0,1 L10,2 M30,3 L40,4');
});

test('a point between gaps is drawn as a dot', () => {
  const points = { x: [0, 10, 20, 30, 40], y: [1, NaN, 2, null, 3] };
  assert.equal(draw(points, all), '.0,1 .20,2 .40,3');
  assert.equal(draw({ x: [5], y: [1] }, all), '.5,1');
});

test('values that are not positive are gaps on a logarithmic scale', () => {
  const points = { x: [0, 10, 20, 30], y: [1, 2, 0, -1] };
  assert.equal(draw(points, all, true), 'M0,1 L10,2');
});

test('a visible range includes the point before and the point after it', () => {
  const points = { x: [0, 10, 20, 30, 40], y: [1, 2, 3, 4, 5] };
  assert.equal(draw(points, { min: 15, max: 25 }), 'M10,2 L20,3 L30,4');
});

test('many points in a column of pixels are drawn as its least and greatest values', () => {
  const x = Array.from({ length: 10_000 }, (_, index) => index / 1000);
  const y = x.map((_, index) => (index === 5555 ? 99 : index % 7));
  const steps = draw({ x, y }, all).split(' ');
  assert.ok(steps.length <= 10 * 4 + 1, String(steps.length));
  assert.ok(steps.some(step => step.endsWith(',99')));
});

test('the range of values is that of the visible points', () => {
  const points = { x: [0, 1, 2, 3], y: [100, -2, 0.5, 7] };
  assert.deepEqual(valueRange([points], { min: 1, max: 2 }, false), { min: -2, max: 0.5 });
  assert.deepEqual(valueRange([points], { min: 1, max: 2 }, true), { min: 0.5, max: 0.5 });
  assert.equal(valueRange([points], { min: 8, max: 9 }, false), undefined);
});

test('a range gets a margin, also if all values are the same', () => {
  for (const [value, log] of [
    [0, false],
    [3, false],
    [3, true]
  ] as const) {
    const { min, max } = padRange({ min: value, max: value }, log);
    assert.ok(min < value && value < max);
  }
  assert.ok(padRange({ min: 1e-6, max: 1 }, true).min > 0);
});

test('the extent is that of all curves', () => {
  const curves = [
    { x: [3, 9], y: [0, 0] },
    { x: [], y: [] },
    { x: [1], y: [0] }
  ];
  assert.deepEqual(extentOf(curves), { min: 1, max: 9 });
  assert.equal(extentOf([]), undefined);
});

test('the point next to a position is one that can be drawn', () => {
  const points = { x: [0, 10, 20, 30], y: [1, null, 3, 4] };
  assert.equal(nearestIndex(points, 9, false, 1), 0);
  assert.equal(nearestIndex(points, 11, false, 1), 2);
  assert.equal(nearestIndex(points, 30.5, false, 1), 3);
  assert.equal(nearestIndex(points, 40, false, 1), undefined);
});

test('between points, the value is that of the line', () => {
  const points = { x: [0, 10, 20], y: [1, 100, null] };
  assert.equal(valueAt(points, 5, false), 50.5);
  assert.ok(Math.abs((valueAt(points, 5, true) ?? 0) - 10) < 1e-9);
  assert.equal(valueAt(points, 15, false), undefined);
  assert.equal(valueAt(points, 25, false), undefined);
});

test('the points of a range are counted, its ends included', () => {
  const points = { x: [0, 1, 2, 3], y: [0, 0, 0, 0] };
  assert.equal(countPoints(points, { min: 1, max: 3 }), 3);
  assert.equal(countPoints(points, { min: 1.5, max: 2.5 }), 1);
});

test('a curve is summarized by its finite values', () => {
  const points = { x: [0, 1, 2, 3], y: [NaN, 3, null, 1] };
  assert.deepEqual(summarizeCurve(points), { count: 2, first: 3, last: 1, min: 1, max: 3 });
  assert.equal(summarizeCurve({ x: [0], y: [null] }), undefined);
});
