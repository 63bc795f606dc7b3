import assert from 'node:assert/strict';
import { test } from 'node:test';

import { toNotebook } from '../src/pure/nbformat.ts';
import type { IVersion } from '../src/records.ts';

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
