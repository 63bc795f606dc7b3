/** The curves of a metric, one per run, on a common axis. */

import type { ICheckpointRow } from './rows.ts';

export type Axis = 'epoch' | 'step';

export interface ICurves {
  /** Ascending; epochs or steps. */
  x: number[];
  /** By run; undefined for no point (the curve continues), null for a value that cannot be drawn (a gap). */
  y: Map<string, (number | null | undefined)[]>;
  /** By run; without the checkpoint from which it was resumed. */
  summaries: Map<string, ICurveSummary>;
  /** Number of values that cannot be drawn: not finite, or not positive on a logarithmic scale. */
  skipped: number;
}

/** A curve in numbers, for users who cannot see it. */
export interface ICurveSummary {
  points: number;
  /** May be a value that cannot be drawn, unlike the others. */
  last: number;
  min: number;
  max: number;
}

export interface ICurvesOptions {
  metric: string;
  axis: Axis;
  log: boolean;
  /** The checkpoints from which runs were resumed: there their curves begin. */
  parents: ReadonlyMap<string, ICheckpointRow>;
}

interface IPoint {
  row: ICheckpointRow;
  value: number;
}

/** Return the curves of a metric. Of several checkpoints of a run at one x, the last in (epoch, step) counts. */
export function toCurves(rows: readonly ICheckpointRow[], options: ICurvesOptions): ICurves {
  const { metric, axis, log } = options;
  const canBeDrawn = (value: number): boolean => Number.isFinite(value) && !(log && value <= 0);
  let skipped = 0;
  const runs = new Map<string, Map<number, IPoint>>();
  for (const row of rows) {
    const value = row.metrics[metric];
    if (value === undefined) {
      continue;
    }
    if (!canBeDrawn(value)) {
      skipped += 1;
    }
    let points = runs.get(row.runId);
    if (points === undefined) {
      points = new Map();
      runs.set(row.runId, points);
    }
    const existing = points.get(row[axis]);
    if (existing === undefined || isLater(row, existing.row)) {
      points.set(row[axis], { row, value });
    }
  }
  const summaries = new Map([...runs].map(([id, points]) => [id, summarize(points, canBeDrawn)]));
  for (const [id, row] of options.parents) {
    const points = runs.get(id);
    const value = row.metrics[metric];
    if (points?.has(row[axis]) === false && value !== undefined && canBeDrawn(value)) {
      points.set(row[axis], { row, value });
    }
  }
  const x = [...new Set([...runs.values()].flatMap(points => [...points.keys()]))].sort(
    (a, b) => a - b
  );
  const indices = new Map(x.map((at, index) => [at, index]));
  const y = new Map<string, (number | null | undefined)[]>();
  for (const [id, points] of runs) {
    const values = new Array<number | null | undefined>(x.length).fill(undefined);
    for (const [at, { value }] of points) {
      values[indices.get(at) ?? -1] = canBeDrawn(value) ? value : null;
    }
    y.set(id, values);
  }
  return { x, y, summaries, skipped };
}

function isLater(a: ICheckpointRow, b: ICheckpointRow): boolean {
  const ahead = a.epoch - b.epoch || a.step - b.step;
  return ahead === 0 ? a.createdAt >= b.createdAt : ahead > 0;
}

function summarize(
  points: ReadonlyMap<number, IPoint>,
  canBeDrawn: (value: number) => boolean
): ICurveSummary {
  const summary = { points: 0, last: NaN, min: NaN, max: NaN };
  let end = -Infinity;
  for (const [at, { value }] of points) {
    if (at > end) {
      end = at;
      summary.last = value;
    }
    if (canBeDrawn(value)) {
      summary.points += 1;
      summary.min = summary.min <= value ? summary.min : value;
      summary.max = summary.max >= value ? summary.max : value;
    }
  }
  return summary;
}

/** Number of the newest runs that are drawn by default, and of running ones besides. */
export const MAX_RUNS = 30;

/** Return the newest runs, the newest of those that are running (some may never end), and the best one. */
export function runsToDraw(
  order: readonly string[],
  isRunning: (runId: string) => boolean,
  best?: string
): ReadonlySet<string> {
  const chosen = new Set([...order.slice(-MAX_RUNS), ...order.filter(isRunning).slice(-MAX_RUNS)]);
  return new Set(order.filter(run => chosen.has(run) || run === best));
}
