/** Curves of the series that the server returns. */

import type { ILoggedSeries } from '../records.ts';
import type { IPoints } from './curve.ts';

export type SeriesAxis = 'step' | 'time';

/** By run and metric. */
export type SeriesOfRuns = Readonly<Record<string, Readonly<Record<string, ILoggedSeries>>>>;

/**
 * Return a series as points of a chart; x is the step, or the number of seconds since the start of the run.
 *
 * @param startedAt - The start of the run in milliseconds. A resumed run has earlier points, of its parents; then the
 * first of them counts.
 */
export function toPoints(series: ILoggedSeries, axis: SeriesAxis, startedAt: number): IPoints {
  const y = series.value.map(value => (typeof value === 'number' ? value : null));
  if (axis === 'step') {
    return sorted({ x: series.step, y });
  }
  const start = Math.min(startedAt / 1000, series.time[0] ?? Infinity);
  return sorted({ x: series.time.map(time => time - start), y });
}

/** Return points in the order of x, as steps can be logged in any order of time. */
function sorted(points: IPoints): IPoints {
  const { x, y } = points;
  if (x.every((value, index) => index === 0 || (x[index - 1] ?? 0) <= value)) {
    return points;
  }
  const order = x.map((_, index) => index).sort((a, b) => (x[a] ?? 0) - (x[b] ?? 0));
  return { x: order.map(index => x[index] ?? 0), y: order.map(index => y[index] ?? null) };
}

/** Return new series with the objects of those that have not changed, so that nothing is computed for them again. */
export function keepUnchanged(before: SeriesOfRuns, after: SeriesOfRuns): SeriesOfRuns {
  const entries = Object.entries(after).map(([run, metrics]) => {
    const kept = Object.entries(metrics).map(([metric, series]): [string, ILoggedSeries] => {
      const old = before[run]?.[metric];
      return [metric, old !== undefined && isSame(old, series) ? old : series];
    });
    return [run, Object.fromEntries(kept)] as const;
  });
  return Object.fromEntries(entries);
}

function isSame(a: ILoggedSeries, b: ILoggedSeries): boolean {
  const columns = [
    [a.step, b.step],
    [a.value, b.value],
    [a.time, b.time]
  ] as const;
  return columns.every(
    ([old, now]) => old.length === now.length && old.every((value, index) => value === now[index])
  );
}
