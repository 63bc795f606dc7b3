import assert from 'node:assert/strict';
import { test } from 'node:test';

import { bestRun, bestValue, differingKeys, flattenConfig } from '../src/pure/summary.ts';
import { similarNames } from '../src/pure/similar.ts';
import type { IRun } from '../src/records.ts';

function run(id: string, min: number | 'NaN', max: number): IRun {
  const loss = { last: 0, last_step: 9, min, min_step: 3, max, max_step: 0 };
  return { id, metrics: { loss } } as unknown as IRun;
}

test('the best value has its run and its step', () => {
  const runs = [run('a', 0.5, 2), run('b', 0.4, 1), run('c', 'NaN', 0)];
  const lower = { metric: 'loss', minimize: true };
  const best = bestRun(runs, lower);
  assert.deepEqual([best?.run.id, best?.value, best?.step], ['b', 0.4, 3]);
  assert.equal(bestRun(runs, { ...lower, minimize: false })?.run.id, 'a');
  assert.equal(bestValue(run('c', 'NaN', 0), lower), undefined);
  assert.equal(bestRun(runs, { metric: 'other', minimize: true }), undefined);
});

test('only the configuration that differs is listed, nested values by dotted names', () => {
  const configs = [
    { lr: 0.1, model: { depth: 2, width: 8 }, seed: 1 },
    { lr: 0.2, model: { depth: 2, width: 8 } },
    { lr: 0.1, model: { depth: 2, width: 16 }, seed: 1 }
  ].map(flattenConfig);
  assert.deepEqual(differingKeys(configs), ['lr', 'model.width', 'seed']);
  assert.deepEqual(differingKeys(configs.slice(0, 1)), []);
  assert.deepEqual(differingKeys([]), []);
});

test('similar names have few other letters, or contain the name', () => {
  const names = ['val_loss', 'train_loss', 'accuracy', 'epoch'];
  assert.deepEqual(similarNames('val_los', names), ['val_loss']);
  assert.deepEqual(similarNames('loss', names), ['val_loss', 'train_loss']);
  assert.deepEqual(similarNames('epcoh', names), []);
  assert.deepEqual(similarNames('epohc', ['epoch']), []);
  assert.deepEqual(similarNames('zzz', names), []);
});
