/** The checkpoints of one notebook: all of them, the metric they are judged by, and which are selected. */

import type { IDisposable } from '@lumino/disposable';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { AxonClient, IPage } from './api.ts';
import { PAGE, Refusal } from './api.ts';
import { favourite, isMinimized } from './pure/metrics.ts';
import type { IMost, IRow } from './pure/rows.ts';
import { metricNames, mostOf, rowOf, rowsOfSeries, runOrder } from './pure/rows.ts';
import type { ICheckpoint, ICheckpointChange, IRun } from './records.ts';

/** The metric that best means, and whether less of it is better. */
export interface IMeasure {
  metric: string;
  minimize: boolean;
}

/**
 * Rows come twice: at once in the columns of the metrics, then page by page with what else there is of each checkpoint
 * (tags, pins, sizes). Afterwards what is new is asked for, what others may have changed of the newest, of the older ones
 * by turns, and all of it again when the count says that some are gone.
 */
export class Checkpoints implements IDisposable {
  readonly #client: AxonClient;
  readonly #changed = new Signal<this, void>(this);
  #id = '';
  #rows = new Map<string, IRow>();
  #list: readonly IRow[] = [];
  #metrics: readonly string[] = [];
  #most: IMost = { epoch: 0, step: 0 };
  #order: readonly string[] = [];
  #runs = new Map<string, IRun>();
  #measure: IMeasure | undefined;
  #best: string | undefined;
  #bestOf = '';
  #revision = 0;
  #selected: ReadonlySet<string> = new Set();
  #loaded = false;
  #turn = 0;
  readonly #seen = new WeakSet();

  constructor(client: AxonClient) {
    this.#client = client;
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  get isDisposed(): boolean {
    return this.#id === GONE;
  }

  /** Whether they have come; there may be none. */
  get isLoaded(): boolean {
    return this.#loaded || this.#list.length > 0;
  }

  /** In no order; a new array after every change. */
  get rows(): readonly IRow[] {
    return this.#list;
  }

  get metrics(): readonly string[] {
    return this.#metrics;
  }

  /** The greatest epoch and step. */
  get most(): IMost {
    return this.#most;
  }

  /** The ids of runs, by when they began. */
  get order(): readonly string[] {
    return this.#order;
  }

  get runs(): ReadonlyMap<string, IRun> {
    return this.#runs;
  }

  get measure(): IMeasure | undefined {
    return this.#measure;
  }

  /** Choose what best means. */
  judgeBy(measure: IMeasure): void {
    this.#measure = measure;
    this.#emit();
    void this.#lookForBest().then(
      () => {
        this.#emit();
      },
      () => undefined // the next look at the server tells what is wrong
    );
  }

  /** The id of the best, as the server ranks them. */
  get best(): string | undefined {
    return this.#best;
  }

  /** The one that was made last. */
  get newest(): IRow | undefined {
    let newest: IRow | undefined;
    for (const row of this.#list) {
      if (newest === undefined || row.createdAt > newest.createdAt) {
        newest = row;
      }
    }
    return newest;
  }

  get selected(): ReadonlySet<string> {
    return this.#selected;
  }

  /** Select these and no others. */
  select(ids: Iterable<string>): void {
    this.#selected = new Set(ids);
    this.#emit();
  }

  row(id: string): IRow | undefined {
    return this.#rows.get(id);
  }

  /** The checkpoints that runs were resumed from, by run. */
  parents(): Map<string, IRow> {
    const found = new Map<string, IRow>();
    for (const run of this.#runs.values()) {
      const parent = this.#rows.get(run.parent_checkpoint_id ?? '');
      if (parent !== undefined) {
        found.set(run.id, parent);
      }
    }
    return found;
  }

  dispose(): void {
    this.clear();
    this.#id = GONE;
    Signal.clearData(this);
  }

  /** Forget all of them: they were another notebook's. */
  clear(): void {
    this.#id = '';
    this.#runs.clear();
    this.#measure = undefined;
    this.#best = undefined;
    this.#selected = new Set();
    this.#loaded = false;
    this.#take(new Map());
  }

  /** At the next refresh ask for all of them again, not only for what is new. */
  distrust(): void {
    this.#loaded = false;
  }

  /** Bring them up to date with the server. */
  async refresh(notebookId: string): Promise<void> {
    this.#id = notebookId;
    const runs = this.#lookAtRuns();
    if (this.#loaded) {
      await this.#lookForNew();
      await this.#lookAtOlder();
    } else {
      await this.#load();
    }
    await runs;
    await this.#lookForBest();
  }

  /** Change tags or pins. */
  async update(ids: Iterable<string>, change: ICheckpointChange): Promise<void> {
    for (const id of ids) {
      const updated = await this.#client.updateCheckpoint(this.#id, id, change);
      this.#rows.set(id, rowOf(updated));
    }
    this.#take(this.#rows);
  }

  /** Delete checkpoints with their states. */
  async remove(ids: Iterable<string>): Promise<void> {
    try {
      for (const id of ids) {
        await this.#client.deleteCheckpoint(this.#id, id);
        this.#rows.delete(id);
      }
    } finally {
      this.select([...this.#selected].filter(id => this.#rows.has(id)));
      this.#take(this.#rows);
    }
    await this.#lookForBest();
    this.#emit();
  }

  /** All of them, from the beginning; what was there is shown until they have come. */
  async #load(): Promise<void> {
    const id = this.#id;
    const fresh = new Map<string, IRow>();
    const isFirst = this.#list.length === 0;
    const take = (rows: IRow[]): void => {
      for (const row of rows) {
        if (row.detail !== undefined || !fresh.has(row.id)) {
          fresh.set(row.id, row);
        }
      }
      if (isFirst && id === this.#id) {
        this.#take(fresh);
      }
    };
    take(await this.#columns(id)); // first, and alone: they are what is looked at
    const first = await this.#client.checkpoints(id, { limit: PAGE });
    take(first.items.map(rowOf));
    for (let offset = PAGE; offset < first.total; offset += PAGE) {
      const page = await this.#client.checkpoints(id, { limit: PAGE, offset });
      take(page.items.map(rowOf));
    }
    if (id === this.#id) {
      this.#loaded = true;
      this.#take(fresh);
    }
  }

  async #columns(id: string): Promise<IRow[]> {
    const runs = await optional(this.#client.metrics(id));
    return (runs ?? []).flatMap(rowsOfSeries);
  }

  async #lookForNew(): Promise<void> {
    const id = this.#id;
    const newest = await this.#client.checkpoints(id, { limit: RECENT });
    const isNext = newest.items.some(({ id }) => this.#rows.has(id));
    this.#adopt(id, newest, isNext);
    const last = newest.items[0];
    if (newest.total === this.#rows.size && (last === undefined || this.#rows.has(last.id))) {
      return;
    }
    const since = this.newest?.createdAt;
    const page = await this.#client.checkpoints(id, {
      limit: PAGE,
      ...(since === undefined ? {} : { since })
    });
    if (id !== this.#id) {
      return;
    }
    this.#merge(page.items);
    const isStill = (page.items[0] ?? last)?.id === last?.id;
    if (page.total > PAGE || (isStill && this.#rows.size !== newest.total)) {
      await this.#load();
    }
  }

  /** Tags and pins of older ones, a part of them each time, in turn. */
  async #lookAtOlder(): Promise<void> {
    const id = this.#id;
    const parts = Math.ceil(this.#rows.size / RECENT) - 1;
    if (parts > 0) {
      this.#turn = (this.#turn % parts) + 1;
      const offset = this.#turn * RECENT;
      this.#adopt(id, await this.#client.checkpoints(id, { limit: RECENT, offset }));
    }
  }

  /** Take what a page says of checkpoints that are known, or of all on it, unless that was done. */
  #adopt(id: string, page: IPage<ICheckpoint>, all = false): void {
    if (id === this.#id && !this.#seen.has(page)) {
      this.#seen.add(page);
      this.#merge(page.items.filter(({ id }) => all || this.#rows.has(id)));
    }
  }

  #merge(checkpoints: readonly ICheckpoint[]): void {
    if (checkpoints.length > 0) {
      for (const checkpoint of checkpoints) {
        this.#rows.set(checkpoint.id, rowOf(checkpoint));
      }
      this.#take(this.#rows);
    }
  }

  async #lookAtRuns(): Promise<void> {
    const id = this.#id;
    const runs = await optional(this.#client.runs(id));
    if (runs !== undefined && id === this.#id) {
      this.#runs = new Map(runs.map(run => [run.id, run]));
    }
  }

  async #lookForBest(): Promise<void> {
    const { metric, minimize } = this.#measure ?? {};
    if (metric === undefined || minimize === undefined || this.#id === '') {
      this.#best = undefined;
      return;
    }
    const key = [this.#id, this.#revision, minimize, metric].join(' ');
    if (key !== this.#bestOf) {
      const best = await this.#client.best(this.#id, metric, minimize);
      this.#best = best?.id;
      this.#bestOf = key;
    }
  }

  #take(rows: Map<string, IRow>): void {
    this.#rows = rows;
    this.#list = [...rows.values()];
    this.#revision += 1;
    this.#metrics = metricNames(this.#list);
    this.#most = mostOf(this.#list);
    this.#order = runOrder(this.#list);
    const metric = favourite(this.#metrics);
    if (this.#measure === undefined && metric !== undefined) {
      this.#measure = { metric, minimize: isMinimized(metric) };
    }
    this.#emit();
  }

  #emit(): void {
    this.#changed.emit();
  }
}

/** Checkpoints whose tags and pins are looked at again each time; others may change them. */
const RECENT = 250;
/** In place of a notebook's id, once disposed of. */
const GONE = '\0';

/** What adds to the picture and may be missing from it; undefined where the server has none. */
async function optional<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof Refusal) {
      return undefined;
    }
    throw error;
  }
}
