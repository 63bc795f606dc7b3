/** Rows as curves: one a run, on one axis. */

import type { IRow } from './rows.ts';

export type Axis = 'epoch' | 'step';

export interface ICurves {
  /** Ascending; epochs or steps. */
  x: number[];
  /** By run; null where a run has no point, so that the curve goes on over it. */
  y: Map<string, (number | null)[]>;
  /** Points that cannot be drawn: NaN, infinities, and on a logarithmic scale what is not above 0. */
  left: number;
}

export interface ICurvesOptions {
  metric: string;
  axis: Axis;
  log: boolean;
  /** The checkpoint that a run was resumed from: its curve begins there. */
  parents: ReadonlyMap<string, IRow>;
}

/** The curves of a metric. Of several checkpoints of a run at one x the last in (epoch, step) counts. */
export function curves(rows: readonly IRow[], options: ICurvesOptions): ICurves {
  const { metric, axis, log } = options;
  let left = 0;
  const points = new Map<string, Map<number, IRow>>();
  const add = (runId: string, row: IRow): void => {
    const value = row.metrics[metric];
    if (value === undefined) {
      return;
    }
    if (!Number.isFinite(value) || (log && value <= 0)) {
      left += 1;
      return;
    }
    let run = points.get(runId);
    if (run === undefined) {
      run = new Map<number, IRow>();
      points.set(runId, run);
    }
    const there = run.get(row[axis]);
    if (there === undefined || isLater(row, there)) {
      run.set(row[axis], row);
    }
  };
  for (const row of rows) {
    add(row.runId, row);
  }
  for (const [runId, parent] of options.parents) {
    const run = points.get(runId);
    if (run !== undefined && !run.has(parent[axis])) {
      add(runId, parent);
    }
  }
  const x = [...new Set([...points.values()].flatMap(run => [...run.keys()]))].sort(
    (a, b) => a - b
  );
  const y = new Map<string, (number | null)[]>();
  for (const [runId, run] of points) {
    y.set(
      runId,
      x.map(at => run.get(at)?.metrics[metric] ?? null)
    );
  }
  return { x, y, left };
}

function isLater(a: IRow, b: IRow): boolean {
  const ahead = a.epoch - b.epoch || a.step - b.step;
  return ahead === 0 ? a.createdAt >= b.createdAt : ahead > 0;
}

/** A run's curve in words and numbers, for whoever cannot see it. */
export interface ICurveSummary {
  points: number;
  first: number;
  last: number;
  least: number;
  most: number;
}

export function summarize(values: readonly (number | null)[]): ICurveSummary | undefined {
  const found = values.filter(value => value !== null);
  const [first] = found;
  const last = found.at(-1);
  if (first === undefined || last === undefined) {
    return undefined;
  }
  let least = first;
  let most = first;
  for (const value of found) {
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  return { points: found.length, first, last, least, most };
}
