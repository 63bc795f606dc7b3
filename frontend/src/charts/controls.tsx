/** The controls of charts of metrics. */

import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import { MAX_SMOOTHING } from '../pure/smoothing.ts';
import { Chooser } from './chooser.tsx';

export type ChartAxis = 'step' | 'epoch' | 'time';

export interface IChartSettings {
  metrics: readonly string[];
  axis: ChartAxis;
  /** Weight of earlier values, 0 to 0.99. */
  smoothing: number;
  log: boolean;
}

export interface IChartControlsProps {
  settings: IChartSettings;
  /** All metrics. */
  metrics: readonly string[];
  axes: readonly ChartAxis[];
  onChange: (settings: IChartSettings) => void;
  trans: TranslationBundle;
  /** Further controls. */
  children?: React.ReactNode;
}

export function ChartControls({
  settings,
  metrics,
  axes,
  onChange,
  trans,
  children
}: IChartControlsProps): React.ReactElement {
  const { axis, smoothing, log } = settings;
  const chosen = metrics.filter(metric => settings.metrics.includes(metric));
  const change = (changed: Partial<IChartSettings>): void => onChange({ ...settings, ...changed });
  const labels: Record<ChartAxis, string> = {
    step: trans.__('by step'),
    epoch: trans.__('by epoch'),
    time: trans.__('by time')
  };
  return (
    <div className="axon-ChartControls" role="group" aria-label={trans.__('Charts')}>
      <Chooser
        label={trans.__('Metrics')}
        text={
          chosen.length === 1 && chosen[0] !== undefined
            ? chosen[0]
            : trans.__('%1 metrics', chosen.length)
        }
        options={metrics.map(metric => ({ value: metric, label: metric }))}
        chosen={chosen}
        onChange={chosen => change({ metrics: chosen })}
        trans={trans}
      />
      <HTMLSelect
        aria-label={trans.__('Over')}
        value={axis}
        options={axes.map(value => ({ value, label: labels[value] }))}
        onChange={event => change({ axis: event.target.value as ChartAxis })}
      />
      <label title={trans.__('Weight of earlier values in the moving average')}>
        <span className="axon-ChartControls-label">{trans.__('smoothing')}</span>
        <input
          type="range"
          min={0}
          max={MAX_SMOOTHING}
          step={0.01}
          value={smoothing}
          onChange={event => change({ smoothing: Number(event.target.value) })}
        />
        <output>{smoothing.toFixed(2)}</output>
      </label>
      <label title={trans.__('Logarithmic scale')}>
        <input
          type="checkbox"
          checked={log}
          onChange={event => change({ log: event.target.checked })}
        />
        {trans.__('log')}
      </label>
      {children}
    </div>
  );
}

/** Return the label and the kind of an axis. */
export function chartAxis(
  trans: TranslationBundle,
  axis: ChartAxis
): { label: string; kind: 'number' | 'duration' } {
  switch (axis) {
    case 'step':
      return { label: trans.__('step'), kind: 'number' };
    case 'epoch':
      return { label: trans.__('epoch'), kind: 'number' };
    case 'time':
      return { label: trans.__('time'), kind: 'duration' };
  }
}
