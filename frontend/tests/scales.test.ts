import assert from 'node:assert/strict';
import { test } from 'node:test';

import { brushed, dimensionsOf, toAxis } from '../src/pure/dimensions.ts';
import type { IRunValues } from '../src/pure/dimensions.ts';
import { formatDuration } from '../src/pure/duration.ts';
import { linearTicks, logTicks, scaleOf } from '../src/pure/scales.ts';

test('linear ticks are round numbers in the range', () => {
  assert.deepEqual(linearTicks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(linearTicks(-3, 12, 4), [0, 5, 10]);
  assert.deepEqual(linearTicks(0.1, 0.3, 3), [0.1, 0.2, 0.3]);
  assert.deepEqual(linearTicks(2, 2, 3), [2]);
});

test('logarithmic ticks are powers of ten, or between them if there is room', () => {
  assert.deepEqual(logTicks(1e-4, 1, 5), [1e-4, 1e-3, 1e-2, 0.1, 1]);
  assert.deepEqual(logTicks(1, 100, 8), [1, 2, 5, 10, 20, 50, 100]);
  assert.deepEqual(logTicks(1e-12, 1, 4), [1e-12, 1e-9, 1e-6, 1e-3, 1]);
});

test('a logarithmic scale of less than a factor of two has linear ticks', () => {
  assert.deepEqual(logTicks(0.81, 0.89, 4), [0.82, 0.84, 0.86, 0.88]);
});

test('there are never many more ticks than asked for', () => {
  for (const [min, max] of [
    [1e-30, 1e30],
    [0.9, 1.1],
    [3, 5e7]
  ] as const) {
    for (const count of [2, 5, 9]) {
      assert.ok(logTicks(min, max, count).length <= 2 * count + 1);
      assert.ok(linearTicks(min, max, count).length <= 2 * count + 1);
    }
  }
});

test('the scale follows from the values', () => {
  assert.equal(scaleOf([1, 2, 3]).kind, 'linear');
  assert.equal(scaleOf([1e-5, 1e-2]).kind, 'log');
  assert.equal(scaleOf([0, 1e-5, 1e-2]).kind, 'linear');
  assert.equal(scaleOf(['adam', 'sgd']).kind, 'category');
  assert.equal(scaleOf([1, 'auto']).kind, 'category');
  assert.equal(scaleOf([true, false]).kind, 'category');
  assert.equal(scaleOf([[64, 64], [128]]).kind, 'category');
  assert.equal(scaleOf([undefined, null]).kind, 'category');
});

test('positions are from 0 to 1, and missing values have none', () => {
  const log = scaleOf([1e-4, 1e-2, 1]);
  assert.deepEqual([1e-4, 1e-2, 1].map(log.position), [0, 0.5, 1]);
  assert.equal(log.label(0.5), '0.01');
  for (const value of [undefined, null, 'NaN', 'text']) {
    assert.equal(log.position(value), undefined);
  }
  const category = scaleOf(['b', 'a', 'c']);
  assert.deepEqual(['a', 'b', 'c'].map(category.position), [0, 0.5, 1]);
  assert.equal(scaleOf([5]).position(5), 0.5);
});

test('few values are ticks themselves', () => {
  const labels = scaleOf([16, 32, 64, 32])
    .ticks(6)
    .map(({ label }) => label);
  assert.deepEqual(labels, ['16', '32', '64']);
});

const runs: IRunValues[] = [
  {
    id: 'a',
    name: 'a',
    config: { lr: 0.1, seed: 1 },
    metrics: { loss: { last: 3, min: 1, max: 5 } }
  },
  {
    id: 'b',
    name: 'b',
    config: { lr: 0.2, seed: 1 },
    metrics: { loss: { last: 2, min: 2, max: 9 } }
  },
  { id: 'c', name: 'c', config: { lr: 0.3, seed: 1, depth: 2 }, metrics: {} }
];

test('the axes are the configuration that differs, and the metrics', () => {
  assert.deepEqual(
    dimensionsOf(runs).map(({ id }) => id),
    ['config.lr', 'config.depth', 'metrics.loss']
  );
});

test('a key and a metric of the same name are told apart', () => {
  const config = runs.map((run, i) => ({
    ...run,
    config: { lr: i },
    metrics: { lr: { last: i } }
  }));
  assert.deepEqual(
    dimensionsOf(config).map(({ id, label }) => [id, label]),
    [
      ['config.lr', 'config.lr'],
      ['metrics.lr', 'metrics.lr']
    ]
  );
  assert.deepEqual(
    dimensionsOf(runs).map(({ label }) => label),
    ['lr', 'depth', 'loss']
  );
});

test('the value of a metric is the best one', () => {
  const [loss] = dimensionsOf(runs).filter(({ kind }) => kind === 'metric');
  assert.ok(loss);
  assert.deepEqual(toAxis(runs, loss).values, [1, 2, undefined]);
  assert.deepEqual(toAxis(runs, loss, () => 'max').values, [5, 9, undefined]);
  assert.deepEqual(toAxis(runs, loss, () => undefined).values, [3, 2, undefined]);
});

test('runs are in all ranges, and those without a value in none', () => {
  const axes = dimensionsOf(runs).map(dimension => toAxis(runs, dimension));
  assert.deepEqual(brushed(3, axes, new Map()), [0, 1, 2]);
  const upper = new Map([['config.lr', { low: 0.4, high: 1 }]]);
  assert.deepEqual(brushed(3, axes, upper), [1, 2]);
  upper.set('metrics.loss', { low: 0, high: 1 });
  assert.deepEqual(brushed(3, axes, upper), [1]);
});

test('durations have two units', () => {
  assert.equal(formatDuration(0), '0 s');
  assert.equal(formatDuration(0.25), '0.25 s');
  assert.equal(formatDuration(45), '45 s');
  assert.equal(formatDuration(75), '1 min 15 s');
  assert.equal(formatDuration(3599.9), '1 h');
  assert.equal(formatDuration(3600 * 26), '1 d 2 h');
});
