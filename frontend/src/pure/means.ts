/** The mean of the curves of several runs, with a band of the standard deviation. */

import type { IPoints, IRange } from './curve.ts';
import { isDrawable, lowerBound, valueAt } from './curve.ts';
import { aggregate } from './runs.ts';
import { smooth } from './smoothing.ts';

/** Number of points of a mean; a chart is hardly wider in pixels. */
const MAX_POINTS = 500;
/** Half the width in pixels of the band of a point without neighbours. */
const BAR = 3;
/** On a logarithmic scale, a border of a band that is below this part of the mean does not extend the axis. */
const LOWEST_PART = 0.1;

/** What is known of the runs at each x of their mean. */
export interface ISpread {
  /** Standard deviation (of the sample), as in the table of runs; 0 where only one run has a value. */
  deviation: readonly number[];
  /** Number of runs that have a value. */
  count: readonly number[];
}

export interface IMean extends IPoints {
  /** The curves of the runs. */
  runs: readonly IPoints[];
  /** Missing for a single run. */
  spread?: ISpread;
}

/**
 * Return the mean of curves at each x of them, or at 500 of these if there are more.
 *
 * Between two of its points, a run has the values of the line. It does not count before its first point, after its last
 * one, and where a value is missing or not finite. Where no run counts, the mean has a gap.
 */
export function meanOf(runs: readonly IPoints[]): IMean {
  const [only] = runs;
  if (only !== undefined && runs.length === 1) {
    return { x: only.x, y: only.y, runs };
  }
  const x = gridOf(runs);
  const found = x.map(at => aggregate(runs.map(run => valueAt(run, at, false))));
  return {
    x,
    y: found.map(values => values?.mean ?? null),
    runs,
    spread: {
      deviation: found.map(values => values?.deviation || 0), // NaN for one run
      count: found.map(values => values?.count ?? 0)
    }
  };
}

/** Return the mean of curves that are smoothed, at the same x as `meanOf`. */
export function smoothedMean(runs: readonly IPoints[], weight: number): IMean {
  return meanOf(runs.map(({ x, y }) => ({ x, y: smooth(y, weight) })));
}

/** Return the x of a mean: those of the runs, and one in each part that no run covers, so that no line crosses it. */
function gridOf(runs: readonly IPoints[]): number[] {
  const all = Float64Array.from(new Set(runs.flatMap(({ x }) => x))).sort();
  const count = Math.min(all.length, MAX_POINTS);
  const grid = Array.from(
    { length: count },
    (_, index) => all[Math.round((index * (all.length - 1)) / Math.max(count - 1, 1))] ?? 0
  );
  return grid.flatMap((at, index) => {
    const middle = ((grid[index - 1] ?? at) + at) / 2;
    const isCovered = index === 0 || runs.some(run => valueAt(run, middle, false) !== undefined);
    return isCovered ? [at] : [middle, at];
  });
}

/** Return the curves that the axis of a chart has to show for a band: its borders. */
export function bordersOf(
  { x, y }: IPoints,
  { deviation }: ISpread,
  log: boolean
): readonly IPoints[] {
  return [1, -1].map(sign => ({
    x,
    y: y.map((value, index) => {
      const border = value === null ? null : value + sign * (deviation[index] ?? 0);
      return log && (border ?? 0) < LOWEST_PART * (value ?? 0) ? null : border;
    })
  }));
}

/**
 * Return the parts of a band between gaps as polygons in pixels.
 *
 * @param bottom - The least value of the axis. On a logarithmic scale, the band ends there.
 */
export function bandPolygons(
  { x, y }: IPoints,
  { deviation }: ISpread,
  range: IRange,
  bottom: number,
  log: boolean,
  toX: (value: number) => number,
  toY: (value: number) => number
): (readonly [number, number])[][] {
  const from = Math.max(lowerBound(x, range.min) - 1, 0);
  const to = Math.min(lowerBound(x, range.max) + 1, x.length);
  const polygons: (readonly [number, number])[][] = [];
  let upper: (readonly [number, number])[] = [];
  let lower: (readonly [number, number])[] = [];
  const flush = (): void => {
    const [[left, top] = [0, 0], [, low] = [0, 0]] = [upper[0], lower[0]];
    if (upper.length === 1) {
      polygons.push([
        [left - BAR, top],
        [left + BAR, top],
        [left + BAR, low],
        [left - BAR, low]
      ]);
    } else if (upper.length > 1) {
      polygons.push([...upper, ...lower.reverse()]);
    }
    upper = [];
    lower = [];
  };
  for (let index = from; index < to; index++) {
    const value = y[index];
    const size = deviation[index] ?? 0;
    if (!isDrawable(value, log) || !Number.isFinite(size)) {
      flush();
      continue;
    }
    const left = toX(x[index] ?? 0);
    upper.push([left, toY(value + size)]);
    lower.push([left, toY(log ? Math.max(value - size, bottom) : value - size)]);
  }
  flush();
  return polygons;
}
