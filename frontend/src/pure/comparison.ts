/** Differences between values: which one is better, and which keys differ. */

import type { IRunValues } from './dimensions.ts';
import { dimensionValue } from './dimensions.ts';
import type { Direction } from './direction.ts';
import { direction as directionByName } from './direction.ts';
import { toNumber } from './metrics.ts';

export type Verdict = 'better' | 'worse';

/** Return whether a value of a metric is better than another; undefined if equal or the direction is unknown. */
export function verdict(
  metric: string,
  before: unknown,
  after: unknown,
  directionOf: Direction = directionByName
): Verdict | undefined {
  const [old, now] = [toNumber(before), toNumber(after)];
  const direction = directionOf(metric);
  if (old === undefined || now === undefined || direction === undefined || !(old !== now)) {
    return undefined;
  }
  if (Number.isNaN(old) || Number.isNaN(now)) {
    return undefined;
  }
  return now < old === (direction === 'min') ? 'better' : 'worse';
}

export interface IComparedRow {
  name: string;
  /** In the order of the runs; undefined where a run has none. */
  values: unknown[];
}

/** Return the values of the configuration of runs: keys that differ, and keys that all have in common. */
export function compareConfigs(runs: readonly IRunValues[]): {
  differing: IComparedRow[];
  equal: IComparedRow[];
} {
  const names = [...new Set(runs.flatMap(({ config }) => Object.keys(config)))];
  const rows = names.map(name => ({ name, values: runs.map(({ config }) => config[name]) }));
  const isEqual = ({ values: [first, ...others] }: IComparedRow): boolean =>
    others.every(other => JSON.stringify(other) === JSON.stringify(first));
  return { differing: rows.filter(row => !isEqual(row)), equal: rows.filter(isEqual) };
}

export interface IComparedMetric extends IComparedRow {
  /** Indices of the runs with the best value; empty if the direction is unknown or all are equal. */
  best: number[];
}

/** Return the best value (or the last one if the direction is unknown) of each metric and run. */
export function compareMetrics(
  runs: readonly IRunValues[],
  directionOf: Direction = directionByName
): IComparedMetric[] {
  const names = [...new Set(runs.flatMap(({ metrics }) => Object.keys(metrics)))];
  return names.map(name => {
    const values = runs.map(run => dimensionValue(run, { name, kind: 'metric' }, directionOf));
    return { name, values, best: bestIndices(values, directionOf(name)) };
  });
}

function bestIndices(values: readonly unknown[], direction: 'min' | 'max' | undefined): number[] {
  const numbers = values.flatMap(value => toNumber(value) ?? []);
  if (direction === undefined || new Set(numbers).size < 2) {
    return [];
  }
  const best = Math[direction](...numbers);
  return values.flatMap((value, index) => (toNumber(value) === best ? index : []));
}

export interface IValueChangeOfRun {
  name: string;
  before?: unknown;
  after?: unknown;
}

/** Return the values that differ from those of the first run in at least one other; null for a run with no data. */
export function alignChanges(
  changes: readonly (readonly IValueChangeOfRun[] | null | undefined)[]
): IComparedRow[] {
  const rows = new Map<string, IComparedRow>();
  changes.forEach((list, index) => {
    for (const { name, before, after } of list ?? []) {
      if (JSON.stringify(before) === JSON.stringify(after)) {
        continue;
      }
      let row = rows.get(name);
      if (row === undefined) {
        // Runs without a change have the value of the first one.
        const values = changes.map(other =>
          other === null || other === undefined ? null : before
        );
        row = { name, values: [before, ...values] };
        rows.set(name, row);
      }
      row.values[index + 1] = after;
    }
  });
  return [...rows.values()];
}
