/** The choice of the metric to plot and to rank checkpoints by. */

import { Button, HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import { usePanel } from './context.tsx';

export function RankingSelect(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { checkpoints } = model;
  if (checkpoints.ranking === undefined) {
    return null;
  }
  const { metric, minimize } = checkpoints.ranking;
  const text = minimize ? trans.__('↓ min') : trans.__('↑ max');
  const label = minimize
    ? trans.__('Lower %1 is better; switch', metric)
    : trans.__('Higher %1 is better; switch', metric);
  return (
    <span className="axon-Ranking">
      <HTMLSelect
        aria-label={trans.__('Metric')}
        value={metric}
        options={checkpoints.allMetrics.map(value => ({ value }))}
        onChange={event => {
          const { value } = event.target;
          checkpoints.rankBy(checkpoints.rankingOf(value));
        }}
      />
      <Button
        minimal
        small
        className="axon-Ranking-direction"
        title={label}
        aria-label={`${text}: ${label}`}
        onClick={() => checkpoints.rankBy({ metric, minimize: !minimize })}
      >
        {text}
      </Button>
    </span>
  );
}
