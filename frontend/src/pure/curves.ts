/** Rows as curves: one a run, on one axis. */

import type { IRow } from './rows.ts';

export type Axis = 'epoch' | 'step';

export interface ICurves {
  /** Ascending; epochs or steps. */
  x: number[];
  /** By run; undefined where a run has no point and its curve goes on, null where its value cannot be drawn: a gap. */
  y: Map<string, (number | null | undefined)[]>;
  /** By run: its own points, without the one that it was resumed from. */
  summaries: Map<string, ICurveSummary>;
  /** Points that cannot be drawn: NaN, infinities, and on a logarithmic scale what is not above 0. */
  left: number;
}

/** A run's curve in numbers, for whoever cannot see it. */
export interface ICurveSummary {
  points: number;
  /** May be one that cannot be drawn; the others are of those that can. */
  last: number;
  least: number;
  most: number;
}

export interface ICurvesOptions {
  metric: string;
  axis: Axis;
  log: boolean;
  /** The checkpoint that a run was resumed from: its curve begins there. */
  parents: ReadonlyMap<string, IRow>;
}

/** A point of a curve, and the checkpoint it stands for. */
interface IPoint {
  row: IRow;
  value: number;
}

/** The curves of a metric. Of several checkpoints of a run at one x the last in (epoch, step) counts. */
export function curves(rows: readonly IRow[], options: ICurvesOptions): ICurves {
  const { metric, axis, log } = options;
  const canBeDrawn = (value: number): boolean => Number.isFinite(value) && !(log && value <= 0);
  let left = 0;
  const runs = new Map<string, Map<number, IPoint>>();
  for (const row of rows) {
    const value = row.metrics[metric];
    if (value === undefined) {
      continue;
    }
    if (!canBeDrawn(value)) {
      left += 1;
    }
    let points = runs.get(row.runId);
    if (points === undefined) {
      points = new Map();
      runs.set(row.runId, points);
    }
    const there = points.get(row[axis]);
    if (there === undefined || isLater(row, there.row)) {
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
  const places = new Map(x.map((at, place) => [at, place]));
  const y = new Map<string, (number | null | undefined)[]>();
  for (const [id, points] of runs) {
    const values = new Array<number | null | undefined>(x.length).fill(undefined);
    for (const [at, { value }] of points) {
      values[places.get(at) ?? -1] = canBeDrawn(value) ? value : null;
    }
    y.set(id, values);
  }
  return { x, y, summaries, left };
}

function isLater(a: IRow, b: IRow): boolean {
  const ahead = a.epoch - b.epoch || a.step - b.step;
  return ahead === 0 ? a.createdAt >= b.createdAt : ahead > 0;
}

function summarize(
  points: ReadonlyMap<number, IPoint>,
  canBeDrawn: (value: number) => boolean
): ICurveSummary {
  const summary = { points: 0, last: NaN, least: NaN, most: NaN };
  let end = -Infinity;
  for (const [at, { value }] of points) {
    if (at > end) {
      end = at;
      summary.last = value;
    }
    if (canBeDrawn(value)) {
      summary.points += 1;
      summary.least = summary.least <= value ? summary.least : value;
      summary.most = summary.most >= value ? summary.most : value;
    }
  }
  return summary;
}

/** Runs that are drawn unless more are asked for; so many again of those that run. */
export const MOST_RUNS = 30;

/** Of runs in order the newest, the newest of those that run (some are never said to have ended), and the best one. */
export function runsToDraw(
  order: readonly string[],
  isRunning: (runId: string) => boolean,
  best?: string
): ReadonlySet<string> {
  const chosen = new Set([
    ...order.slice(-MOST_RUNS),
    ...order.filter(isRunning).slice(-MOST_RUNS)
  ]);
  return new Set(order.filter(run => chosen.has(run) || run === best));
}
