/** Texts in place of the table and the curves if there are no checkpoints. */

import * as React from 'react';

import { CHECKPOINT_EXAMPLE } from '../pure/python.ts';
import { usePanel } from './context.tsx';

export function NoCheckpoints(): React.ReactElement | null {
  const { model, trans } = usePanel();
  if (model.summary === undefined) {
    return null;
  }
  if (!model.checkpoints.isLoaded) {
    return <p className="axon-Hint">{trans.__('Loading checkpoints…')}</p>;
  }
  return (
    <div className="axon-Empty">
      <p>{trans.__('No checkpoints yet. Add this to your training loop:')}</p>
      <pre tabIndex={0}>{CHECKPOINT_EXAMPLE}</pre>
    </div>
  );
}

export function NoCurves(): React.ReactElement | null {
  const { model, trans } = usePanel();
  if (model.summary === undefined) {
    return null;
  }
  const { isLoaded, rows } = model.checkpoints;
  return (
    <p className="axon-Hint">
      {!isLoaded
        ? trans.__('Loading checkpoints…')
        : rows.length === 0
          ? trans.__('The metrics of your checkpoints are plotted here, one curve per run.')
          : trans.__('No checkpoint has a metric with a number.')}
    </p>
  );
}
