import assert from 'node:assert/strict';
import { test } from 'node:test';

import { copyName, limitOutputs, toNotebook } from '../src/pure/nbformat.ts';
import type { ICellOutput, IVersion } from '../src/records.ts';

for (const mark of [true, 1, 'True', { a: 1 }]) {
  test(`a version is not trusted, even if its metadata say ${JSON.stringify(mark)}`, () => {
    const metadata = { trusted: mark, tags: ['t'] };
    const output = { output_type: 'display_data', data: { 'text/html': '<script>' }, metadata };
    const cell = { id: 'a', source: 'x', status: 'idle', outputs: [output], metadata };
    const version = {
      id: 'v',
      notebook_id: 'n',
      created_at: '',
      cell_count: 2,
      cells: [
        { ...cell, cell_type: 'code' },
        { ...cell, cell_type: 'markdown' }
      ],
      metadata: { tags: [], extra: { nbformat: { metadata } } }
    } as unknown as IVersion;
    const shown = JSON.stringify(toNotebook(version));
    assert.ok(!shown.includes('trusted'));
    assert.equal(shown.split('"tags":["t"]').length - 1, 3);
  });
}

const describe = (characters: number): string => `${characters} more`;

test('long text of an output is cut, and the rest is counted', () => {
  const [short, long] = limitOutputs(
    [100, 300_000].map(length => ({ output_type: 'stream', text: 'x'.repeat(length) })),
    describe
  );
  assert.equal(short?.text?.length, 100);
  assert.match(long?.text ?? '', /x\n100000 more\n$/);
});

test('of an output in several formats, the ones that are too large are left out', () => {
  const table: ICellOutput = {
    output_type: 'execute_result',
    data: { 'text/html': 'x'.repeat(300_000), 'text/plain': 'table' }
  };
  const page = { ...table, data: { 'text/html': 'x'.repeat(300_000) } };
  const image = { ...table, data: { 'image/png': 'x'.repeat(300_000) } };
  assert.deepEqual(
    limitOutputs([table, page], describe).map(({ data }) => data),
    [{ 'text/plain': 'table' }, { 'text/plain': '300000 more' }]
  );
  assert.deepEqual(limitOutputs([image], describe), [image]);
});

test('a copy is named after the notebook and the time of the version', () => {
  const time = new Date(2026, 2, 7, 9, 5);
  assert.equal(copyName('train.ipynb', time, 1), 'train-version-2026-03-07_0905.ipynb');
  assert.equal(copyName('a.b', time, 2), 'a.b-version-2026-03-07_0905-2.ipynb');
});
