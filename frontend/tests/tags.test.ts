import assert from 'node:assert/strict';
import { test } from 'node:test';

import { changeTags, countTags, splitTags } from '../src/pure/tags.ts';

test('tags are counted, the most frequent first', () => {
  const counts = countTags([['b', 'a'], ['a', 'a'], []]);
  assert.deepEqual(
    [...counts],
    [
      ['a', 2],
      ['b', 1]
    ]
  );
});

test('a change adds and removes tags and keeps the others in their order', () => {
  assert.deepEqual(changeTags(['x', 'y'], { add: ['z', 'x'], remove: ['y'] }), ['x', 'z']);
  assert.equal(changeTags(['x'], { add: ['x'], remove: ['y'] }), undefined);
});

test('commas separate tags', () => {
  assert.deepEqual(splitTags(' a, b c ,,a'), ['a', 'b c']);
});
