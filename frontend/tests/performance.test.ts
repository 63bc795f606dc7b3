/** No text blocks the page: with these texts, quadratic algorithms would take minutes. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { ICheckpoint } from '../src/records.ts';
import { flatten, isMinimized } from '../src/pure/metrics.ts';
import { restoreLine, withImport } from '../src/pure/python.ts';
import { parseFilter } from '../src/pure/filter.ts';
import { toRow } from '../src/pure/rows.ts';
import { diffLines } from '../src/pure/textdiff.ts';

const LENGTH = 1_000_000;

const UNITS = [
  ...Array.from(' \t\n\r\v\f%!?=;,:./\\\'"()[]{}<>#`$@~_-*0a\0\u00a0\u2028\u0301\ud800'),
  ...['\r\n', ' \n', 'a ', 'a\n', 'a.', 'a=', ' = ', '<=', '1.', 'epoch:', 'run:1 ', 'a<1 ', 'aA'],
  ...['import ', 'import\n', 'import jupyter_axon_notebooks ', 'axon.checkpoint('],
  ...[
    'axon.checkpoint(a,',
    'axon.checkpoint( ',
    'axon.checkpoint(a, optimizer ',
    'axon.checkpoint(a.a '
  ]
];

function* texts(...prefixes: string[]): Generator<string> {
  for (const unit of UNITS) {
    for (const prefix of prefixes) {
      yield `${prefix}${unit.repeat(Math.floor(LENGTH / unit.length))}x`;
    }
  }
}

const CHECKPOINT: ICheckpoint = {
  id: 'c0ffee',
  notebook_id: 'n',
  epoch: 1,
  step: 2,
  metrics: { loss: 1 },
  model_state_path: 'model.pt',
  created_at: '2026-04-16T23:15:00Z'
} as ICheckpoint;

const LIMIT = { timeout: 120_000 };

test('no source of a cell blocks the generation of code', LIMIT, () => {
  for (const text of texts('', 'import ', 'axon.checkpoint(', 'axon.checkpoint(a, ')) {
    assert.match(withImport('x', [text]), /x$/);
    assert.match(restoreLine(CHECKPOINT, [text]) ?? '', /^axon\.get/);
  }
});

test('no query blocks the filter', LIMIT, () => {
  const row = toRow(CHECKPOINT);
  const names = { metrics: ['loss'], tags: ['x'], runs: new Map() };
  for (const text of texts('')) {
    parseFilter(text, names).matches?.(row);
  }
  const spaces = ' '.repeat(100);
  assert.ok(parseFilter(`loss${spaces}=  1 ${spaces} EPOCH : 1`, names).matches?.(row));
});

test('no text blocks a diff or the metrics', LIMIT, () => {
  for (const text of texts('')) {
    const lines = diffLines(text, `${text}\nx`);
    assert.equal(lines.at(-1)?.text, 'x');
    isMinimized(text);
    assert.equal(flatten({ [text]: { [text]: 1 } })[`${text}.${text}`], 1);
  }
  const random = (seed: number): string =>
    Array.from({ length: 100_000 }, (_, i) => ((i * seed) % 7919) % 2).join('\n');
  assert.ok(diffLines(random(31), random(37)).length >= 100_000);
});
