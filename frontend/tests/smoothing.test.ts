import assert from 'node:assert/strict';
import { test } from 'node:test';

import { smooth } from '../src/pure/smoothing.ts';

test('without a weight, values are the same', () => {
  const values = [1, null, 3];
  assert.equal(smooth(values, 0), values);
});

test('the first value has no bias towards zero', () => {
  const smoothed = smooth([2, 2, 2, 2], 0.9);
  for (const value of smoothed) {
    assert.ok(Math.abs((value ?? NaN) - 2) < 1e-9);
  }
});

test('a value is the weighted mean of those before it', () => {
  // Weights 0.25 and 0.5 of the two values, divided by their sum.
  const [, second] = smooth([0, 3], 0.5);
  assert.equal(second, (0.5 * 3) / 0.75);
});

test('gaps remain and have no influence', () => {
  const smoothed = smooth([1, null, NaN, 3], 0.5);
  assert.equal(smoothed[1], null);
  assert.ok(Number.isNaN(smoothed[2]));
  assert.equal(smoothed[3], smooth([1, 3], 0.5)[1]);
});

test('the weight is limited, so that the average always follows', () => {
  assert.deepEqual(smooth([1, 2, 3], 5), smooth([1, 2, 3], 0.99));
});
