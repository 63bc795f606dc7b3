/** The checkpoints of one notebook: their rows, ranking and selection. */

import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { AxonClient } from './api.ts';
import { isNotFound, PAGE_SIZE, ResponseError } from './api.ts';
import { allMetrics } from './pure/curves.ts';
import { keepEqual } from './pure/equal.ts';
import type { IFilterError, IParsedFilter } from './pure/filter.ts';
import { parseFilter } from './pure/filter.ts';
import { defaultMetric, isMinimized } from './pure/metrics.ts';
import type { ICheckpointRow } from './pure/rows.ts';
import { metricNames, runOrder, toRow, toRows } from './pure/rows.ts';
import type { ICheckpoint, ICheckpointChange, IRun } from './records.ts';
import type { IPreferredRanking } from './settings.ts';

/** Number of the newest checkpoints that are checked for changed tags and pins with every change of the store. */
const RECENT = 50;
/** One page of older checkpoints is checked in so many polls. */
const POLLS_PER_PAGE = 5;
/** Number of concurrent changes. */
const CONCURRENCY = 4;
/** Number of changes after which their results are shown. */
const BATCH_SIZE = 100;

/** The metric by which checkpoints are ranked, and whether lower is better. */
export interface IRanking {
  metric: string;
  minimize: boolean;
}

/**
 * All checkpoints of a notebook.
 *
 * They are loaded twice: first the metrics of all in one compact response, then page by page with tags, pins and
 * sizes. Later refreshes load only new checkpoints and check known ones for changes. A response to a request that was
 * sent before a change by the user is ignored, since it may not reflect that change.
 */
export class CheckpointList {
  readonly #client: AxonClient;
  readonly #changed = new Signal<this, void>(this);
  readonly #revealed = new Signal<this, string>(this);
  #preferred: IPreferredRanking = { metric: '' };
  #notebookId = '';
  #rowsById = new Map<string, ICheckpointRow>();
  #rows: readonly ICheckpointRow[] = [];
  #metrics: readonly string[] = [];
  #allMetrics: readonly string[] = [];
  #runOrder: readonly string[] = [];
  #runs: ReadonlyMap<string, IRun> = new Map();
  #chosenRanking: IRanking | undefined;
  #best: string | undefined;
  /** The ranking and revision for which `best` was requested. */
  #bestKey = '';
  /** Counts the changes that may make another checkpoint the best. */
  #revision = 0;
  /** Counts the changes by the user. */
  #editCount = 0;
  #filter = '';
  #matches: IParsedFilter['matches'];
  #filterError: IFilterError | undefined;
  #visibleRows: readonly ICheckpointRow[] = [];
  /** Selected checkpoints, whether the filter hides them or not. */
  #allSelected: ReadonlySet<string> = new Set();
  #selected: ReadonlySet<string> = new Set();
  #isComplete = false;
  #pollCount = 0;
  /** Number of pages of older checkpoints to check, and the next one. */
  #uncheckedPages = 0;
  #nextPage = 0;

  constructor(client: AxonClient) {
    this.#client = client;
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  /** Emitted with the id of a checkpoint that the user wants to see in the table. */
  get revealed(): ISignal<this, string> {
    return this.#revealed;
  }

  /** Whether the checkpoints are loaded; there may be none. */
  get isLoaded(): boolean {
    return this.#isComplete || this.#rows.length > 0;
  }

  /** The checkpoints in no particular order; a new array after every change. */
  get rows(): readonly ICheckpointRow[] {
    return this.#rows;
  }

  /** The metrics of checkpoints. */
  get metrics(): readonly string[] {
    return this.#metrics;
  }

  /** The metrics of checkpoints and those that were only logged. */
  get allMetrics(): readonly string[] {
    return this.#allMetrics;
  }

  /** The ids of runs by their start. */
  get runOrder(): readonly string[] {
    return this.#runOrder;
  }

  get runs(): ReadonlyMap<string, IRun> {
    return this.#runs;
  }

  /** The user's choice, else one for the preferred metric. */
  get ranking(): IRanking | undefined {
    if (this.#chosenRanking !== undefined) {
      return this.#chosenRanking;
    }
    const preferred = this.#preferred.metric;
    const metric = this.#allMetrics.includes(preferred)
      ? preferred
      : (defaultMetric(this.#metrics) ?? defaultMetric(this.#allMetrics));
    return metric === undefined ? undefined : this.rankingOf(metric);
  }

  /** Return the ranking by a metric in its usual or preferred direction. */
  rankingOf(metric: string): IRanking {
    const { metric: preferred, minimize } = this.#preferred;
    const isPreferred = metric === preferred && minimize !== undefined;
    return { metric, minimize: isPreferred ? minimize : isMinimized(metric) };
  }

  /** Choose another ranking. */
  rankBy(ranking: IRanking): void {
    this.#chosenRanking = ranking;
    this.#onRankingChanged();
  }

  /** The ranking to use unless the user chooses another one. */
  set preferred(preferred: IPreferredRanking) {
    if (!isSame(preferred, this.#preferred)) {
      this.#preferred = preferred;
      this.#onRankingChanged();
    }
  }

  /** The id of the best checkpoint, as ranked by the server. */
  get best(): string | undefined {
    return this.#best;
  }

  get newest(): ICheckpointRow | undefined {
    let newest: ICheckpointRow | undefined;
    for (const row of this.#rows) {
      if (newest === undefined || row.createdAt > newest.createdAt) {
        newest = row;
      }
    }
    return newest;
  }

  /** The filter of the table, which decides which rows are visible; see `parseFilter`. */
  get filter(): string {
    return this.#filter;
  }

  /** Show only what matches a filter. */
  filterBy(filter: string): void {
    if (filter !== this.#filter) {
      this.#filter = filter;
      this.#applyFilter();
      this.#changed.emit();
    }
  }

  /** Why the filter is invalid; meanwhile, the last valid one decides. */
  get filterError(): IFilterError | undefined {
    return this.#filterError;
  }

  /** The rows that match the filter. */
  get visibleRows(): readonly ICheckpointRow[] {
    return this.#visibleRows;
  }

  /** The selected checkpoints that are visible: commands apply to nothing that a filter hides. */
  get selected(): ReadonlySet<string> {
    return this.#selected;
  }

  /** The number of checkpoints that are selected, but hidden by the filter. */
  get hiddenSelectedCount(): number {
    return this.#allSelected.size - this.#selected.size;
  }

  /** Select these of the visible checkpoints; those that the filter hides remain selected. */
  select(ids: Iterable<string>): void {
    const hidden = [...this.#allSelected].filter(id => !this.#selected.has(id));
    this.#allSelected = new Set([...hidden, ...ids]);
    this.#applyFilter();
    this.#changed.emit();
  }

  /** Select none, not even a hidden one. */
  clearSelection(): void {
    this.#allSelected = new Set();
    this.#selected = new Set();
    this.#changed.emit();
  }

  /** Show a checkpoint in the table, whatever the filter. */
  reveal(id: string): void {
    if (!this.#visibleRows.some(row => row.id === id)) {
      this.filterBy('');
    }
    this.#revealed.emit(id);
  }

  row(id: string): ICheckpointRow | undefined {
    return this.#rowsById.get(id);
  }

  /** Return the checkpoints from which runs were resumed, by run. */
  parents(): Map<string, ICheckpointRow> {
    const parents = new Map<string, ICheckpointRow>();
    for (const run of this.#runs.values()) {
      const parent = this.#rowsById.get(run.parent_checkpoint_id ?? '');
      if (parent !== undefined) {
        parents.set(run.id, parent);
      }
    }
    return parents;
  }

  dispose(): void {
    Signal.clearData(this);
    this.clear();
  }

  /** Forget everything, when the notebook gets another record. */
  clear(): void {
    this.#notebookId = '';
    this.#runs = new Map();
    this.#chosenRanking = undefined;
    this.#best = undefined;
    this.#bestKey = '';
    this.#allSelected = new Set();
    this.#filter = '';
    this.#isComplete = false;
    this.#uncheckedPages = 0;
    this.#setRows(new Map());
  }

  /** Load all checkpoints again with the next refresh. */
  markStale(): void {
    this.#isComplete = false;
  }

  /**
   * Load changes from the server; without `isChanged`, only what is still unchecked after an earlier change.
   *
   * Returns whether everything loaded was used; otherwise the user changed something meanwhile.
   */
  async refresh(notebookId: string, isChanged: boolean): Promise<boolean> {
    this.#notebookId = notebookId;
    const isCurrent = this.#trackEdits();
    if (!this.#isComplete) {
      await Promise.all([this.#loadRuns(), this.#loadAll()]);
    } else if (isChanged) {
      await Promise.all([this.#loadRuns(), this.#loadNew()]);
      this.#uncheckedPages = this.#rows.length > RECENT ? this.#pageCount() : 0;
    }
    this.#pollCount += 1;
    if (this.#uncheckedPages > 0 && this.#pollCount % POLLS_PER_PAGE === 0) {
      await this.#checkOlderPage();
    }
    await this.#loadBest();
    return isCurrent();
  }

  /** Change tags or pins; `change` returns undefined for rows that stay as they are. */
  update(
    rows: readonly ICheckpointRow[],
    change: (row: ICheckpointRow) => ICheckpointChange | undefined
  ): Promise<void> {
    const changes = new Map(
      rows.flatMap(row => {
        const changed = change(row);
        return changed === undefined ? [] : [[row, changed] as const];
      })
    );
    return this.#changeEach([...changes.keys()], async (notebookId, row) =>
      toRow(await this.#client.updateCheckpoint(notebookId, row.id, changes.get(row) ?? {}))
    );
  }

  /** Delete checkpoints with their state files; those that are already deleted are no error. */
  delete(rows: readonly ICheckpointRow[]): Promise<void> {
    return this.#changeEach(rows, async (notebookId, { id }) => {
      try {
        await this.#client.deleteCheckpoint(notebookId, id);
      } catch (error) {
        if (!isNotFound(error)) {
          throw error;
        }
      }
      return undefined;
    });
  }

  /**
   * Change checkpoints concurrently; `change` returns the new row, or undefined for a deleted one.
   *
   * The failure of one does not stop the others unless the server is unreachable. Rejects with an AggregateError if
   * any failed, or with the error itself for a single checkpoint.
   */
  async #changeEach(
    rows: readonly ICheckpointRow[],
    change: (notebookId: string, row: ICheckpointRow) => Promise<ICheckpointRow | undefined>
  ): Promise<void> {
    const notebookId = this.#notebookId;
    const queue = [...rows].reverse();
    const errors: unknown[] = [];
    const work = async (): Promise<void> => {
      for (let row = queue.pop(); row !== undefined; row = queue.pop()) {
        try {
          const changed = await change(notebookId, row);
          if (notebookId === this.#notebookId) {
            this.#replaceRow(row.id, changed);
            if (queue.length > 0 && queue.length % BATCH_SIZE === 0) {
              this.#setRows(this.#rowsById);
            }
          }
        } catch (error) {
          errors.push(error);
          if (!(error instanceof ResponseError)) {
            queue.length = 0;
          }
        }
      }
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, work));
    if (notebookId === this.#notebookId) {
      this.#setRows(this.#rowsById);
    }
    await this.#loadBest();
    if (errors.length > 0) {
      throw rows.length === 1 ? errors[0] : new AggregateError(errors);
    }
  }

  #replaceRow(id: string, row: ICheckpointRow | undefined): void {
    this.#editCount += 1;
    if (row === undefined) {
      this.#rowsById.delete(id);
      this.#revision += 1;
    } else {
      this.#rowsById.set(id, row);
    }
  }

  /** Load all checkpoints; until then, the present rows remain. */
  async #loadAll(): Promise<void> {
    const isCurrent = this.#trackEdits();
    const id = this.#notebookId;
    const rows = new Map<string, ICheckpointRow>();
    const isFirstLoad = this.#rows.length === 0;
    const add = (loaded: ICheckpointRow[]): void => {
      for (const row of loaded) {
        if (row.detail !== undefined || !rows.has(row.id)) {
          rows.set(row.id, row);
        }
      }
      if (isFirstLoad && isCurrent() && loaded.length > 0) {
        this.#revision += 1;
        this.#setRows(rows);
      }
    };
    add(((await ignoreRefusal(this.#client.metrics(id))) ?? []).flatMap(toRows));
    let total = PAGE_SIZE;
    for (let offset = 0; offset < total && isCurrent(); offset += PAGE_SIZE) {
      const page = await this.#client.checkpoints(id, { limit: PAGE_SIZE, offset });
      total = page.total;
      add(page.items.map(toRow));
    }
    if (isCurrent()) {
      this.#isComplete = true;
      this.#revision += 1;
      this.#setRows(rows);
    }
  }

  /** Load the newest checkpoints, or all if that is not enough: there are many new ones, or some are deleted. */
  async #loadNew(): Promise<void> {
    const isCurrent = this.#trackEdits();
    const { items, total } = await this.#client.checkpoints(this.#notebookId, { limit: RECENT });
    if (isCurrent()) {
      this.#merge(items);
      if (total !== this.#rowsById.size) {
        await this.#loadAll();
      }
    }
  }

  #pageCount(): number {
    return Math.ceil(this.#rowsById.size / PAGE_SIZE);
  }

  /** Check tags and pins of older checkpoints, in the pages in which they were loaded. */
  async #checkOlderPage(): Promise<void> {
    const isCurrent = this.#trackEdits();
    const offset = (this.#nextPage % this.#pageCount()) * PAGE_SIZE;
    const { items } = await this.#client.checkpoints(this.#notebookId, {
      limit: PAGE_SIZE,
      offset
    });
    if (isCurrent()) {
      this.#merge(items.filter(({ id }) => this.#rowsById.has(id)));
      this.#nextPage += 1;
      this.#uncheckedPages -= 1;
    }
  }

  /** Return a function that tells whether the user has changed nothing since. */
  #trackEdits(): () => boolean {
    const id = this.#notebookId;
    const editCount = this.#editCount;
    return () => id === this.#notebookId && editCount === this.#editCount;
  }

  #merge(checkpoints: readonly ICheckpoint[]): void {
    const changed = checkpoints.filter(
      checkpoint => !isSame(this.#rowsById.get(checkpoint.id)?.detail, checkpoint)
    );
    if (changed.length > 0) {
      this.#revision += changed.some(({ id }) => !this.#rowsById.has(id)) ? 1 : 0;
      for (const checkpoint of changed) {
        this.#rowsById.set(checkpoint.id, toRow(checkpoint));
      }
      this.#setRows(this.#rowsById);
    }
  }

  async #loadRuns(): Promise<void> {
    const id = this.#notebookId;
    const runs = await ignoreRefusal(this.#client.runs(id));
    if (runs !== undefined && id === this.#notebookId && !isSame(runs, [...this.#runs.values()])) {
      this.#runs = new Map(runs.map(run => [run.id, run]));
      this.#derive();
      this.#changed.emit();
    }
  }

  #onRankingChanged(): void {
    this.#changed.emit();
    this.#loadBest().catch(() => undefined); // the next poll reports the problem
  }

  async #loadBest(): Promise<void> {
    const { ranking } = this;
    if (ranking === undefined || this.#notebookId === '') {
      this.#setBest(undefined);
      this.#bestKey = '';
      return;
    }
    const { metric, minimize } = ranking;
    const key = [this.#notebookId, this.#revision, minimize, metric].join(' ');
    if (key === this.#bestKey) {
      return;
    }
    this.#bestKey = key;
    try {
      const best = await this.#client.best(this.#notebookId, metric, minimize);
      if (key === this.#bestKey) {
        this.#setBest(best?.id);
      }
    } catch (error) {
      if (key === this.#bestKey) {
        this.#bestKey = '';
      }
      throw error;
    }
  }

  #setBest(id: string | undefined): void {
    if (id !== this.#best) {
      this.#best = id;
      this.#changed.emit();
    }
  }

  #setRows(rows: Map<string, ICheckpointRow>): void {
    this.#rowsById = rows;
    this.#rows = [...rows.values()];
    this.#metrics = keepEqual(this.#metrics, metricNames(this.#rows));
    this.#derive();
    this.#changed.emit();
  }

  /** Determine what depends on both rows and runs. */
  #derive(): void {
    this.#runOrder = keepEqual(this.#runOrder, runOrder(this.#rows, this.#runs));
    const metrics = allMetrics(this.#metrics, this.#runs.values());
    this.#allMetrics = keepEqual(this.#allMetrics, metrics);
    this.#applyFilter();
  }

  /** Determine which rows and which of the selected ones are visible. */
  #applyFilter(): void {
    const tags = new Set(this.#rows.flatMap(({ detail }) => detail?.tags ?? []));
    const names = { metrics: this.#metrics, tags: [...tags], runs: this.#runs };
    const { matches, error } = parseFilter(this.#filter, names);
    this.#filterError = error;
    if (error === undefined) {
      this.#matches = matches;
    }
    const filter = this.#matches;
    this.#visibleRows = filter === undefined ? this.#rows : this.#rows.filter(filter);
    const existing = [...this.#allSelected].flatMap(id => this.#rowsById.get(id) ?? []);
    const visible = filter === undefined ? existing : existing.filter(filter);
    this.#allSelected = new Set(existing.map(({ id }) => id));
    this.#selected = new Set(visible.map(({ id }) => id));
  }
}

function isSame(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

/** Return the result of a request for optional data; undefined if the server refuses it. */
async function ignoreRefusal<T>(request: Promise<T>): Promise<T | undefined> {
  try {
    return await request;
  } catch (error) {
    if (error instanceof ResponseError) {
      return undefined;
    }
    throw error;
  }
}
