import assert from 'node:assert/strict';
import { test } from 'node:test';

import { alignChanges, compareConfigs, compareMetrics, verdict } from '../src/pure/comparison.ts';
import type { IRunValues } from '../src/pure/dimensions.ts';

function run(
  id: string,
  config: Record<string, unknown>,
  metrics: Record<string, number> = {}
): IRunValues {
  const entries = Object.entries(metrics).map(([name, value]) => [
    name,
    { last: value, min: value, max: value }
  ]);
  return { id, name: id, config, metrics: Object.fromEntries(entries) as IRunValues['metrics'] };
}

test('whether a value is better follows from the direction of its metric', () => {
  assert.equal(verdict('loss', 2, 1), 'better');
  assert.equal(verdict('loss', 1, 2), 'worse');
  assert.equal(verdict('accuracy', 1, 2), 'better');
  assert.equal(
    verdict('accuracy', 1, 2, () => 'min'),
    'worse'
  );
});

test('equal, missing and undirected values are neither better nor worse', () => {
  assert.equal(verdict('loss', 1, 1), undefined);
  assert.equal(verdict('loss', undefined, 1), undefined);
  assert.equal(verdict('loss', 'NaN', 1), undefined);
  assert.equal(verdict('temperature', 1, 2), undefined);
});

test('configuration is split into what differs and what is equal', () => {
  const { differing, equal } = compareConfigs([
    run('a', { lr: 0.1, layers: [64], seed: 1 }),
    run('b', { lr: 0.2, layers: [64], depth: 2, seed: 1 })
  ]);
  assert.deepEqual(differing, [
    { name: 'lr', values: [0.1, 0.2] },
    { name: 'depth', values: [undefined, 2] }
  ]);
  assert.deepEqual(
    equal.map(({ name }) => name),
    ['layers', 'seed']
  );
});

test('the best runs of a metric are marked unless all are equal', () => {
  const rows = compareMetrics([
    run('a', {}, { loss: 2, acc: 0.5, other: 1 }),
    run('b', {}, { loss: 1, acc: 0.5 }),
    run('c', {}, { loss: 1 })
  ]);
  assert.deepEqual(
    rows.map(({ name, best }) => [name, best]),
    [
      ['loss', [1, 2]],
      ['acc', []],
      ['other', []]
    ]
  );
});

test('a value that one run has not changed is that of the first run', () => {
  const rows = alignChanges([
    [{ name: 'torch', before: '2.1', after: '2.2' }],
    [{ name: 'numpy', before: '1', after: '2' }],
    null
  ]);
  assert.deepEqual(rows, [
    { name: 'torch', values: ['2.1', '2.2', '2.1', null] },
    { name: 'numpy', values: ['1', '1', '2', null] }
  ]);
});
