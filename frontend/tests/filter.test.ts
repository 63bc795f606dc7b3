import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { IFilterNames } from '../src/pure/filter.ts';
import { parseFilter, sizeOf } from '../src/pure/filter.ts';
import type { ICheckpointRow } from '../src/pure/rows.ts';
import type { ICheckpoint, IRun } from '../src/records.ts';

let count = 0;

function createRow(
  epoch: number,
  metrics: Record<string, number>,
  fields: Partial<ICheckpoint> = {}
): ICheckpointRow {
  count += 1;
  const detail = { tags: [], pinned: false, model_state_path: '', ...fields } as unknown;
  return {
    id: `abcd-${count}`,
    runId: fields.run_id ?? '',
    epoch,
    step: epoch * 10,
    createdAt: '2026-01-01T00:00:00Z',
    metrics,
    detail: detail as ICheckpoint
  };
}

const ROWS = [
  createRow(1, { val_loss: 0.5 }, { tags: ['Paper'], pinned: true, run_id: 'a' }),
  createRow(2, { val_loss: 0.2 }, { run_id: 'b', model_state_path: 'm', sizes: { model: 2e6 } }),
  createRow(3, { 'eval loss': 1 }, { tags: ['best so far'] })
];
const NAMES: IFilterNames = {
  metrics: ['val_loss', 'eval loss'],
  tags: ['Paper', 'best so far'],
  runs: new Map([
    ['a', { id: 'a', number: 1 } as IRun],
    ['b', { id: 'b', number: 12, name: 'wide net' } as IRun]
  ])
};

function epochs(filter: string): number[] {
  const { matches, error } = parseFilter(filter, NAMES);
  assert.equal(error, undefined);
  return ROWS.filter(row => matches?.(row) ?? true).map(({ epoch }) => epoch);
}

test('words match tags, pins and ids; all must match', () => {
  assert.deepEqual(epochs(''), [1, 2, 3]);
  assert.deepEqual(epochs('  '), [1, 2, 3]);
  assert.deepEqual(epochs('paper'), [1]);
  assert.deepEqual(epochs('PINNED'), [1]);
  assert.deepEqual(epochs('"best so"'), [3]);
  assert.deepEqual(epochs('tag:paper'), [1]);
  assert.deepEqual(epochs('tag!=paper'), [2, 3]);
  assert.deepEqual(epochs('abcd-2'), [2]);
  assert.deepEqual(epochs('nothing'), []);
  assert.deepEqual(epochs('paper and pinned'), [1]);
});

test('comparisons have metrics, positions and sizes', () => {
  assert.deepEqual(epochs('epoch:3'), [3]);
  assert.deepEqual(epochs('epoch: 3'), [3]);
  assert.deepEqual(epochs('epoch>=2'), [2, 3]);
  assert.deepEqual(epochs('step == 20'), [2]);
  assert.deepEqual(epochs('val_loss<0.3'), [2]);
  assert.deepEqual(epochs('VAL_LOSS < 3e-1'), [2]);
  assert.deepEqual(epochs('val_loss<=0.5 pinned'), [1]);
  assert.deepEqual(epochs('val_loss != 0.5'), [2]);
  assert.deepEqual(epochs('eval loss>0'), [3]);
  assert.deepEqual(epochs('size>1.5MB'), [2]);
  assert.deepEqual(epochs('size<1kb'), []);
});

test('a run is found by its number or name, and not by a part of them', () => {
  assert.deepEqual(epochs('run:1'), [1]);
  assert.deepEqual(epochs('run=12'), [2]);
  assert.deepEqual(epochs('run:"Wide Net"'), [2]);
  assert.deepEqual(epochs('run!=1'), [2, 3]);
});

test('an invalid filter says what is wrong, where, and what may be meant', () => {
  const cases: [filter: string, kind: string, position: number, suggestions: string[]][] = [
    ['val_los<0.3', 'unknown name', 0, ['val_loss<0.3']],
    ['pinned vall_loss<0.3', 'unknown name', 7, ['pinned val_loss<0.3', 'pinned eval loss<0.3']],
    ['colour:red', 'unknown name', 0, []],
    ['val_loss<', 'no value', 9, []],
    ['epoch:', 'no value', 6, []],
    ['epoch', 'no operator', 0, []],
    ['val_loss', 'no operator', 0, []],
    ['<0.3', 'no name', 0, []],
    ['val_loss<small', 'no number', 9, []],
    ['epoch:1e', 'no number', 6, []],
    ['run<3', 'no order', 0, []],
    ['run:wide', 'unknown run', 4, ['run:"wide net"']],
    ['run:undefined', 'unknown run', 4, []],
    ['"best', 'unclosed quote', 0, ['"best"']],
    ['paper or pinned', 'unsupported word', 6, []]
  ];
  for (const [filter, kind, position, suggestions] of cases) {
    const { error, matches } = parseFilter(filter, NAMES);
    assert.equal(matches, undefined, filter);
    assert.deepEqual([error?.kind, error?.position], [kind, position], filter);
    assert.deepEqual(
      error?.suggestions.map(one => one.filter),
      suggestions,
      filter
    );
  }
});

test('the size on disk is that of existing state files', () => {
  assert.deepEqual(ROWS.map(sizeOf), [undefined, 2e6, undefined]);
});
