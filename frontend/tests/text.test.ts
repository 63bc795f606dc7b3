import assert from 'node:assert/strict';
import { test } from 'node:test';

import { direction } from '../src/pure/direction.ts';
import {
  defaultMetric,
  flatten,
  formatBytes,
  formatNumber,
  isMinimized
} from '../src/pure/metrics.ts';
import { toNotebook } from '../src/pure/nbformat.ts';
import { hasState, restoreLine, withImport } from '../src/pure/python.ts';
import { diffLines } from '../src/pure/textdiff.ts';

test('metrics are flattened, exact names win over paths, non-finite numbers are parsed', () => {
  assert.deepEqual(
    flatten({ loss: 1, val: { loss: 2 }, 'val.loss': 3, note: 'x', bad: 'Infinity', list: [1] }),
    { loss: 1, 'val.loss': 3, bad: Infinity }
  );
  assert.deepEqual(flatten(null), {});
  assert.deepEqual(flatten({ note: 'constructor' }), {});
});

test('numbers are formatted briefly', () => {
  assert.equal(formatNumber(0.251349), '0.2513');
  assert.equal(formatNumber(1.2e-7), '1.20e-7');
  assert.equal(formatNumber(42), '42');
  assert.equal(formatNumber(NaN), 'NaN');
  assert.equal(formatBytes(1_400_000_000), '1.4 GB');
  assert.equal(formatBytes(512), '512 B');
});

test('the default metric is the preferred one, else a validation loss; losses are minimized', () => {
  assert.equal(defaultMetric(['accuracy', 'loss', 'val_loss']), 'val_loss');
  assert.equal(defaultMetric(['accuracy', 'loss'], 'accuracy'), 'accuracy');
  assert.equal(defaultMetric(['accuracy'], 'missing'), 'accuracy');
  assert.ok(isMinimized('val_loss'));
  assert.ok(!isMinimized('val_accuracy'));
});

test('only unambiguous names have a direction', () => {
  const directions = (names: string): unknown[] => names.split(' ').map(direction);
  for (const found of directions(
    'val_loss train/loss_ce mean_squared_error top1_error nll neg_log_likelihood'
  )) {
    assert.equal(found, 'min');
  }
  for (const found of directions(
    'BinaryAccuracy bleu-4 mAP50 mIoU top_5 neg_mean_squared_error roc_auc_score'
  )) {
    assert.equal(found, 'max');
  }
  const ambiguous =
    'neg_recall loss_scale accuracy_drop error_free perplexity_ratio 1-accuracy -loss lr top_k ' +
    'val_loss/train_loss best_loss_epoch acc-loss time';
  for (const found of directions(ambiguous)) {
    assert.equal(found, undefined);
  }
});

test('a diff keeps the lines that both texts have', () => {
  const lines = diffLines('a\nb\nc\nd', 'a\nx\nc\nd\ne');
  assert.deepEqual(
    lines.map(({ kind, text }) => `${kind[0] ?? ''}${text}`),
    ['sa', 'rb', 'ax', 'sc', 'sd', 'ae']
  );
  assert.deepEqual(
    lines.map(({ before }) => before),
    [1, 2, undefined, 3, 4, undefined]
  );
});

test('very different texts are shown as replaced', () => {
  const many = (name: string): string =>
    Array.from({ length: 6000 }, (_, i) => `${name}${i}`).join('\n');
  const lines = diffLines(`same\n${many('a')}`, `same\n${many('b')}`);
  assert.equal(lines.filter(({ kind }) => kind === 'same').length, 0);
  assert.equal(lines.at(-1)?.text, 'b5999');
  assert.equal(lines.at(-1)?.after, 6001);
});

test('a diff with an empty text contains all of the other text', () => {
  assert.deepEqual(
    diffLines('', 'a\nb').map(({ kind }) => kind),
    ['added', 'added']
  );
  assert.deepEqual(diffLines('', ''), []);
});

test('the import is added only if it is missing', () => {
  const line = 'axon.get("0b6f").restore(model)';
  assert.equal(withImport(line, ['import jupyter_axon_notebooks as axon\nx = 1']), line);
  assert.equal(withImport(line, ['x = 1']), `import jupyter_axon_notebooks as axon\n\n${line}`);
});

test('only stored states are restored', () => {
  const id = '0b6f';
  const both = { id, model_state_path: 'm', optimizer_state_path: 'o' };
  assert.equal(restoreLine(both), 'axon.get("0b6f").restore(model, optimizer)');
  assert.equal(restoreLine({ id, model_state_path: 'm' }), 'axon.get("0b6f").restore(model)');
  assert.equal(restoreLine({ id, model_state_path: '' }), undefined);
  const restoreAfter = (source: string): string | undefined => restoreLine(both, ['x = 1', source]);
  assert.match(
    restoreAfter('axon.checkpoint(net, self.adam, epoch=1)') ?? '',
    /restore\(net, self\.adam\)$/
  );
  assert.match(restoreAfter('axon.checkpoint(net, optimizer=adam)') ?? '', /restore\(net, adam\)$/);
  assert.match(
    restoreAfter('axon.checkpoint(net, epoch=epoch)') ?? '',
    /restore\(net, optimizer\)$/
  );
  assert.match(
    restoreAfter('axon.checkpoint(None, metrics={})') ?? '',
    /restore\(model, optimizer\)$/
  );
  assert.ok(hasState(both, 'optimizer'));
  assert.ok(!hasState({ id, model_state_path: 'm' }, 'optimizer'));
});

test('a version becomes a notebook that JupyterLab can show', () => {
  const notebook = toNotebook({
    id: 'v',
    notebook_id: 'n',
    created_at: '',
    cell_count: 3,
    metadata: { kernel: 'python3', language: 'python', tags: [], extra: {} },
    cells: [
      {
        id: 'a',
        cell_type: 'code',
        source: '1/0',
        status: 'error',
        execution_count: 3,
        metadata: {},
        outputs: [
          { output_type: 'stream', text: 'hi' },
          {
            output_type: 'error',
            error_name: 'ZeroDivisionError',
            error_value: 'x',
            traceback: []
          },
          { output_type: 'execute_result', data: { 'text/plain': '1' }, execution_count: 3 }
        ]
      },
      { id: 'b', cell_type: 'markdown', source: '# x', status: 'idle', metadata: {}, outputs: [] },
      {
        id: 'c',
        cell_type: 'markdown',
        nbformat_type: 'raw',
        source: 'x',
        status: 'idle',
        metadata: {},
        outputs: []
      }
    ]
  });
  assert.deepEqual(
    notebook.cells.map(cell => cell['cell_type']),
    ['code', 'markdown', 'raw']
  );
  const outputs = notebook.cells[0]?.['outputs'] as Record<string, unknown>[];
  assert.equal(outputs[0]?.['name'], 'stdout');
  assert.equal(outputs[1]?.['ename'], 'ZeroDivisionError');
  assert.equal(outputs[2]?.['execution_count'], 3);
});
