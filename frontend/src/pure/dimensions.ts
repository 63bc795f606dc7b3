/** Configuration and metrics of runs as axes. */

import type { Direction } from './direction.ts';
import { direction } from './direction.ts';
import { formatNumber, toNumber } from './metrics.ts';
import type { IMetricExtremes } from './runs.ts';
import { collectNames, metricValue, resolveStatistic } from './runs.ts';
import type { IScale } from './scales.ts';
import { scaleOf } from './scales.ts';

/** What is needed of a run. */
export interface IRunValues {
  id: string;
  name: string;
  config: Readonly<Record<string, unknown>>;
  metrics: Readonly<Record<string, IMetricExtremes>>;
}

/** A configuration key or a metric. */
export interface IDimension {
  /** `config.lr` or `metrics.loss`. */
  id: string;
  name: string;
  /** The name, or the id if a key and a metric have the same name. */
  label: string;
  kind: 'config' | 'metric';
}

/** An axis: a dimension with the values of the runs, in their order. */
export interface IAxis extends IDimension {
  values: readonly unknown[];
  scale: IScale;
}

/** Return the configuration keys whose values differ, then the metrics; the most frequent first. */
export function dimensionsOf(runs: readonly IRunValues[]): IDimension[] {
  const { config, differing, metrics } = collectNames(runs);
  const keys = config.filter(key => differing.has(key));
  const ambiguous = new Set(keys.filter(key => metrics.includes(key)));
  const toDimension = (kind: IDimension['kind'], prefix: string, name: string): IDimension => {
    const id = `${prefix}.${name}`;
    return { id, name, label: ambiguous.has(name) ? id : name, kind };
  };
  return [
    ...keys.map(key => toDimension('config', 'config', key)),
    ...metrics.map(name => toDimension('metric', 'metrics', name))
  ];
}

/** Return the value of a run: of a metric the best one, or the last one if its direction is unknown. */
export function dimensionValue(
  run: IRunValues,
  { kind, name }: Pick<IDimension, 'kind' | 'name'>,
  directionOf: Direction = direction
): unknown {
  return kind === 'config'
    ? run.config[name]
    : metricValue(run, name, resolveStatistic(name, 'best', directionOf));
}

export function toAxis(
  runs: readonly IRunValues[],
  dimension: IDimension,
  directionOf: Direction = direction
): IAxis {
  const values = runs.map(run => dimensionValue(run, dimension, directionOf));
  return { ...dimension, values, scale: scaleOf(values) };
}

/** Return a value as text; an empty text if it is missing. */
export function valueText(value: unknown): string {
  if (value === undefined || value === null) {
    return '';
  }
  const number = toNumber(value);
  if (number !== undefined) {
    return formatNumber(number);
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The part of an axis that is selected, from 0 to 1. */
export interface IBrush {
  low: number;
  high: number;
}

/** Return the indices of the runs that are within all brushes (by axis id). */
export function brushed(
  count: number,
  axes: readonly IAxis[],
  brushes: ReadonlyMap<string, IBrush>
): number[] {
  const active = axes.flatMap(({ id, values, scale }) => {
    const brush = brushes.get(id);
    return brush === undefined ? [] : { values, scale, brush };
  });
  return Array.from({ length: count }, (_, index) => index).filter(index =>
    active.every(({ values, scale, brush }) => {
      const position = scale.position(values[index]);
      return position !== undefined && position >= brush.low && position <= brush.high;
    })
  );
}
