import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { IFilterNames } from '../src/pure/where.ts';
import {
  applySuggestion,
  complete,
  configName,
  errorRange,
  errorReason,
  indexOf,
  metricName
} from '../src/pure/where.ts';

const NAMES: IFilterNames = {
  config: ['lr', 'model.depth', 'lr schedule'],
  metrics: ['loss', 'val_loss', 'val-acc', 'train/loss', 'status'],
  tags: ['baseline', 'wide'],
  valuesOf: name =>
    name === 'status' ? ['running', 'failed'] : name === 'config.lr' ? [0.1, 0.01] : []
};

/** Complete at the end of a text or at `|`. */
function options(text: string): string[] {
  const at = text.indexOf('|');
  return complete(text.replace('|', ''), at < 0 ? text.length : at, NAMES).options.map(
    option => option.text
  );
}

test('names are completed by prefix, then by part', () => {
  assert.deepEqual(options('val').slice(0, 2), ['val_loss', 'metrics["val-acc"]']);
  assert.equal(options('lr')[0], 'config.lr');
  assert.ok(options('loss').includes('val_loss'));
  assert.deepEqual(options('config.mo'), ['config.model.depth']);
  assert.deepEqual(options('config.lr'), ['config["lr schedule"]']);
  assert.deepEqual(options('config.').slice(2), ['config["lr schedule"]']);
});

test('after and, or, not and a parenthesis comes a name', () => {
  for (const text of ['loss < 1 and ', 'loss < 1 or ', 'not ', '(']) {
    assert.equal(options(text)[0], 'status', text);
  }
  assert.deepEqual(options('loss < 1 and (val_l'), ['val_loss', 'val_loss.min', 'val_loss.max']);
});

test('after a name come operators that fit it', () => {
  assert.deepEqual(options('status '), ['==', '!=', 'in', 'not in']);
  assert.ok(options('config.lr ').includes('<='));
  assert.deepEqual(options('"baseline" '), ['in', 'not in', '==', '!=']);
});

test('after an operator come values that runs have', () => {
  assert.deepEqual(options('status == '), ['"running"', '"failed"']);
  assert.deepEqual(options('status == "f'), ['"failed"']);
  assert.deepEqual(options('config.lr < '), ['0.1', '0.01', 'None']);
  assert.deepEqual(options('archived == '), ['True', 'False']);
  assert.deepEqual(options('status in ["running", '), ['"running"', '"failed"']);
});

test('tags are offered as a whole comparison', () => {
  assert.deepEqual(options('basel'), ['"baseline" in tags']);
  assert.equal(options('"baseline" in ')[0], 'tags');
});

test('after a comparison come and and or', () => {
  assert.deepEqual(options('loss < 1 '), ['and', 'or']);
  assert.deepEqual(options('"wide" in tags '), ['and', 'or']);
  assert.deepEqual(options('(loss < 1) '), ['and', 'or']);
});

test('the word at the cursor is replaced, not the rest', () => {
  const { from, to } = complete('sta == "failed"', 3, NAMES);
  assert.deepEqual([from, to], [0, 3]);
  assert.deepEqual(options('sta| == "failed"').slice(0, 2), ['status', 'started_at']);
});

test('names that are no identifiers are quoted', () => {
  assert.equal(metricName('val-acc'), 'metrics["val-acc"]');
  assert.equal(metricName('train/loss'), 'train/loss');
  assert.equal(metricName('val.loss'), 'val.loss');
  assert.equal(metricName('status'), 'metrics["status"]');
  assert.equal(metricName('loss.min'), 'metrics["loss.min"]');
  assert.equal(metricName('lambda'), 'metrics["lambda"]');
  assert.equal(configName('model.depth'), 'config.model.depth');
  assert.equal(configName('lr schedule'), 'config["lr schedule"]');
});

test('an error is about the token at its position', () => {
  assert.deepEqual(errorRange('config.lrr < 1', 0), [0, 10]);
  assert.deepEqual(errorRange('loss < 1 && lr > 2', 9), [9, 11]);
  assert.deepEqual(errorRange('loss < ', 7), [5, 6]);
  const text = 'name == "😀😀" and lrr < 1';
  assert.equal(text.slice(indexOf(text, 17)), 'lrr < 1');
  assert.equal(indexOf('loss', 4), 4);
});

test('a suggestion replaces what the error is about', () => {
  assert.equal(applySuggestion('config.lrr < 1', 0, 'config.lr'), 'config.lr < 1');
  assert.equal(applySuggestion('val - acc < 1', 0, 'metrics["val-acc"]'), 'metrics["val-acc"] < 1');
  assert.equal(applySuggestion('tags == "a"', 8, '"a" in tags'), '"a" in tags');
  assert.equal(applySuggestion('status == "faild"', 10, 'failed'), 'status == "failed"');
  assert.equal(applySuggestion('loss', 0, 'loss != None'), 'loss != None');
});

test('of a message of the server, the reason remains', () => {
  assert.equal(
    errorReason("where: no run has 'lrr'; did you mean config.lr? (at position 1, 'lrr < 1')"),
    "no run has 'lrr'"
  );
  assert.equal(errorReason('where: expected a comparison (at the end)'), 'expected a comparison');
});
