/** The runs of all notebooks, as the Training Runs page shows them. */

import { JSONExt } from '@lumino/coreutils';
import type { PartialJSONValue } from '@lumino/coreutils';
import type { IDisposable } from '@lumino/disposable';
import { DisposableDelegate } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { AxonClient } from '../api.ts';
import { isNotFound, ResponseError } from '../api.ts';
import type { IProblem } from '../model.ts';
import { toProblem } from '../model.ts';
import { direction } from '../pure/direction.ts';
import { defaultMetric } from '../pure/metrics.ts';
import type { IVocabulary } from '../pure/runs.ts';
import { bestRuns, collectVocabulary } from '../pure/runs.ts';
import type { IRunChange, IRunReproducibility, IRunRow, IRunTable } from '../records.ts';
import { SeriesLoader } from '../series.ts';
import type { PanelSettings } from '../settings.ts';
import type { IFilterError } from './matching.ts';
import { RunFilter } from './matching.ts';
import { ReproducibilityLoader } from './reproducibility.ts';

/** Longest time in milliseconds between two attempts to reach the server. */
const MAX_BACKOFF = 20_000;
/** Number of runs that are requested first, so that the page is not empty until all are loaded. */
const FIRST_PAGE = 200;
/** All runs are requested again after changes: at most so often (milliseconds), and for a small part of the time. */
const MIN_RELOAD_INTERVAL = 5000;
const RELOAD_SHARE = 0.02;
/** Number of requests at a time if the user changes many runs. */
const CONCURRENCY = 4;
export interface IRanking {
  metric: string;
  minimize: boolean;
}

/**
 * All runs, a filter, and a selection.
 *
 * Everything is in memory, so that the table sorts and groups without requests. While it is watched, it polls the
 * server: one conditional request for the runs that may have changed, and more only after a change. `changed` is
 * emitted only if something has changed.
 */
export class RunsModel implements IDisposable {
  /** The client for requests of the user. */
  readonly client: AxonClient;
  /** The client for requests that changes of runs cause, which are no activity of the user. */
  readonly background: AxonClient;
  /** The logged values of the runs that are drawn. */
  readonly series: SeriesLoader;
  readonly #settings: PanelSettings;
  readonly #changed = new Signal<this, void>(this);
  readonly #poll: Poll;
  #watcherCount = 0;
  #runs = new Map<string, IRunRow>();
  #notebooks = new Map<string, { name: string; path?: string }>();
  #isLoaded = false;
  #isComplete = false;
  #problem: IProblem | undefined;
  #loading: Promise<void> | undefined;
  /** Counts changes of the store that were seen. */
  #changeCount = 0;
  /** Counts changes by the user; a response to an earlier request may not reflect them. */
  #editCount = 0;
  #mustReload = false;
  #nextReload = 0;
  /** The filter of the requests for changes; the same as long as possible, for conditional requests. */
  #recent = '';
  /** The revision of the store that was seen last. */
  #revision: string | null = null;

  #shown: readonly IRunRow[] | undefined;
  #order: readonly IRunRow[] = [];
  #visibleSelection: readonly IRunRow[] | undefined;
  #vocabulary: IVocabulary | undefined;
  #selected = new Map<string, number>();
  #chosenRanking: IRanking | undefined;
  #bestRuns: ReadonlyMap<string, string> | undefined;
  readonly #filter: RunFilter;
  #baselineId = '';
  readonly #reproducibility: ReproducibilityLoader;
  #visible: readonly string[] = [];
  #detailsId: string | undefined;

  constructor(client: AxonClient, settings: PanelSettings) {
    this.client = client.clone();
    this.background = client.clone({ background: true });
    this.#settings = settings;
    this.series = new SeriesLoader(this.background, id => loggedState(this.#runs.get(id)));
    this.#filter = new RunFilter(
      runs => this.#merge(runs),
      areOthers => {
        this.#shown = areOthers ? undefined : this.#shown;
        this.#visibleSelection = undefined;
        this.#changed.emit();
      }
    );
    this.#reproducibility = new ReproducibilityLoader(
      this.background,
      {
        has: id => this.#runs.has(id),
        baseOf: id => this.baseOf(this.#runs.get(id)),
        changeCount: () => this.#changeCount
      },
      () => {
        if (!this.isDisposed) {
          this.#changed.emit();
        }
      }
    );
    this.#poll = new Poll({
      name: 'jupyter-axon-notebooks:runs',
      factory: () => this.#load(),
      standby: 'when-hidden',
      auto: false
    });
    settings.changed.connect(this.#onSettingsChanged, this);
    this.#onSettingsChanged();
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  get isDisposed(): boolean {
    return this.#poll.isDisposed;
  }

  dispose(): void {
    if (!this.isDisposed) {
      this.#poll.dispose();
      this.client.clearCache();
      this.background.clearCache();
      this.series.dispose();
      Signal.clearData(this);
    }
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

  /** The number of all runs that are not archived. */
  get total(): number {
    let count = 0;
    for (const run of this.#runs.values()) {
      count += run.archived === true ? 0 : 1;
    }
    return count;
  }

  /** Return a run by `id` or `run_id`. */
  run(id: string): IRunRow | undefined {
    return this.#runs.get(id) ?? [...this.#runs.values()].find(({ run_id }) => run_id === id);
  }

  notebook(id: string): { name: string; path?: string } | undefined {
    return this.#notebooks.get(id);
  }

  get notebookNames(): readonly string[] {
    return [...new Set([...this.#notebooks.values()].map(({ name }) => name))].sort();
  }

  /** The runs that the filter selects. */
  get shown(): readonly IRunRow[] {
    this.#shown ??= [...this.#runs.values()].filter(run => this.#filter.selects(run));
    return this.#shown;
  }

  /** The configuration keys, metrics, tags and groups of all runs. */
  get vocabulary(): IVocabulary {
    this.#vocabulary ??= collectVocabulary([...this.#runs.values()]);
    return this.#vocabulary;
  }

  /** The filter that was set last; `shown` is that of the last valid one. */
  get where(): string {
    return this.#filter.where;
  }

  get filterError(): IFilterError | undefined {
    return this.#filter.error;
  }

  /** Set the filter; an empty text selects all runs that are not archived. */
  filter(where: string): Promise<void> {
    return this.#filter.set(where, this.client);
  }

  /** The selected runs with the index of their colour. */
  get selected(): ReadonlyMap<string, number> {
    return this.#selected;
  }

  /** The selected runs that the filter does not hide, in the order of the table. */
  get visibleSelection(): readonly IRunRow[] {
    if (this.#visibleSelection === undefined) {
      const order = this.#order.length === this.shown.length ? this.#order : this.shown;
      this.#visibleSelection =
        this.#selected.size === 0
          ? []
          : order.flatMap(({ id }) => (this.#selected.has(id) ? (this.#runs.get(id) ?? []) : []));
    }
    return this.#visibleSelection;
  }

  /** The runs that the filter selects, in the order of the table. */
  get ordered(): readonly IRunRow[] {
    return this.#order;
  }

  /** Set the order in which the table shows the runs. */
  setOrder(runs: readonly IRunRow[]): void {
    const last = this.visibleSelection;
    this.#order = runs;
    this.#visibleSelection = undefined;
    if (this.visibleSelection.some(({ id }, index) => last[index]?.id !== id)) {
      this.#changed.emit();
    }
  }

  /** Select these runs only. */
  select(ids: Iterable<string>): void {
    const wanted = new Set(ids);
    const kept = [...this.#selected].filter(([id]) => wanted.has(id));
    const used = new Set(kept.map(([, colour]) => colour));
    this.#selected = new Map(kept);
    let next = 0;
    for (const id of wanted) {
      if (!this.#selected.has(id)) {
        while (used.has(next)) {
          next += 1;
        }
        used.add(next);
        this.#selected.set(id, next);
      }
    }
    this.#visibleSelection = undefined;
    this.#changed.emit();
  }

  /** The run whose details are shown. */
  get details(): IRunRow | undefined {
    return this.#detailsId === undefined ? undefined : this.#runs.get(this.#detailsId);
  }

  showDetails(id: string | undefined): void {
    if (id !== this.#detailsId) {
      this.#detailsId = id;
      void this.#loadReproducibility();
      this.#changed.emit();
    }
  }

  /** The metric by which runs are compared. */
  get ranking(): IRanking | undefined {
    const { metrics } = this.vocabulary;
    if (this.#chosenRanking !== undefined && metrics.includes(this.#chosenRanking.metric)) {
      return this.#chosenRanking;
    }
    const preferred = this.#settings.preferred;
    const metric = defaultMetric(metrics, preferred.metric);
    if (metric === undefined) {
      return undefined;
    }
    const minimize = metric === preferred.metric ? preferred.minimize : undefined;
    return { metric, minimize: minimize ?? direction(metric) !== 'max' };
  }

  rankBy(metric: string, minimize = direction(metric) !== 'max'): void {
    this.#chosenRanking = { metric, minimize };
    this.#bestRuns = undefined;
    this.#changed.emit();
  }

  /** Return the direction of a metric, as the user chose it if they did. */
  direction(metric: string): 'min' | 'max' | undefined {
    const { ranking } = this;
    return ranking?.metric === metric ? (ranking.minimize ? 'min' : 'max') : direction(metric);
  }

  /** The best run of each notebook, by the metric that it has. */
  get bestRuns(): ReadonlyMap<string, string> {
    this.#bestRuns ??= bestRuns([...this.#runs.values()], this.ranking);
    return this.#bestRuns;
  }

  /** The run with which the user compares the others. */
  get baseline(): IRunRow | undefined {
    return this.#runs.get(this.#baselineId);
  }

  setBaseline(id: string): void {
    if (id !== this.#baselineId) {
      this.#baselineId = id;
      void this.#loadReproducibility();
      this.#changed.emit();
    }
  }

  /** Return the run with whose code that of a run is compared: the baseline if it is of the same notebook, else the best. */
  baseOf(run: IRunRow | undefined): string | undefined {
    const { baseline } = this;
    return baseline !== undefined && baseline.notebook_id === run?.notebook_id
      ? baseline.id
      : this.bestRuns.get(run?.notebook_id ?? '');
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

  /** Show the details of a run, which may be archived; returns whether it exists. */
  async open(id: string): Promise<boolean> {
    if (this.run(id) === undefined) {
      const query = id.includes('/') ? { id: [id] } : { ids: id };
      this.#merge(await this.client.runTable(query)); // also if it is archived
    }
    const run = this.run(id);
    if (run !== undefined) {
      this.showDetails(run.id);
    }
    return run !== undefined;
  }

  /** Change each of these runs; `change` returns undefined for those that remain as they are. */
  update(
    runs: readonly IRunRow[],
    change: (run: IRunRow) => IRunChange | undefined
  ): Promise<void> {
    return this.#changeEach(runs, async run => {
      const changes = change(run);
      if (changes !== undefined) {
        await this.client.updateRun(run, changes);
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
        await this.client.deleteRun(run, withPinned);
      } catch (error) {
        if (!isNotFound(error)) {
          throw error;
        }
      }
      this.#runs.delete(run.id);
    });
  }

  /** Return what is known of the reproducibility of a run; undefined until it is loaded. */
  reproducibility(id: string): IRunReproducibility | undefined {
    return this.#reproducibility.get(id);
  }

  /** Load the reproducibility of the runs that the table shows now, and of the details; keep it up to date. */
  watchReproducibility(ids: readonly string[]): void {
    this.#visible = ids;
    void this.#loadReproducibility();
  }

  #onSettingsChanged(): void {
    const interval = this.#settings.pollInterval;
    this.#poll.frequency = { interval, backoff: 2, max: Math.max(MAX_BACKOFF, interval) };
    if (this.#watcherCount > 0) {
      void this.#poll.refresh(); // the next poll may be scheduled for much later
    }
    this.#onRunsChanged();
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
      await this.#filter.update(this.background);
      void this.#loadReproducibility();
      this.series.load().catch(() => undefined); // its `error` reports it
      this.#setProblem(undefined);
    } catch (error) {
      if (!this.isDisposed) {
        this.#setProblem(toProblem(error));
      }
      throw error;
    }
  }

  /** Load the newest runs, so that there is something to see soon. */
  async #loadFirst(): Promise<void> {
    if (!this.#isLoaded) {
      const page = await this.background.runTable({ sort: '-started_at', limit: FIRST_PAGE });
      this.#isLoaded = true;
      this.#merge(page);
    }
  }

  async #loadAll(): Promise<void> {
    const editCount = this.#editCount;
    const start = Date.now();
    const table = await this.background.runTable();
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
      this.#onRunsChanged();
    }
    this.#merge(table, isFirst || gone.length > 0);
  }

  /** Load the runs that are running and those that began or ended lately; find out whether others have changed. */
  async #loadRecent(): Promise<void> {
    const editCount = this.#editCount;
    const table = await this.background.runTable({ where: this.#recent });
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
      this.#filter.markOutdated();
    }
    if (editCount !== this.#editCount) {
      return; // all runs are loaded again
    }
    const present = new Set(table.runs.map(({ id }) => id));
    if ([...this.#runs.values()].some(run => run.status === 'running' && !present.has(run.id))) {
      this.#mustReload = true; // it was deleted, or found dead
      this.#filter.markOutdated();
      this.#nextReload = 0;
    }
    this.#merge(table);
  }

  /** Add runs, or replace those that have changed. */
  #merge({ runs, notebooks }: IRunTable, mustEmit = false): void {
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
      this.#onRunsChanged();
    }
  }

  #onRunsChanged(): void {
    this.#shown = undefined;
    this.#visibleSelection = undefined;
    this.#vocabulary = undefined;
    this.#bestRuns = undefined;
    if ([...this.#selected.keys()].some(id => !this.#runs.has(id))) {
      this.#selected = new Map([...this.#selected].filter(([id]) => this.#runs.has(id)));
    }
    if (!this.isDisposed) {
      this.#changed.emit();
    }
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
    this.#filter.markOutdated();
    this.#onRunsChanged();
    this.reload();
    if (errors.length > 0) {
      throw runs.length === 1 ? errors[0] : new AggregateError(errors);
    }
  }

  #loadReproducibility(): Promise<void> {
    const details = this.#detailsId === undefined ? [] : [this.#detailsId];
    return this.#reproducibility.load([...new Set([...this.#visible, ...details])]);
  }

  #setProblem(problem: Omit<IProblem, 'since'> | undefined): void {
    const last = this.#problem;
    if (problem?.kind !== last?.kind || problem?.message !== last?.message) {
      this.#problem = problem && { ...problem, since: last?.since ?? new Date() };
      this.#changed.emit();
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

/** Return what changes with the logged values of a run and the metrics of its checkpoints. */
function loggedState(run: IRunRow | undefined): unknown {
  return run && [run.step_count, run.checkpoint_count, run.metrics];
}

/** Return a run after a change by the user. */
function withChange(run: IRunRow, change: IRunChange): IRunRow {
  const entries = Object.entries({ ...run, ...change });
  return Object.fromEntries(
    entries.filter(([, value]) => value !== null && value !== '')
  ) as unknown as IRunRow;
}

function isEqual(a: unknown, b: unknown): boolean {
  return JSONExt.deepEqual((a ?? null) as PartialJSONValue, (b ?? null) as PartialJSONValue);
}
