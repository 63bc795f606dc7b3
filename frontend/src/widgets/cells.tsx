/** The section with the cells as they were last saved. */

import * as React from 'react';

import { CommandIDs } from '../ids.ts';
import { usePanel } from './context.tsx';
import { StatusDot } from './status.tsx';

export function Cells(): React.ReactElement | null {
  const { model, trans, commands } = usePanel();
  if (model.record?.cells === undefined) {
    return null;
  }
  return (
    <ol className="axon-Cells" aria-label={trans.__('Cells')}>
      {model.record.cells.map((cell, index) => (
        <li key={cell.id}>
          <button
            type="button"
            title={trans.__('Go to cell %1', index + 1)}
            onClick={() => void commands.execute(CommandIDs.goToCell, { cell: cell.id })}
          >
            <span className="axon-Cells-number">{index + 1}</span>
            {cell.cell_type === 'code' ? (
              <StatusDot status={cell.status} trans={trans} />
            ) : (
              <span className="axon-Cells-text" title={trans.__('Text')} aria-hidden="true">
                ¶
              </span>
            )}
            <span className="axon-Cells-count">
              {cell.cell_type === 'code' && `[${cell.execution_count ?? ' '}]`}
            </span>
            <code>{cell.source.trimStart().split('\n', 1)[0]}</code>
          </button>
        </li>
      ))}
    </ol>
  );
}
