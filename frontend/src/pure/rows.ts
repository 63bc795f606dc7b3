/** The checkpoints of a notebook as the table and the curves need them. */

import type { ICheckpoint, IRunSeries } from '../records.ts';
import { flatten, formatNumber, toNumber } from './metrics.ts';

/** The name under which checkpoints without a run go together. */
export const NO_RUN = '';

/** A checkpoint; `detail` is missing until it has come. */
export interface IRow {
  id: string;
  runId: string;
  epoch: number;
  step: number;
  createdAt: string;
  metrics: Record<string, number>;
  detail?: ICheckpoint;
}

export function rowOf(checkpoint: ICheckpoint): IRow {
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

/** The rows that a run's columns describe. */
export function rowsOfSeries(series: IRunSeries): IRow[] {
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

/** The names of all metrics, the most frequent first. */
export function metricNames(rows: Iterable<IRow>): string[] {
  const times = new Map<string, number>();
  for (const row of rows) {
    for (const name in row.metrics) {
      times.set(name, (times.get(name) ?? 0) + 1);
    }
  }
  return [...times.keys()].sort(
    (a, b) => (times.get(b) ?? 0) - (times.get(a) ?? 0) || a.localeCompare(b)
  );
}

export interface IMost {
  epoch: number;
  step: number;
}

/** The greatest epoch and step. */
export function mostOf(rows: Iterable<IRow>): IMost {
  const most = { epoch: 0, step: 0 };
  for (const row of rows) {
    most.epoch = Math.max(most.epoch, row.epoch);
    most.step = Math.max(most.step, row.step);
  }
  return most;
}

/** Runs by when their first checkpoint came; a run's place here gives it its number and colour. */
export function runOrder(rows: Iterable<IRow>): string[] {
  const first = new Map<string, string>();
  for (const row of rows) {
    const before = first.get(row.runId);
    if (before === undefined || row.createdAt < before) {
      first.set(row.runId, row.createdAt);
    }
  }
  return [...first].sort((a, b) => compare(a[1], b[1]) || compare(a[0], b[0])).map(([id]) => id);
}

/** What a table can be sorted by; `metric` names one. */
export type SortKey = 'created' | 'epoch' | 'step' | 'run' | 'pinned' | { metric: string };

export interface ISort {
  key: SortKey;
  descending: boolean;
}

/** Rows in order; those that lack the metric, or have NaN there, come last whatever the direction. */
export function sortRows(rows: readonly IRow[], sort: ISort, runs: readonly string[]): IRow[] {
  const places = new Map(runs.map((id, place) => [id, place]));
  const value = (row: IRow): number | string => {
    if (typeof sort.key === 'object') {
      return row.metrics[sort.key.metric] ?? NaN;
    }
    switch (sort.key) {
      case 'created':
        return row.createdAt;
      case 'epoch':
        return row.epoch;
      case 'step':
        return row.step;
      case 'run':
        return places.get(row.runId) ?? NaN;
      case 'pinned':
        return row.detail?.pinned === true ? 1 : 0;
    }
  };
  const sign = sort.descending ? -1 : 1;
  return rows
    .map(row => ({ row, value: value(row) }))
    .sort((a, b) => {
      const lost = Number(Number.isNaN(a.value)) - Number(Number.isNaN(b.value));
      if (lost !== 0 || Number.isNaN(a.value)) {
        return lost || compare(b.row.createdAt, a.row.createdAt);
      }
      return (
        sign * compare(a.value, b.value) ||
        sign * compare(a.row.epoch, b.row.epoch) ||
        sign * compare(a.row.step, b.row.step) ||
        compare(b.row.createdAt, a.row.createdAt) ||
        compare(a.row.id, b.row.id)
      );
    })
    .map(({ row }) => row);
}

/**
 * Rows that have every word of `query`: in a tag, as `pinned`, as `epoch:7` or `step:700`, as `run:2` (its number is its
 * place among `runs`), as a comparison of a metric (`val_loss<0.3`), or at the start of the id.
 */
export function filterRows(
  rows: readonly IRow[],
  query: string,
  runs: readonly string[]
): readonly IRow[] {
  const parts = query
    .slice(0, LONGEST_QUERY)
    .toLowerCase()
    .split(/(<=|>=|[<>=:])/);
  const words = parts
    .map(part => part.trim())
    .join('')
    .split(/\s+/)
    .filter(Boolean);
  if (words.length === 0) {
    return rows;
  }
  const tests = words.map(word => test(word, runs));
  return rows.filter(row => tests.every(holds => holds(row)));
}

/** Characters of a query that count; what is pasted by mistake must not hold up the page. */
const LONGEST_QUERY = 1000;

/** Of an id a filter has to give so much; less would be taken for it by chance. */
const SHORTEST_ID = 4;

function test(word: string, runs: readonly string[]): (row: IRow) => boolean {
  const comparison = /^([^<>=]+)(<=|>=|<|>|=)(-?[\d.]+(?:e-?\d+)?)$/.exec(word);
  if (comparison !== null) {
    const [, name = '', sign = '', text = ''] = comparison;
    const limit = Number(text);
    return row => {
      const value = number(row, name);
      return value !== undefined && holds(value, sign, limit);
    };
  }
  const place = /^(epoch|step):(\d+)$/.exec(word);
  if (place !== null) {
    return row => String(place[1] === 'epoch' ? row.epoch : row.step) === place[2];
  }
  const run = /^run:(\d+)$/.exec(word);
  if (run !== null) {
    const id = runs[Number(run[1]) - 1];
    return row => row.runId !== NO_RUN && row.runId === id;
  }
  return row =>
    (word.length >= SHORTEST_ID && row.id.startsWith(word)) ||
    (word === 'pinned' && row.detail?.pinned === true) ||
    (row.detail?.tags ?? []).some(tag => tag.toLowerCase().includes(word));
}

function number(row: IRow, name: string): number | undefined {
  if (name === 'epoch' || name === 'step') {
    return row[name];
  }
  const exact = row.metrics[name];
  if (exact !== undefined) {
    return exact;
  }
  const key = Object.keys(row.metrics).find(other => other.toLowerCase() === name);
  return key === undefined ? undefined : row.metrics[key];
}

function holds(value: number, sign: string, limit: number): boolean {
  switch (sign) {
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

function compare<T extends number | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
