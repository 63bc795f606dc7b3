/** The columns of the table of runs: their values, order, aggregates and export. */

import type { IRunRow } from '../records.ts';
import { isSystem } from './curves.ts';
import type { Direction } from './direction.ts';
import { direction } from './direction.ts';
import { defaultMetric, toNumber } from './metrics.ts';

/** Columns that every run has, by the name in filters if there is one. */
export const FIELD_COLUMNS = [
  'name',
  'status',
  'notebook',
  'started_at',
  'duration',
  'group',
  'tags',
  'notes',
  'step_count',
  'checkpoints',
  'size',
  'code',
  'reproducible'
] as const;
export type FieldColumn = (typeof FIELD_COLUMNS)[number];
/** Which value of a metric; `best` is the least or the greatest by the direction of the metric. */
export type Statistic = 'best' | 'last' | 'min' | 'max';

export type RunColumn =
  | { kind: 'field'; id: string; field: FieldColumn }
  | { kind: 'config'; id: string; key: string }
  | { kind: 'metric'; id: string; metric: string; statistic: Statistic };

/** A value of a run in a column; undefined if the run has none. */
export type CellValue = number | string | undefined;

/** Number of columns of each kind that are shown at first. */
const AUTO_CONFIG_COLUMNS = 6;
const AUTO_METRIC_COLUMNS = 3;
const CONFIG_PREFIX = 'config.';

/** Return the column with an id; undefined if there is no such. */
export function toColumn(id: string): RunColumn | undefined {
  const field = FIELD_COLUMNS.find(name => name === id);
  if (field !== undefined) {
    return { kind: 'field', id, field };
  }
  if (id.startsWith(CONFIG_PREFIX) && id.length > CONFIG_PREFIX.length) {
    return { kind: 'config', id, key: id.slice(CONFIG_PREFIX.length) };
  }
  const [, metric, statistic] = /^metrics\.(.+)\.(best|last|min|max)$/s.exec(id) ?? [];
  return metric === undefined
    ? undefined
    : { kind: 'metric', id, metric, statistic: statistic as Statistic };
}

export function configColumnId(key: string): string {
  return CONFIG_PREFIX + key;
}

export function metricColumnId(metric: string, statistic: Statistic = 'best'): string {
  return `metrics.${metric}.${statistic}`;
}

/** Return which value of a metric a column shows. */
export function resolveStatistic(
  metric: string,
  statistic: Statistic,
  directionOf: Direction = direction
): 'last' | 'min' | 'max' {
  return statistic === 'best' ? (directionOf(metric) ?? 'last') : statistic;
}

export interface IMetricExtremes {
  last?: unknown;
  min?: unknown;
  max?: unknown;
}

/** Return the value of a metric of a run; undefined if it is missing or not a number. */
export function metricValue(
  run: { metrics: Readonly<Record<string, IMetricExtremes>> },
  metric: string,
  statistic: 'last' | 'min' | 'max'
): number | undefined {
  const value = toNumber(run.metrics[metric]?.[statistic]);
  return value === undefined || Number.isNaN(value) ? undefined : value;
}

type RankedRun = Pick<IRunRow, 'id' | 'notebook_id' | 'archived' | 'config' | 'metrics'>;

/**
 * Return the best run of each notebook, by its id; archived runs are not among them.
 *
 * A notebook of which no run has a value of the metric is ranked by the metric that is the default for it.
 */
export function bestRuns(
  runs: readonly RankedRun[],
  ranking: { metric: string; minimize: boolean } | undefined
): Map<string, string> {
  const best = new Map<string, { id: string; value: number }>();
  const rank = (run: RankedRun, metric: string, minimize: boolean): void => {
    const value = metricValue(run, metric, minimize ? 'min' : 'max');
    const other = best.get(run.notebook_id)?.value;
    const isBetter =
      value !== undefined && (other === undefined || (minimize ? value < other : value > other));
    if (isBetter && run.archived !== true) {
      best.set(run.notebook_id, { id: run.id, value });
    }
  };
  if (ranking !== undefined) {
    for (const run of runs) {
      rank(run, ranking.metric, ranking.minimize);
    }
  }
  const others = groupItems(
    runs.filter(run => !best.has(run.notebook_id)),
    run => [run.notebook_id]
  );
  for (const { items } of others) {
    const metric = defaultMetric(collectNames(items).metrics);
    if (metric !== undefined) {
      for (const run of items) {
        rank(run, metric, direction(metric) !== 'max');
      }
    }
  }
  return new Map([...best].map(([notebook, { id }]) => [notebook, id]));
}

/** Return a value of a configuration for sorting and display. */
export function configValue(run: IRunRow, key: string): CellValue {
  const value = run.config[key];
  if (value === undefined || value === null) {
    return undefined;
  }
  if (typeof value === 'number' || typeof value === 'string') {
    return value;
  }
  return JSON.stringify(value);
}

/** Return the seconds that a run took, or has taken until now. */
export function duration(run: IRunRow, now: number = Date.now()): number | undefined {
  const end = run.ended_at === undefined ? now : Date.parse(run.ended_at);
  return run.ended_at === undefined && run.status !== 'running'
    ? undefined
    : Math.max(0, (end - Date.parse(run.started_at)) / 1000);
}

/** Compare two values: numbers before texts, and texts by their numbers (`run 2` before `run 10`). */
export function compareValues(a: CellValue, b: CellValue): number {
  if (typeof a === 'number' && typeof b === 'number') {
    return a - b;
  }
  if (typeof a === 'string' && typeof b === 'string') {
    return a === b ? 0 : collator.compare(a, b) || (a < b ? -1 : 1);
  }
  return typeof a === 'number' ? -1 : 1;
}

const collator = new Intl.Collator(undefined, { numeric: true });

/** An order by the value of a column. */
export interface ISortKey<T> {
  valueOf: (item: T) => CellValue;
  isDescending: boolean;
}

/** Return items in the order of the first key, those equal in it in the order of the next, and so on; those without a value come last. */
export function sortItems<T>(items: readonly T[], keys: readonly ISortKey<T>[]): readonly T[] {
  if (keys.length === 0) {
    return items;
  }
  const columns = keys.map(({ valueOf, isDescending }) => ({
    values: items.map(valueOf),
    sign: isDescending ? -1 : 1
  }));
  const order = items.map((_item, index) => index);
  order.sort((a, b) => {
    for (const { values, sign } of columns) {
      const [x, y] = [values[a], values[b]];
      if (x !== y) {
        const result = x === undefined ? 1 : y === undefined ? -1 : sign * compareValues(x, y);
        if (result !== 0) {
          return result;
        }
      }
    }
    return 0;
  });
  return order.flatMap(index => items[index] ?? []);
}

/** The configuration keys and metrics of runs. */
export interface INames {
  /** Keys that runs have in common before others. */
  config: readonly string[];
  /** The keys of which runs have different values. */
  differing: ReadonlySet<string>;
  /** The most frequent first. */
  metrics: readonly string[];
}

export function collectNames(
  runs: readonly {
    config: Readonly<Record<string, unknown>>;
    metrics: Readonly<Record<string, unknown>>;
  }[]
): INames {
  const config = new Map<string, { count: number; first: unknown; differs: boolean }>();
  const metrics = new Map<string, number>();
  for (const run of runs) {
    for (const key in run.config) {
      const value = run.config[key];
      const known = config.get(key);
      if (known === undefined) {
        config.set(key, { count: 1, first: value, differs: false });
      } else {
        known.count += 1;
        known.differs ||= !isSameValue(known.first, value);
      }
    }
    for (const name in run.metrics) {
      metrics.set(name, (metrics.get(name) ?? 0) + 1);
    }
  }
  const keys = [...config].sort(([a, x], [b, y]) => y.count - x.count || a.localeCompare(b));
  return {
    config: keys.map(([key]) => key),
    differing: new Set(
      keys.filter(([, { count, differs }]) => differs || count < runs.length).map(([key]) => key)
    ),
    metrics: [...metrics]
      .sort(([a, countA], [b, countB]) => countB - countA || a.localeCompare(b))
      .map(([name]) => name)
  };
}

/** What filters and columns can be about, besides fields. */
export interface IVocabulary extends INames {
  tags: readonly string[];
  groups: readonly string[];
}

export function collectVocabulary(runs: readonly IRunRow[]): IVocabulary {
  const tags = new Set(runs.flatMap(run => run.tags));
  const groups = new Set(runs.flatMap(({ group }) => group ?? []));
  return {
    ...collectNames(runs),
    tags: [...tags].sort((a, b) => a.localeCompare(b)),
    groups: [...groups].sort((a, b) => a.localeCompare(b))
  };
}

function isSameValue(a: unknown, b: unknown): boolean {
  return a === b || (typeof a === 'object' && JSON.stringify(a) === JSON.stringify(b));
}

/** Return the columns that are shown unless the user has chosen others: those of which a run has a value. */
export function automaticColumns(
  runs: readonly IRunRow[],
  { differing, metrics }: INames,
  preferred = ''
): string[] {
  const others = metrics.filter(name => name !== preferred && !isSystem(name));
  const names = metrics.includes(preferred) ? [preferred, ...others] : others;
  const first = (
    names: Iterable<string>,
    count: number,
    has: (run: IRunRow, name: string) => boolean
  ): string[] => {
    const found: string[] = [];
    for (const name of names) {
      if (found.length < count && runs.some(run => has(run, name))) {
        found.push(name);
      }
    }
    return found;
  };
  const some = (has: (run: IRunRow) => boolean, ...ids: FieldColumn[]): FieldColumn[] =>
    runs.some(has) ? ids : [];
  const fields = (...ids: FieldColumn[]): FieldColumn[] => ids;
  return [
    ...fields('name', 'status', 'notebook', 'started_at'),
    ...first(names, AUTO_METRIC_COLUMNS, (run, name) => name in run.metrics).map(name =>
      metricColumnId(name)
    ),
    ...fields('code', 'reproducible'),
    ...first(differing, AUTO_CONFIG_COLUMNS, (run, key) => key in run.config).map(configColumnId),
    ...fields('duration'),
    ...some(run => run.group !== undefined, 'group'),
    ...fields('tags'),
    ...some(run => run.notes !== undefined, 'notes'),
    ...fields('checkpoints', 'size')
  ];
}

/** Runs with the same value of a column. */
export interface IRunGroup<T> {
  /** Distinguishes the group from others. */
  key: string;
  /** Missing for the runs without a value. */
  value: CellValue;
  items: T[];
}

/**
 * Put items with the same value together, in the order of their first items; those without a value come last.
 *
 * An item with several values, such as tags, is in several groups.
 */
export function groupItems<T>(
  items: readonly T[],
  valuesOf: (item: T) => readonly CellValue[]
): IRunGroup<T>[] {
  const groups = new Map<string, IRunGroup<T>>();
  for (const item of items) {
    const values = valuesOf(item);
    for (const value of values.length === 0 ? [undefined] : values) {
      const key = `${typeof value} ${value ?? ''}`;
      const group = groups.get(key);
      if (group === undefined) {
        groups.set(key, { key, value, items: [item] });
      } else {
        group.items.push(item);
      }
    }
  }
  const all = [...groups.values()];
  return [
    ...all.filter(({ value }) => value !== undefined),
    ...all.filter(({ value }) => value === undefined)
  ];
}

/** Mean, standard deviation (of the sample) and extremes of values. */
export interface IAggregate {
  count: number;
  mean: number;
  /** NaN for a single value. */
  deviation: number;
  min: number;
  max: number;
}

/** Return the aggregate of the finite values; undefined if there is none. */
export function aggregate(values: Iterable<CellValue>): IAggregate | undefined {
  let [count, mean, squares, min, max] = [0, 0, 0, Infinity, -Infinity];
  for (const value of values) {
    if (typeof value === 'number' && Number.isFinite(value)) {
      count += 1;
      const delta = value - mean;
      mean += delta / count;
      squares += delta * (value - mean);
      min = Math.min(min, value);
      max = Math.max(max, value);
    }
  }
  const deviation = Math.sqrt(squares / (count - 1));
  return count === 0 ? undefined : { count, mean, deviation, min, max };
}

/** Return rows of values as CSV (RFC 4180). A text that a spreadsheet would run as a formula gets a quote before it. */
export function toCsv(rows: readonly (readonly CellValue[])[]): string {
  const field = (value: CellValue): string => {
    const text = typeof value === 'string' && /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    const plain = text === undefined ? '' : String(text);
    return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
  };
  return rows.map(row => `${row.map(field).join(',')}\r\n`).join('');
}
