import assert from 'node:assert/strict';
import { test } from 'node:test';

import { keepUnchanged, toPoints } from '../src/pure/series.ts';

const series = { step: [0, 10, 20], value: [3, 'NaN', 1] as const, time: [100, 105, 110] };

test('values that are not numbers are gaps', () => {
  assert.deepEqual(toPoints(series, 'step', 0), { x: [0, 10, 20], y: [3, null, 1] });
});

test('times are counted from the start of the run', () => {
  assert.deepEqual(toPoints(series, 'time', 98_000).x, [2, 7, 12]);
});

test('times of a resumed run are counted from its first value', () => {
  assert.deepEqual(toPoints(series, 'time', 109_000).x, [0, 5, 10]);
});

test('points are in the order of x', () => {
  const mixed = { step: [10, 0], value: [1, 2], time: [5, 6] };
  assert.deepEqual(toPoints(mixed, 'step', 0), { x: [0, 10], y: [2, 1] });
});

test('series that have not changed remain the same objects', () => {
  const before = { run: { loss: series, acc: series } };
  const grown = { step: [0, 10, 20, 30], value: [3, 'NaN', 1, 2] as const, time: [1, 2, 3, 4] };
  const after = keepUnchanged(before, { run: { loss: { ...series }, acc: grown } });
  assert.equal(after['run']?.['loss'], series);
  assert.equal(after['run']['acc'], grown);
});
