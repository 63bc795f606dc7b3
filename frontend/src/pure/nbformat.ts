/** Cells of a record as a notebook file has them, to be shown. */

import type { ICellOutput, INotebookCell, IVersion } from '../records.ts';

export interface IShownNotebook {
  cells: Record<string, unknown>[];
  metadata: Record<string, unknown>;
  nbformat: 4;
  nbformat_minor: 5;
}

/** A version as a notebook of nbformat 4.5, of which nothing is trusted: no script in an output runs. */
export function toNotebook(version: IVersion): IShownNotebook {
  const { kernel, language } = version.metadata;
  return {
    cells: version.cells.map(toCell),
    metadata: {
      ...(kernel === undefined ? {} : { kernelspec: { name: kernel, display_name: kernel } }),
      ...(language === undefined ? {} : { language_info: { name: language } })
    },
    nbformat: 4,
    nbformat_minor: 5
  };
}

function toCell(cell: INotebookCell): Record<string, unknown> {
  const shared = {
    id: cell.id,
    source: cell.source,
    metadata: untrusted(cell.metadata),
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
        metadata: untrusted(output.metadata ?? {}),
        ...(output.output_type === 'execute_result'
          ? { execution_count: output.execution_count ?? null }
          : {})
      };
  }
}

/** Metadata without the mark that makes JupyterLab run scripts: only the server may set it, and never in a record. */
function untrusted(metadata: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(metadata).filter(([name]) => name !== 'trusted'));
}
