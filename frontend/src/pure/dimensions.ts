/** Configuration and metrics of runs as axes. */

import { direction } from './direction.ts';
import { formatNumber, toNumber } from './metrics.ts';
import type { IScale } from './scales.ts';
import { scaleOf } from './scales.ts';

/** What is needed of a run. */
export interface IRunValues {
  id: string;
  name: string;
  config: Readonly<Record<string, unknown>>;
  metrics: Readonly<Record<string, IMetricExtremes>>;
}

export interface IMetricExtremes {
  last?: unknown;
  min?: unknown;
  max?: unknown;
}

/** Returns whether the least or the greatest value of a metric is the best. */
export type Direction = (metric: string) => 'min' | 'max' | undefined;

/** A configuration key or a metric. */
export interface IDimension {
  /** `config.lr` or `metrics.loss`. */
  id: string;
  name: string;
  kind: 'config' | 'metric';
}

/** An axis: a dimension with the values of the runs, in their order. */
export interface IAxis extends IDimension {
  values: readonly unknown[];
  scale: IScale;
}

/** Return the configuration keys whose values differ, then the metrics; the most frequent first. */
export function dimensionsOf(runs: readonly IRunValues[]): IDimension[] {
  const config = new Map<string, { count: number; first: unknown; differs: boolean }>();
  const metrics = new Map<string, number>();
  for (const run of runs) {
    for (const [key, value] of Object.entries(run.config)) {
      const known = config.get(key);
      if (known === undefined) {
        config.set(key, { count: 1, first: value, differs: false });
      } else {
        known.count += 1;
        known.differs ||= !isSameValue(known.first, value);
      }
    }
    for (const name of Object.keys(run.metrics)) {
      metrics.set(name, (metrics.get(name) ?? 0) + 1);
    }
  }
  const keys = [...config]
    .filter(([, { differs, count }]) => differs || count < runs.length)
    .sort(([, a], [, b]) => b.count - a.count);
  const names = [...metrics].sort(([, a], [, b]) => b - a);
  return [
    ...keys.map(([name]): IDimension => ({ id: `config.${name}`, name, kind: 'config' })),
    ...names.map(([name]): IDimension => ({ id: `metrics.${name}`, name, kind: 'metric' }))
  ];
}

function isSameValue(a: unknown, b: unknown): boolean {
  return a === b || (typeof a === 'object' && JSON.stringify(a) === JSON.stringify(b));
}

/** Return the value of a run: of a metric the best one, or the last one if its direction is unknown. */
export function dimensionValue(
  run: IRunValues,
  { kind, name }: IDimension,
  directionOf: Direction = direction
): unknown {
  if (kind === 'config') {
    return run.config[name];
  }
  const value = toNumber(run.metrics[name]?.[directionOf(name) ?? 'last']);
  return value === undefined || Number.isNaN(value) ? undefined : value;
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
