/** Checkpoints as the table and the curves need them. */

import type { ICheckpoint, IRun, IRunSeries } from '../records.ts';
import { flatten, toNumber } from './metrics.ts';

/** The run id of checkpoints without a run. */
export const NO_RUN = '';

/** A checkpoint; `detail` is missing until it is loaded. */
export interface ICheckpointRow {
  id: string;
  runId: string;
  epoch: number;
  step: number;
  createdAt: string;
  metrics: Record<string, number>;
  detail?: ICheckpoint;
}

export function toRow(checkpoint: ICheckpoint): ICheckpointRow {
  return {
    id: checkpoint.id,
    runId: checkpoint.run_id ?? NO_RUN,
    epoch: checkpoint.epoch,
    step: checkpoint.large_step ?? checkpoint.step,
    createdAt: checkpoint.created_at,
    metrics: flatten(checkpoint.metrics),
    detail: checkpoint
  };
}

/** Convert the columns of a run to rows. */
export function toRows(series: IRunSeries): ICheckpointRow[] {
  const columns = Object.entries(series.metrics);
  return series.checkpoint_id.map((id, index) => {
    const metrics: Record<string, number> = {};
    for (const [name, column] of columns) {
      const number = toNumber(column[index]);
      if (number !== undefined) {
        metrics[name] = number;
      }
    }
    return {
      id,
      runId: series.run_id ?? NO_RUN,
      epoch: series.epoch[index] ?? 0,
      step: series.step[index] ?? 0,
      createdAt: series.created_at[index] ?? '',
      metrics
    };
  });
}

/** Return the names of all metrics, the most frequent first. */
export function metricNames(rows: Iterable<ICheckpointRow>): string[] {
  const counts = new Map<string, number>();
  for (const row of rows) {
    for (const name in row.metrics) {
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  return [...counts]
    .sort(([a, countA], [b, countB]) => countB - countA || a.localeCompare(b))
    .map(([name]) => name);
}

/** Return runs by their start, or that of their first checkpoint; the index of a run gives it its colour. */
export function runOrder(
  rows: Iterable<ICheckpointRow>,
  runs: ReadonlyMap<string, IRun> = new Map()
): string[] {
  const starts = new Map<string, string>();
  for (const { id, started_at } of runs.values()) {
    starts.set(id, started_at);
  }
  for (const { runId, createdAt } of rows) {
    const start = starts.get(runId);
    if (start === undefined || (createdAt < start && !runs.has(runId))) {
      starts.set(runId, createdAt);
    }
  }
  return [...starts].sort((a, b) => compare(a[1], b[1]) || compare(a[0], b[0])).map(([id]) => id);
}

/** Sort rows, newest first. */
export function newestFirst(rows: readonly ICheckpointRow[]): ICheckpointRow[] {
  return [...rows].sort((a, b) => compare(b.createdAt, a.createdAt) || compare(a.id, b.id));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
