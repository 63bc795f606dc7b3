/** The runs of all notebooks, kept up to date. */

import type { IDisposable } from '@lumino/disposable';
import { DisposableDelegate } from '@lumino/disposable';
import { Poll } from '@lumino/polling';

import type { AxonClient } from '../api.ts';
import { isNotFound, ResponseError } from '../api.ts';
import type { IProblem } from '../model.ts';
import { toProblem } from '../model.ts';
import { isEqual } from '../pure/equal.ts';
import type { IRunChange, IRunRow, IRunTable } from '../records.ts';

/** Longest time in milliseconds between two attempts to reach the server. */
const MAX_BACKOFF = 20_000;
/** Number of runs that are requested first, so that the page is not empty until all are loaded. */
const FIRST_PAGE = 200;
/** All runs are requested again after changes: at most so often (milliseconds), and for a small part of the time. */
const MIN_RELOAD_INTERVAL = 5000;
const RELOAD_SHARE = 0.02;
/** Number of requests at a time if the user changes many runs. */
const CONCURRENCY = 4;

/** What depends on the runs. */
export interface IRunsListener {
  /** Runs or notebooks have changed. */
  onRunsChanged: () => void;
  onProblemChanged: () => void;
  /** A filter may select other runs than before. */
  onOutdated: () => void;
  /** Loads what depends on the runs, after each request for changes; `problem` reports if it cannot be loaded. */
  loadDependent: () => Promise<void>;
}

/**
 * The runs of all notebooks.
 *
 * While it is watched, it polls the server: one conditional request for the runs that may have changed, and more only
 * after a change.
 */
export class RunCollection implements IDisposable {
  /** The client for requests of the user. */
  readonly #client: AxonClient;
  readonly #background: AxonClient;
  readonly #listener: IRunsListener;
  readonly #poll: Poll;
  #watcherCount = 0;
  readonly #runs = new Map<string, IRunRow>();
  readonly #notebooks = new Map<string, { name: string; path?: string }>();
  #isLoaded = false;
  #isComplete = false;
  #problem: IProblem | undefined;
  #loading: Promise<void> | undefined;
  #changeCount = 0;
  /** Counts changes by the user; a response to an earlier request may not reflect them. */
  #editCount = 0;
  #mustReload = false;
  #nextReload = 0;
  /** The filter of the requests for changes; the same as long as possible, for conditional requests. */
  #recent = '';
  /** The revision of the store that was seen last. */
  #revision: string | null = null;

  constructor(client: AxonClient, background: AxonClient, listener: IRunsListener) {
    this.#client = client;
    this.#background = background;
    this.#listener = listener;
    this.#poll = new Poll({
      name: 'jupyter-axon-notebooks:runs',
      factory: () => this.#load(),
      standby: 'when-hidden',
      auto: false
    });
  }

  get isDisposed(): boolean {
    return this.#poll.isDisposed;
  }

  dispose(): void {
    this.#poll.dispose();
  }

  /** Whether the first runs are loaded. */
  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  /** Whether all runs are loaded. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  get problem(): IProblem | undefined {
    return this.#problem;
  }

  /** The number of changes of the store that were seen. */
  get changeCount(): number {
    return this.#changeCount;
  }

  /** The loaded runs by key; archived ones are loaded if a filter names them. */
  get all(): ReadonlyMap<string, IRunRow> {
    return this.#runs;
  }

  get notebooks(): ReadonlyMap<string, { name: string; path?: string }> {
    return this.#notebooks;
  }

  /** Set the milliseconds between two requests for changes. */
  setInterval(interval: number): void {
    this.#poll.frequency = { interval, backoff: 2, max: Math.max(MAX_BACKOFF, interval) };
    if (this.#watcherCount > 0) {
      void this.#poll.refresh(); // the next poll may be scheduled for much later
    }
  }

  /** Keep everything up to date until the returned object is disposed of. */
  watch(): IDisposable {
    this.#watcherCount += 1;
    void this.#poll.start();
    this.refresh();
    return new DisposableDelegate(() => {
      this.#watcherCount -= 1;
      if (this.#watcherCount === 0 && !this.isDisposed) {
        void this.#poll.stop();
      }
    });
  }

  /** Ask the server for changes now. */
  refresh(): void {
    this.#load().catch(() => undefined); // `problem` reports it
  }

  /** Load everything again. */
  reload(): void {
    this.#mustReload = true;
    this.#nextReload = 0;
    this.refresh();
  }

  /** Change each of these runs; `change` returns undefined for those that remain as they are. */
  update(
    runs: readonly IRunRow[],
    change: (run: IRunRow) => IRunChange | undefined
  ): Promise<void> {
    return this.#changeEach(runs, async run => {
      const changes = change(run);
      if (changes !== undefined) {
        await this.#client.updateRun(run, changes);
        const current = this.#runs.get(run.id);
        if (current !== undefined) {
          this.#runs.set(run.id, withChange(current, changes));
        }
      }
    });
  }

  /** Delete runs with their checkpoints; those that are already deleted are no error. */
  delete(runs: readonly IRunRow[], withPinned: boolean): Promise<void> {
    return this.#changeEach(runs, async run => {
      try {
        await this.#client.deleteRun(run, withPinned);
      } catch (error) {
        if (!isNotFound(error)) {
          throw error;
        }
      }
      this.#runs.delete(run.id);
    });
  }

  /** Add runs, or replace those that have changed. */
  merge({ runs, notebooks }: IRunTable, mustEmit = false): void {
    let isChanged = mustEmit;
    for (const [id, notebook] of Object.entries(notebooks)) {
      if (!isEqual(notebook, this.#notebooks.get(id))) {
        this.#notebooks.set(id, notebook);
        isChanged = true;
      }
    }
    for (const run of runs) {
      const known = this.#runs.get(run.id);
      if (run !== known && !isEqual(run, known)) {
        this.#runs.set(run.id, run);
        isChanged = true;
      }
    }
    if (isChanged) {
      this.#listener.onRunsChanged();
    }
  }

  /** Load changes; one load at a time. */
  #load(): Promise<void> {
    this.#loading ??= this.#loadChanges().finally(() => {
      this.#loading = undefined;
    });
    return this.#loading;
  }

  async #loadChanges(): Promise<void> {
    try {
      if (!this.#isComplete) {
        await this.#loadFirst();
        await this.#loadAll();
      } else {
        await this.#loadRecent();
        if (this.#mustReload && Date.now() >= this.#nextReload) {
          await this.#loadAll();
        }
      }
      await this.#listener.loadDependent();
      this.#setProblem(undefined);
    } catch (error) {
      if (!this.#poll.isDisposed) {
        this.#setProblem(toProblem(error));
      }
      throw error;
    }
  }

  /** Load the newest runs, so that there is something to see soon. */
  async #loadFirst(): Promise<void> {
    if (!this.#isLoaded) {
      const page = await this.#background.runTable({ sort: '-started_at', limit: FIRST_PAGE });
      this.#isLoaded = true;
      this.merge(page);
    }
  }

  async #loadAll(): Promise<void> {
    const editCount = this.#editCount;
    const start = Date.now();
    const table = await this.#background.runTable();
    if (editCount !== this.#editCount) {
      return; // the next poll tries again
    }
    this.#mustReload = false;
    this.#revision = table.revision;
    this.#nextReload =
      Date.now() + Math.max(MIN_RELOAD_INTERVAL, (Date.now() - start) / RELOAD_SHARE);
    const isFirst = !this.#isComplete;
    this.#isComplete = true;
    this.#recent = recentFilter(table.runs);
    const present = new Set(table.runs.map(({ id }) => id));
    const gone = [...this.#runs.values()].filter(
      run => !present.has(run.id) && run.archived !== true
    );
    for (const { id } of gone) {
      this.#runs.delete(id);
    }
    if (gone.length > 0) {
      this.#listener.onRunsChanged();
    }
    this.merge(table, isFirst || gone.length > 0);
  }

  /** Load the runs that are running and those that began or ended lately; find out whether others have changed. */
  async #loadRecent(): Promise<void> {
    const editCount = this.#editCount;
    const table = await this.#background.runTable({ where: this.#recent });
    // Also a response without changes of the store may be new: that to another filter, or if a run was found dead.
    const { isChanged, revision } = table;
    const isNewRevision = revision === null ? isChanged : revision !== this.#revision;
    if (!isChanged && !isNewRevision) {
      return;
    }
    if (isNewRevision) {
      this.#revision = revision ?? this.#revision;
      this.#changeCount += 1;
      this.#mustReload = true;
      this.#listener.onOutdated();
    }
    if (editCount !== this.#editCount) {
      return; // all runs are loaded again
    }
    const present = new Set(table.runs.map(({ id }) => id));
    if ([...this.#runs.values()].some(run => run.status === 'running' && !present.has(run.id))) {
      this.#mustReload = true; // it was deleted, or found dead
      this.#listener.onOutdated();
      this.#nextReload = 0;
    }
    this.merge(table);
  }

  /** Change runs concurrently. Rejects with an AggregateError if any failed, or with the error for a single run. */
  async #changeEach(
    runs: readonly IRunRow[],
    change: (run: IRunRow) => Promise<void>
  ): Promise<void> {
    const queue = [...runs].reverse();
    const errors: unknown[] = [];
    const work = async (): Promise<void> => {
      for (let run = queue.pop(); run !== undefined; run = queue.pop()) {
        try {
          await change(run);
        } catch (error) {
          errors.push(error);
          if (!(error instanceof ResponseError)) {
            queue.length = 0; // the server is unreachable
          }
        }
        this.#editCount += 1;
      }
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, work));
    this.#listener.onOutdated();
    this.#listener.onRunsChanged();
    this.reload();
    if (errors.length > 0) {
      throw runs.length === 1 ? errors[0] : new AggregateError(errors);
    }
  }

  #setProblem(problem: Omit<IProblem, 'since'> | undefined): void {
    const last = this.#problem;
    if (problem?.kind !== last?.kind || problem?.message !== last?.message) {
      this.#problem = problem && { ...problem, since: last?.since ?? new Date() };
      this.#listener.onProblemChanged();
    }
  }
}

/** Return the filter of the runs that may change: those that are running, and those that begin or end from now on. */
function recentFilter(runs: readonly IRunRow[]): string {
  let newest = '1970';
  for (const { started_at, ended_at = '' } of runs) {
    newest = started_at > newest ? started_at : newest;
    newest = ended_at > newest ? ended_at : newest;
  }
  return `status == "running" or started_at >= "${newest}" or ended_at >= "${newest}"`;
}

/** Return a run after a change by the user. */
function withChange(run: IRunRow, change: IRunChange): IRunRow {
  const entries = Object.entries({ ...run, ...change });
  return Object.fromEntries(
    entries.filter(([, value]) => value !== null && value !== '')
  ) as unknown as IRunRow;
}
