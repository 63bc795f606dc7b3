/** The checkpoints of one notebook: all of them, the metric they are judged by, and which are selected. */

import type { IDisposable } from '@lumino/disposable';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { AxonClient, IPage } from './api.ts';
import { Absence, PAGE, Refusal } from './api.ts';
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
 * by turns, and all of it again when the count says that some are gone. What was asked for before something was changed
 * here is not taken: it may not know of the change.
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
  /** Counts what may make another one the best. */
  #revision = 0;
  /** Counts what was changed here. */
  #changes = 0;
  #selected: ReadonlySet<string> = new Set();
  #loaded = false;
  #looks = 0;
  /** Pages that say nothing that is not known; none once anything else is known. */
  #seen = new WeakSet();

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
    this.#bestOf = '';
    this.#selected = new Set();
    this.#loaded = false;
    this.#looks = 0;
    this.#take(new Map());
  }

  /** At the next refresh ask for all of them again, not only for what is new. */
  distrust(): void {
    this.#loaded = false;
  }

  /** Bring them up to date with the server. */
  async refresh(notebookId: string): Promise<void> {
    this.#id = notebookId;
    await Promise.all([this.#lookAtRuns(), this.#loaded ? this.#lookAgain() : this.#load()]);
    await this.#lookForBest();
  }

  /** Change tags or pins. */
  update(ids: Iterable<string>, change: ICheckpointChange): Promise<void> {
    return this.#each(ids, async (notebook, id) =>
      rowOf(await this.#client.updateCheckpoint(notebook, id, change))
    );
  }

  /** Delete checkpoints with their states; somebody else may have done it already. */
  remove(ids: Iterable<string>): Promise<void> {
    return this.#each(ids, async (notebook, id) => {
      try {
        await this.#client.deleteCheckpoint(notebook, id);
      } catch (error) {
        if (!(error instanceof Refusal && error.status === 404) || error instanceof Absence) {
          throw error;
        }
      }
      return undefined;
    });
  }

  /**
   * Change each, a few at a time; `change` gives what it became, or undefined where it is gone.
   *
   * One that fails stops no other, unless there is no server. Rejects with an AggregateError if any failed, or with the
   * one error where there was one to change.
   */
  async #each(
    ids: Iterable<string>,
    change: (notebook: string, id: string) => Promise<IRow | undefined>
  ): Promise<void> {
    const notebook = this.#id;
    const left = [...ids].reverse();
    const count = left.length;
    const errors: unknown[] = [];
    const work = async (): Promise<void> => {
      for (let id = left.pop(); id !== undefined; id = left.pop()) {
        try {
          this.#changedHere(notebook, id, await change(notebook, id), left.length);
        } catch (error) {
          errors.push(error);
          if (!(error instanceof Refusal)) {
            left.length = 0;
          }
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    if (notebook === this.#id) {
      this.#take(this.#rows);
    }
    await this.#lookForBest();
    this.#emit();
    if (errors.length > 0) {
      throw count === 1 ? errors[0] : new AggregateError(errors);
    }
  }

  #changedHere(notebook: string, id: string, row: IRow | undefined, left: number): void {
    if (notebook !== this.#id) {
      return;
    }
    this.#changes += 1;
    if (row === undefined) {
      this.#rows.delete(id);
      this.#revision += 1;
    } else {
      this.#rows.set(id, row);
    }
    if (left > 0 && left % SHOWN_AFTER === 0) {
      this.#take(this.#rows);
    }
  }

  /** All of them, from the beginning; what was there is shown until they have come. */
  async #load(): Promise<void> {
    const isNow = this.#watchChanges();
    const id = this.#id;
    const fresh = new Map<string, IRow>();
    const isFirst = this.#list.length === 0;
    const take = (rows: IRow[]): void => {
      for (const row of rows) {
        if (row.detail !== undefined || !fresh.has(row.id)) {
          fresh.set(row.id, row);
        }
      }
      if (isFirst && isNow()) {
        this.#revision += 1;
        this.#take(fresh);
      }
    };
    take(await this.#columns(id)); // first, and alone: they are what is looked at
    let total = PAGE;
    for (let offset = 0; offset < total && isNow(); offset += PAGE) {
      const page = await this.#client.checkpoints(id, { limit: PAGE, offset });
      total = page.total;
      take(page.items.map(rowOf));
    }
    if (isNow()) {
      this.#loaded = true;
      this.#revision += 1;
      this.#take(fresh);
    }
  }

  async #columns(id: string): Promise<IRow[]> {
    const runs = await optional(this.#client.metrics(id));
    return (runs ?? []).flatMap(rowsOfSeries);
  }

  async #lookAgain(): Promise<void> {
    await this.#lookForNew();
    this.#looks += 1;
    if (this.#looks % SELDOM === 0 && this.#rows.size > RECENT) {
      await this.#lookAtOlder(this.#looks / SELDOM - 1);
    }
  }

  async #lookForNew(): Promise<void> {
    const isNow = this.#watchChanges();
    const id = this.#id;
    const newest = await this.#client.checkpoints(id, { limit: RECENT });
    if (!isNow()) {
      return;
    }
    const isNext = newest.items.some(({ id }) => this.#rows.has(id));
    this.#adopt(newest, isNext);
    const last = newest.items[0];
    if (newest.total === this.#rows.size && (last === undefined || this.#rows.has(last.id))) {
      return;
    }
    const since = this.newest?.createdAt;
    const page = await this.#client.checkpoints(id, {
      limit: PAGE,
      ...(since === undefined ? {} : { since })
    });
    if (!isNow()) {
      return;
    }
    this.#merge(page.items);
    const isStill = (page.items[0] ?? last)?.id === last?.id;
    if (page.total > PAGE || (isStill && this.#rows.size !== newest.total)) {
      await this.#load();
    }
  }

  /** Tags and pins of older ones, a page each time, in turn: the pages that they came in, which are seldom others. */
  async #lookAtOlder(turn: number): Promise<void> {
    const isNow = this.#watchChanges();
    const offset = (turn % Math.ceil(this.#rows.size / PAGE)) * PAGE;
    const page = await this.#client.checkpoints(this.#id, { limit: PAGE, offset });
    if (isNow()) {
      this.#adopt(page);
    }
  }

  /** Tells whether it is still the same notebook, with nothing changed here since. */
  #watchChanges(): () => boolean {
    const id = this.#id;
    const changes = this.#changes;
    return () => id === this.#id && changes === this.#changes;
  }

  /** Take what a page says of checkpoints that are known, or of all on it, unless that was done. */
  #adopt(page: IPage<ICheckpoint>, all = false): void {
    if (!this.#seen.has(page)) {
      this.#merge(page.items.filter(({ id }) => all || this.#rows.has(id)));
      this.#seen.add(page);
    }
  }

  #merge(checkpoints: readonly ICheckpoint[]): void {
    const others = checkpoints.filter(
      checkpoint => !isSame(this.#rows.get(checkpoint.id)?.detail, checkpoint)
    );
    if (others.length > 0) {
      this.#revision += others.some(({ id }) => !this.#rows.has(id)) ? 1 : 0;
      for (const checkpoint of others) {
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
      this.#bestOf = '';
      return;
    }
    const key = [this.#id, this.#revision, minimize, metric].join(' ');
    if (key !== this.#bestOf) {
      this.#bestOf = key;
      try {
        const best = await this.#client.best(this.#id, metric, minimize);
        if (key === this.#bestOf) {
          this.#best = best?.id;
        }
      } catch (error) {
        if (key === this.#bestOf) {
          this.#bestOf = '';
        }
        throw error;
      }
    }
  }

  #take(rows: Map<string, IRow>): void {
    this.#rows = rows;
    this.#list = [...rows.values()];
    this.#seen = new WeakSet();
    this.#metrics = metricNames(this.#list);
    this.#most = mostOf(this.#list);
    this.#order = runOrder(this.#list);
    if ([...this.#selected].some(id => !rows.has(id))) {
      this.#selected = new Set([...this.#selected].filter(id => rows.has(id)));
    }
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
const RECENT = 50;
/** A page of all of them is looked at again once in so many times. */
const SELDOM = 5;
/** Changes that are asked for at the same time. */
const AT_ONCE = 4;
/** Changes after which what has become of them is shown, where there are many. */
const SHOWN_AFTER = 100;
/** In place of a notebook's id, once disposed of. */
const GONE = '\0';

function isSame(one: ICheckpoint | undefined, other: ICheckpoint): boolean {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}

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
