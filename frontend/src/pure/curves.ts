/** The runs whose curves are drawn, and the points of their curves. */

import type { ILoggedSeries, IRun } from '../records.ts';
import type { IPoints } from './curve.ts';
import type { ICheckpointRow } from './rows.ts';
import { toPoints } from './series.ts';

export type Axis = 'step' | 'epoch' | 'time';

/** Number of the newest runs that are drawn by default, and of running ones besides. */
export const MAX_RUNS = 30;

/** Return the newest runs, the newest of those that are running (some may never end), and the best one. */
export function runsToDraw(
  order: readonly string[],
  isRunning: (runId: string) => boolean,
  best?: string,
  count = MAX_RUNS
): ReadonlySet<string> {
  const running = order.filter(isRunning).slice(-MAX_RUNS);
  const chosen = new Set([...order.slice(-count), ...running]);
  return new Set(order.filter(run => chosen.has(run) || run === best));
}

/** Return whether a metric is one of the system, such as its load. */
export function isSystem(name: string): boolean {
  return name.startsWith('system/');
}

/** Metrics that are no result of a training. */
const SECONDARY = /^(?:epoch|step|lr|learning_rate|lr[-_/].*)$/i;

/**
 * Return all metrics: those of checkpoints in their order, then those that were only logged, then those of the system.
 */
export function allMetrics(ofCheckpoints: readonly string[], runs: Iterable<IRun>): string[] {
  const logged = new Set<string>();
  for (const { metrics } of runs) {
    for (const name in metrics) {
      logged.add(name);
    }
  }
  const others = [...logged].filter(name => !ofCheckpoints.includes(name)).sort();
  return [...ofCheckpoints, ...others.filter(name => !isSystem(name)), ...others.filter(isSystem)];
}

/** Return the metrics to draw unless the user has chosen some: the ranking one first. */
export function metricsToDraw(
  metrics: readonly string[],
  ranking: string | undefined,
  count: number
): string[] {
  const others = metrics.filter(
    name => name !== ranking && !isSystem(name) && !SECONDARY.test(name)
  );
  return [...(ranking === undefined ? [] : [ranking]), ...others].slice(0, count);
}

export type RowsByRun = ReadonlyMap<string, readonly ICheckpointRow[]>;

/**
 * Group checkpoints by their runs, in the order of steps; a resumed run begins with the checkpoint that it was resumed
 * from.
 *
 * Groups that have not changed are the same objects as `before`.
 */
export function groupByRun(
  rows: readonly ICheckpointRow[],
  parents: ReadonlyMap<string, ICheckpointRow>,
  before: RowsByRun = new Map()
): RowsByRun {
  const groups = new Map<string, ICheckpointRow[]>();
  for (const row of rows) {
    const group = groups.get(row.runId);
    if (group === undefined) {
      groups.set(row.runId, [row]);
    } else {
      group.push(row);
    }
  }
  for (const [runId, parent] of parents) {
    groups.get(runId)?.push(parent);
  }
  return new Map(
    [...groups].map(([runId, group]) => {
      group.sort(
        (a, b) => a.step - b.step || a.epoch - b.epoch || (a.createdAt < b.createdAt ? -1 : 1)
      );
      const old = before.get(runId);
      const isSame = old?.length === group.length && old.every((row, i) => row === group[i]);
      return [runId, isSame ? old : group];
    })
  );
}

/** Where a run has values of a metric: logged ones, else those of its checkpoints. */
export interface ICurveSource {
  logged: ILoggedSeries | undefined;
  rows: readonly ICheckpointRow[];
  /** The start of the run in milliseconds; the first of its checkpoints if it is unknown. */
  startedAt: number | undefined;
}

/** Return the points of a curve. Of several checkpoints at one x, the last in (epoch, step) counts. */
export function pointsOf(metric: string, axis: Axis, source: ICurveSource): IPoints {
  const { logged, rows } = source;
  const start = source.startedAt ?? Date.parse(rows[0]?.createdAt ?? '');
  if (logged !== undefined) {
    return axis === 'epoch'
      ? toEpochs(toPoints(logged, 'step', start), rows)
      : toPoints(logged, axis, start);
  }
  const points = new Map<number, number | null>();
  for (const row of rows) {
    const value = row.metrics[metric];
    if (value !== undefined) {
      const x = axis === 'time' ? (Date.parse(row.createdAt) - start) / 1000 : row[axis];
      points.set(x, Number.isFinite(value) ? value : null);
    }
  }
  const sorted = [...points].sort(([a], [b]) => a - b);
  return { x: sorted.map(([x]) => x), y: sorted.map(([, y]) => y) };
}

/** Replace steps by epochs: between two checkpoints, epochs grow evenly with steps. */
function toEpochs({ x, y }: IPoints, rows: readonly ICheckpointRow[]): IPoints {
  const known = new Map(rows.map(({ step, epoch }) => [step, epoch]));
  const steps = [...known.keys()]; // ascending, as the rows are
  let next = 0;
  const epochs = x.map(step => {
    while (next < steps.length - 1 && (steps[next] ?? 0) < step) {
      next += 1;
    }
    const right = steps[Math.max(1, next)] ?? steps[0] ?? 1;
    const left = steps.length > 1 ? (steps[Math.max(1, next) - 1] ?? 0) : 0;
    const [a = 0, b = 0] = [known.get(left), known.get(right)];
    return right === left ? b : a + ((b - a) * (step - left)) / (right - left);
  });
  return { x: epochs, y };
}

/** The curves of runs; those whose source has not changed are the same objects as before. */
export class CurveCache {
  #groups: RowsByRun = new Map();
  #entries = new Map<string, { source: ICurveSource; points: IPoints }>();
  #used = new Map<string, { source: ICurveSource; points: IPoints }>();

  /** Group checkpoints by their runs; see `groupByRun`. */
  group(rows: readonly ICheckpointRow[], parents: ReadonlyMap<string, ICheckpointRow>): RowsByRun {
    this.#groups = groupByRun(rows, parents, this.#groups);
    return this.#groups;
  }

  get(runId: string, metric: string, axis: Axis, source: ICurveSource): IPoints {
    const key = `${axis} ${runId} ${metric}`;
    let entry = this.#used.get(key) ?? this.#entries.get(key);
    if (
      entry?.source.logged !== source.logged ||
      entry?.source.rows !== source.rows ||
      entry.source.startedAt !== source.startedAt
    ) {
      entry = { source, points: pointsOf(metric, axis, source) };
    }
    this.#used.set(key, entry);
    return entry.points;
  }

  /** Forget what was not used since the last call. */
  prune(): void {
    this.#entries = this.#used;
    this.#used = new Map();
  }
}

/** Return the filter of the runs of a notebook. */
export function whereNotebook(id: string): string {
  return `notebook_id == ${JSON.stringify(id)}`;
}
