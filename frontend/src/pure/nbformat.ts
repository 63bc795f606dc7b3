/** Conversion of recorded versions to notebooks that JupyterLab displays. */

import type { ICellOutput, INotebookCell, IVersion } from '../records.ts';

export interface INotebookContent {
  cells: Record<string, unknown>[];
  metadata: Record<string, unknown>;
  nbformat: 4;
  nbformat_minor: 5;
}

/** Convert a version to a notebook of nbformat 4.5. Nothing in it is trusted: no script in an output runs. */
export function toNotebook(version: IVersion): INotebookContent {
  const { kernel, language } = version.metadata;
  return {
    cells: version.cells.map(toCell),
    metadata: {
      ...(kernel === undefined ? {} : { kernelspec: { name: kernel, display_name: kernel } }),
      // Before their first run, some notebooks do not name it; without, nothing is highlighted.
      language_info: { name: language ?? 'python' }
    },
    nbformat: 4,
    nbformat_minor: 5
  };
}

function toCell(cell: INotebookCell): Record<string, unknown> {
  const shared = {
    id: cell.id,
    source: cell.source,
    metadata: removeTrust(cell.metadata),
    ...(cell.attachments === undefined ? {} : { attachments: cell.attachments })
  };
  if (cell.cell_type !== 'code') {
    return { ...shared, cell_type: cell.nbformat_type === 'raw' ? 'raw' : 'markdown' };
  }
  return {
    ...shared,
    cell_type: 'code',
    execution_count: cell.execution_count ?? null,
    outputs: cell.outputs.map(toOutput)
  };
}

function toOutput(output: ICellOutput): Record<string, unknown> {
  switch (output.output_type) {
    case 'stream':
      return { output_type: 'stream', name: output.name ?? 'stdout', text: output.text ?? '' };
    case 'error':
      return {
        output_type: 'error',
        ename: output.error_name ?? '',
        evalue: output.error_value ?? '',
        traceback: output.traceback ?? []
      };
    default:
      return {
        output_type: output.output_type,
        data: output.data ?? {},
        metadata: removeTrust(output.metadata ?? {}),
        ...(output.output_type === 'execute_result'
          ? { execution_count: output.execution_count ?? null }
          : {})
      };
  }
}

/** Remove the mark that makes JupyterLab run scripts. */
function removeTrust(metadata: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(metadata).filter(([name]) => name !== 'trusted'));
}

/** Longest text of an output, and largest size of other data, that is displayed: in characters. */
const MAX_TEXT = 200_000;
const MAX_DATA = 20_000_000;

/** Return outputs without what would block the page; `describe` returns the text that takes the place of some characters. */
export function limitOutputs(
  outputs: readonly ICellOutput[],
  describe: (characters: number) => string
): ICellOutput[] {
  return outputs.map(output => {
    const { text = '' } = output;
    if (text.length > MAX_TEXT) {
      const rest = describe(text.length - MAX_TEXT);
      return { ...output, text: `${text.slice(0, MAX_TEXT)}\n${rest}\n` };
    }
    if (typeof output.data !== 'object' || output.data === null) {
      return output;
    }
    const sizes = Object.entries(output.data).map(([mime, value]) => ({
      mime,
      value: value as unknown,
      size: sizeOf(value)
    }));
    const small = sizes.filter(
      ({ mime, size }) => size <= (mime.startsWith('text/') ? MAX_TEXT : MAX_DATA)
    );
    const data =
      small.length > 0 || sizes.length === 0
        ? Object.fromEntries(small.map(({ mime, value }) => [mime, value]))
        : { 'text/plain': describe(Math.max(...sizes.map(({ size }) => size))) };
    return { ...output, data };
  });
}

function sizeOf(value: unknown): number {
  return typeof value === 'string' ? value.length : JSON.stringify(value).length;
}

/** Return the file name of a copy of a notebook: `train-version-2026-11-30_0249.ipynb`. */
export function copyName(name: string, time: Date, count: number): string {
  const stem = name.replace(/\.ipynb$/, '');
  const two = (number: number): string => String(number).padStart(2, '0');
  const day = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join('-');
  const minute = two(time.getHours()) + two(time.getMinutes());
  const suffix = count > 1 ? `-${count}` : '';
  return `${stem}-version-${day}_${minute}${suffix}.ipynb`;
}
