/** A status as a badge. */

import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import type { CellStatus, NotebookStatus } from '../records.ts';
import { statusWord } from './words.ts';

interface IStatusProps {
  status: NotebookStatus | CellStatus;
  trans: TranslationBundle;
}

/** A dot and the word. */
export function StatusBadge({ status, trans }: IStatusProps): React.ReactElement {
  return (
    <span className="axon-Status" data-status={status}>
      <span className="axon-Status-dot" aria-hidden="true" />
      {statusWord(trans, status)}
    </span>
  );
}

/** The dot alone; the word is there for screen readers and on hover. */
export function StatusDot({ status, trans }: IStatusProps): React.ReactElement {
  const word = statusWord(trans, status);
  return (
    <span className="axon-Status" data-status={status} role="img" aria-label={word} title={word}>
      <span className="axon-Status-dot" />
    </span>
  );
}
