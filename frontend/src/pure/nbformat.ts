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
