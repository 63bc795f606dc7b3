/** The choice of what best means: a metric and a direction, the same for curves and table. */

import { Button, HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import { isMinimized } from '../pure/metrics.ts';
import { usePanel } from './context.ts';

export function MeasureSelect(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { checkpoints } = model;
  const { measure } = checkpoints;
  if (measure === undefined) {
    return null;
  }
  const { metric, minimize } = measure;
  const said = minimize
    ? trans.__('Lower %1 is better; switch', metric)
    : trans.__('Higher %1 is better; switch', metric);
  return (
    <span className="axon-Measure">
      <HTMLSelect
        aria-label={trans.__('Metric')}
        value={metric}
        options={checkpoints.metrics.map(value => ({ value }))}
        onChange={event => {
          const { value } = event.target;
          checkpoints.judgeBy({ metric: value, minimize: isMinimized(value) });
        }}
      />
      <Button
        minimal
        small
        title={said}
        aria-label={said}
        onClick={() => {
          checkpoints.judgeBy({ metric, minimize: !minimize });
        }}
      >
        {minimize ? trans.__('↓ lower') : trans.__('↑ higher')}
      </Button>
    </span>
  );
}
