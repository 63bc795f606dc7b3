/** Checkpoints as the table and the curves need them. */

import type { ICheckpoint, IRun, IRunSeries } from '../records.ts';
import { flatten, formatNumber, toNumber } from './metrics.ts';

/** The run id of checkpoints without a run. */
export const NO_RUN = '';

/** Characters of a query that count: text pasted by mistake must not block the page. */
const MAX_QUERY_LENGTH = 1000;
/** Shortest prefix of an id that a query matches. */
const MIN_ID_PREFIX = 4;

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

/** Return runs by the time of their first checkpoint; the index of a run gives it its colour. */
export function runOrder(rows: Iterable<ICheckpointRow>): string[] {
  const first = new Map<string, string>();
  for (const row of rows) {
    const earliest = first.get(row.runId);
    if (earliest === undefined || row.createdAt < earliest) {
      first.set(row.runId, row.createdAt);
    }
  }
  return [...first].sort((a, b) => compare(a[1], b[1]) || compare(a[0], b[0])).map(([id]) => id);
}

/** Sort rows, newest first. */
export function newestFirst(rows: readonly ICheckpointRow[]): ICheckpointRow[] {
  return [...rows].sort((a, b) => compare(b.createdAt, a.createdAt) || compare(a.id, b.id));
}

/**
 * Return the rows that match every word of a query.
 *
 * A word matches a tag, `pinned`, `epoch:7` or `step:700`, `run:2` or `run:wide` (the number or the name of a run), a
 * comparison of a metric (`val_loss<0.3`) or the beginning of the id.
 */
export function filterRows(
  rows: readonly ICheckpointRow[],
  query: string,
  runs: ReadonlyMap<string, IRun>
): readonly ICheckpointRow[] {
  const words = query
    .slice(0, MAX_QUERY_LENGTH)
    .toLowerCase()
    .split(/(<=|>=|[<>=:])/)
    .map(part => part.trim()) // allows spaces around operators
    .join('')
    .split(/\s+/)
    .filter(Boolean);
  if (words.length === 0) {
    return rows;
  }
  const filters = words.map(word => toFilter(word, runs));
  return rows.filter(row => filters.every(matches => matches(row)));
}

function toFilter(word: string, runs: ReadonlyMap<string, IRun>): (row: ICheckpointRow) => boolean {
  const comparison = /^([^<>=]+)(<=|>=|<|>|=)(-?[\d.]+(?:e-?\d+)?)$/.exec(word);
  if (comparison !== null) {
    const [, name = '', operator = '', text = ''] = comparison;
    const limit = Number(text);
    return row => {
      const value = valueOf(row, name);
      return value !== undefined && evaluate(value, operator, limit);
    };
  }
  const position = /^(epoch|step):(\d+)$/.exec(word);
  if (position !== null) {
    return row => String(position[1] === 'epoch' ? row.epoch : row.step) === position[2];
  }
  const run = /^run:(.+)$/.exec(word);
  if (run !== null) {
    return row => {
      const { name, number } = runs.get(row.runId) ?? {};
      return (number !== undefined && String(number) === run[1]) || name?.toLowerCase() === run[1];
    };
  }
  return row =>
    (word.length >= MIN_ID_PREFIX && row.id.startsWith(word)) ||
    (word === 'pinned' && row.detail?.pinned === true) ||
    (row.detail?.tags ?? []).some(tag => tag.toLowerCase().includes(word));
}

function valueOf(row: ICheckpointRow, name: string): number | undefined {
  if (name === 'epoch' || name === 'step') {
    return row[name];
  }
  const key = Object.keys(row.metrics).find(other => other.toLowerCase() === name);
  return row.metrics[name] ?? (key === undefined ? undefined : row.metrics[key]);
}

function evaluate(value: number, operator: string, limit: number): boolean {
  switch (operator) {
    case '<':
      return value < limit;
    case '<=':
      return value <= limit;
    case '>':
      return value > limit;
    case '>=':
      return value >= limit;
    default:
      return value === limit || formatNumber(value) === formatNumber(limit);
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
