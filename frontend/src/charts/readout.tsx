/** The values of one run, and a table of the values of runs for users who cannot see a chart. */

import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { IAxis, IRunValues } from '../pure/dimensions.ts';
import { valueText } from '../pure/dimensions.ts';

/** Number of runs in the table; the table of runs has all. */
const MAX_ROWS = 100;

interface IRunReadoutProps {
  runs: readonly IRunValues[];
  axes: readonly IAxis[];
  /** Index of the run; undefined for none. */
  index: number | undefined;
  /** Shown if there is no run. */
  children?: React.ReactNode;
}

/** A line with the name and the values of a run. */
export function RunReadout({ runs, axes, index, children }: IRunReadoutProps): React.ReactElement {
  const run = index === undefined ? undefined : runs[index];
  return (
    <p className="axon-RunReadout" role="status">
      {run === undefined || index === undefined ? (
        children
      ) : (
        <>
          <strong>{run.name}</strong>
          {axes.map(({ id, label, values }) => (
            <span key={id}>
              <span className="axon-RunReadout-name">{label}</span>{' '}
              {valueText(values[index]) || '–'}
            </span>
          ))}
        </>
      )}
    </p>
  );
}

interface IValuesTableProps {
  caption: string;
  runs: readonly IRunValues[];
  axes: readonly IAxis[];
  trans: TranslationBundle;
}

export const ValuesTable = React.memo(function ValuesTable({
  caption,
  runs,
  axes,
  trans
}: IValuesTableProps): React.ReactElement {
  return (
    <div className="axon-Hidden">
      <table>
        <caption>
          {runs.length > MAX_ROWS
            ? trans.__('%1, the first %2 of %3 runs', caption, MAX_ROWS, runs.length)
            : caption}
        </caption>
        <thead>
          <tr>
            <th scope="col">{trans.__('run')}</th>
            {axes.map(({ id, label }) => (
              <th key={id} scope="col">
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {runs.slice(0, MAX_ROWS).map((run, index) => (
            <tr key={run.id}>
              <th scope="row">{run.name}</th>
              {axes.map(({ id, values }) => (
                <td key={id}>{valueText(values[index])}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
});

interface IColourScaleProps {
  axis: IAxis;
  trans: TranslationBundle;
}

/** The legend of colours that stand for values. */
export function ColourScale({ axis, trans }: IColourScaleProps): React.ReactElement {
  const { label, scale } = axis;
  return (
    <span
      className="axon-ColourScale"
      role="img"
      aria-label={trans.__('Colors: %1 from %2 to %3', label, scale.label(0), scale.label(1))}
    >
      {scale.label(0)}
      <span className="axon-ColourScale-ramp" />
      {scale.label(1)}
    </span>
  );
}

interface IDimensionSelectProps<T extends string> {
  label: string;
  value: T;
  options: readonly { value: T; label: string }[];
  onChange: (value: T) => void;
}

/** A choice of an axis with its label beside it. */
export function DimensionSelect<T extends string>({
  label,
  value,
  options,
  onChange
}: IDimensionSelectProps<T>): React.ReactElement {
  return (
    <label>
      {label}
      <HTMLSelect
        value={value}
        options={[...options]}
        onChange={event => onChange(event.target.value as T)}
      />
    </label>
  );
}
