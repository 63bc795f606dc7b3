import assert from 'node:assert/strict';
import { test } from 'node:test';

import { configText } from '../src/pure/config.ts';

test('a configuration is shown by dotted keys, in its own order', () => {
  const config = { lr: 0.1 + 0.2, model: { layers: [64, 64], name: 'wide' }, seed: null };
  assert.equal(configText(config), 'lr=0.3, model.layers=[64,64], model.name=wide, seed=null');
  assert.equal(configText({}), '');
});

test('a large configuration is cut', () => {
  const long = 'x'.repeat(1_000_000);
  const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`key ${i}`, i]));
  for (const config of [many, { [long]: long }, { a: many, b: many }, { list: [long, long] }]) {
    const text = configText(config);
    assert.ok(text.length <= 400, text);
  }
});
