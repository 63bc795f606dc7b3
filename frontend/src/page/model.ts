/** The runs of all notebooks, as the Training Runs page shows them. */

import type { IDisposable } from '@lumino/disposable';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { AxonClient } from '../api.ts';
import { direction } from '../pure/direction.ts';
import { defaultMetric } from '../pure/metrics.ts';
import type { IVocabulary } from '../pure/runs.ts';
import { bestRuns, collectVocabulary } from '../pure/runs.ts';
import type { IRunReproducibility, IRunRow } from '../records.ts';
import { SeriesLoader } from '../series.ts';
import type { PanelSettings } from '../settings.ts';
import { RunCollection } from './collection.ts';
import type { IFilterError } from './runfilter.ts';
import { RunFilter } from './runfilter.ts';
import { ReproducibilityLoader } from './reproducibility.ts';

/** The metric by which runs are compared. */
export interface IRanking {
  metric: string;
  minimize: boolean;
}

/**
 * All runs, a filter, and a selection.
 *
 * Everything is in memory, so that the table sorts and groups without requests. `changed` is emitted only if something
 * has changed.
 */
export class RunsModel implements IDisposable {
  /** The client for requests of the user. */
  readonly client: AxonClient;
  /** The client for requests that changes of runs cause, which are no activity of the user. */
  readonly background: AxonClient;
  /** All runs, as the server has them. */
  readonly runs: RunCollection;
  /** The logged values of the runs that are drawn. */
  readonly series: SeriesLoader;
  readonly #settings: PanelSettings;
  readonly #changed = new Signal<this, void>(this);
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
    this.runs = new RunCollection(this.client, this.background, {
      onRunsChanged: () => this.#onRunsChanged(),
      onProblemChanged: () => this.#changed.emit(),
      onOutdated: () => this.#filter.markOutdated(),
      loadDependent: () => this.#loadDependent()
    });
    this.series = new SeriesLoader(this.background, id => loggedState(this.runs.all.get(id)));
    this.#filter = new RunFilter(
      runs => this.runs.merge(runs),
      isSelectionChanged => {
        this.#shown = isSelectionChanged ? undefined : this.#shown;
        this.#visibleSelection = undefined;
        this.#changed.emit();
      }
    );
    this.#reproducibility = new ReproducibilityLoader(
      this.background,
      {
        has: id => this.runs.all.has(id),
        baseOf: id => this.baseOf(this.runs.all.get(id)),
        changeCount: () => this.runs.changeCount
      },
      () => {
        if (!this.isDisposed) {
          this.#changed.emit();
        }
      }
    );
    settings.changed.connect(this.#onSettingsChanged, this);
    this.#onSettingsChanged();
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  get isDisposed(): boolean {
    return this.runs.isDisposed;
  }

  dispose(): void {
    if (!this.isDisposed) {
      this.runs.dispose();
      this.client.clearCache();
      this.background.clearCache();
      this.series.dispose();
      Signal.clearData(this);
    }
  }

  /** The number of all runs that are not archived. */
  get total(): number {
    let count = 0;
    for (const run of this.runs.all.values()) {
      count += run.archived === true ? 0 : 1;
    }
    return count;
  }

  /** Return a run by `id` or `run_id`. */
  run(id: string): IRunRow | undefined {
    return this.runs.all.get(id) ?? [...this.runs.all.values()].find(({ run_id }) => run_id === id);
  }

  notebook(id: string): { name: string; path?: string } | undefined {
    return this.runs.notebooks.get(id);
  }

  get notebookNames(): readonly string[] {
    return [...new Set([...this.runs.notebooks.values()].map(({ name }) => name))].sort();
  }

  /** The runs that the filter selects. */
  get shown(): readonly IRunRow[] {
    this.#shown ??= [...this.runs.all.values()].filter(run => this.#filter.selects(run));
    return this.#shown;
  }

  /** The configuration keys, metrics, tags and groups of all runs. */
  get vocabulary(): IVocabulary {
    this.#vocabulary ??= collectVocabulary([...this.runs.all.values()]);
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
          : order.flatMap(({ id }) =>
              this.#selected.has(id) ? (this.runs.all.get(id) ?? []) : []
            );
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
    return this.#detailsId === undefined ? undefined : this.runs.all.get(this.#detailsId);
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
    this.#bestRuns ??= bestRuns([...this.runs.all.values()], this.ranking);
    return this.#bestRuns;
  }

  /** The run with which the user compares the others, unless it is archived. */
  get baseline(): IRunRow | undefined {
    const run = this.runs.all.get(this.#baselineId);
    return run?.archived === true ? undefined : run;
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

  /** Show the details of a run, which may be archived; returns whether it exists. */
  async open(id: string): Promise<boolean> {
    if (this.run(id) === undefined) {
      const query = id.includes('/') ? { id: [id] } : { ids: id };
      this.runs.merge(await this.client.runTable(query)); // also if it is archived
    }
    const run = this.run(id);
    if (run !== undefined) {
      this.showDetails(run.id);
    }
    return run !== undefined;
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
    this.runs.setInterval(this.#settings.pollInterval);
    this.#onRunsChanged();
  }

  #onRunsChanged(): void {
    this.#shown = undefined;
    this.#visibleSelection = undefined;
    this.#vocabulary = undefined;
    this.#bestRuns = undefined;
    if ([...this.#selected.keys()].some(id => !this.runs.all.has(id))) {
      this.#selected = new Map([...this.#selected].filter(([id]) => this.runs.all.has(id)));
    }
    if (!this.isDisposed) {
      this.#changed.emit();
    }
  }

  /** Load what depends on the runs. */
  async #loadDependent(): Promise<void> {
    await this.#filter.update(this.background);
    void this.#loadReproducibility();
    this.series.load().catch(() => undefined); // its `error` reports it
  }

  #loadReproducibility(): Promise<void> {
    const details = this.#detailsId === undefined ? [] : [this.#detailsId];
    return this.#reproducibility.load([...new Set([...this.#visible, ...details])]);
  }
}

/** Return what changes with the logged values of a run and the metrics of its checkpoints. */
function loggedState(run: IRunRow | undefined): unknown {
  return run && [run.step_count, run.checkpoint_count, run.metrics];
}
