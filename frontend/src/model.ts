/** The training record of one open notebook. */

import { ServerConnection } from '@jupyterlab/services';
import type { IDisposable } from '@lumino/disposable';
import { DisposableDelegate } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { AxonClient } from './api.ts';
import {
  ExtensionMissingError,
  isInaccessible,
  isNotFound,
  ResponseError,
  runIdOf
} from './api.ts';
import type { IChartSettings } from './charts/controls.tsx';
import { CheckpointList } from './checkpoints.ts';
import { isEqual } from './pure/equal.ts';
import type { ICheckpointRow } from './pure/rows.ts';
import type {
  IFlag,
  INotebook,
  INotebookChange,
  INotebookRecord,
  INotebookSummary,
  IRun,
  IVersionSummary
} from './records.ts';
import { SeriesLoader } from './series.ts';
import type { PanelSettings } from './settings.ts';
import type { ITrainingRecord } from './tokens.ts';

/** Longest time in milliseconds between two attempts to reach the server. */
const MAX_BACKOFF = 20_000;
/** Number of versions in one request. */
const VERSION_PAGE_SIZE = 100;

/** Why the data may be outdated. */
export interface IProblem {
  kind: 'unreachable' | 'extension missing' | 'response';
  message: string;
  since: Date;
}

/** Reasons why the selected checkpoint, else the newest one, may not be reproducible. */
export interface IReproducibility {
  checkpointId: string;
  flags: IFlag[];
  /** Whether it is known what was executed; without that, no flags say little. */
  isKnown: boolean;
}

/** The notebook of which another one is a copy; without a name if it is deleted or belongs to somebody else. */
export interface IOrigin {
  id: string;
  name?: string;
  path?: string | undefined;
}

/**
 * The record of the notebook at a path, with its checkpoints and versions.
 *
 * Sends no request before `refresh` or `watch` is called. While it is watched, it polls the server: one conditional
 * request, and more only if that reports a change. `changed` is emitted only if something has changed.
 */
export class RecordModel implements ITrainingRecord, IDisposable {
  /** The client for requests of the user. */
  readonly client: AxonClient;
  readonly checkpoints: CheckpointList;
  /** The logged values of the runs that are drawn. */
  readonly series: SeriesLoader;
  readonly #background: AxonClient;
  readonly #settings: PanelSettings;
  readonly #changed = new Signal<this, void>(this);
  readonly #poll: Poll;
  #chartSettings: Partial<IChartSettings> = {};
  #path: string;
  #watcherCount = 0;
  #isLoaded = false;
  #record: INotebookRecord | undefined;
  /** The path by which the record was found. */
  #recordPath: string | undefined;
  #revision: string | null = null;
  #versions: readonly IVersionSummary[] = [];
  #versionCount = 0;
  /** The state of the record for which `versions` were loaded. */
  #versionsKey = '';
  #reproducibility: IReproducibility | undefined;
  #reproducibilityKey = '';
  #origin: IOrigin | undefined;
  #problem: IProblem | undefined;
  #lastUpdate: Promise<void> = Promise.resolve();
  /** Counts updates by the user; a response to an earlier request may not reflect them. */
  #updateCount = 0;
  #loading: Promise<void> | undefined;
  #mustLoadAgain = false;
  #isUserRequest = false;

  constructor(client: AxonClient, settings: PanelSettings, path: string) {
    this.client = client.clone();
    this.#background = client.clone({ background: true });
    this.#settings = settings;
    this.#path = path;
    this.checkpoints = new CheckpointList(this.#background);
    this.checkpoints.changed.connect(this.#onCheckpointsChanged, this);
    this.series = new SeriesLoader(this.#background, key =>
      loggedState(this.checkpoints.runs.get(runIdOf(key)))
    );
    this.series.changed.connect(() => this.#emitIf(true));
    this.#poll = new Poll({
      name: 'jupyter-axon-notebooks:record',
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

  get path(): string {
    return this.#path;
  }

  set path(path: string) {
    if (path !== this.#path) {
      this.#path = path;
      this.refresh();
    }
  }

  /** Whether the server has answered; before, it is unknown whether there is a record. */
  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  get record(): INotebookRecord | undefined {
    return this.#record;
  }

  get rows(): readonly ICheckpointRow[] {
    return this.checkpoints.rows;
  }

  /** The loaded versions, newest first. */
  get versions(): readonly IVersionSummary[] {
    return this.#versions;
  }

  /** The number of versions, loaded or not. */
  get versionCount(): number {
    return this.#versionCount;
  }

  get reproducibility(): IReproducibility | undefined {
    return this.#reproducibility;
  }

  /** The notebook of which this one is a copy. */
  get origin(): IOrigin | undefined {
    return this.#origin;
  }

  /** What the user has chosen for the charts. */
  get chartSettings(): Partial<IChartSettings> {
    return this.#chartSettings;
  }

  rememberCharts(settings: Partial<IChartSettings>): void {
    this.#chartSettings = settings;
  }

  get problem(): IProblem | undefined {
    return this.#problem;
  }

  dispose(): void {
    if (!this.isDisposed) {
      this.#poll.dispose();
      this.checkpoints.dispose();
      this.series.dispose();
      this.client.clearCache();
      this.#background.clearCache();
      Signal.clearData(this);
    }
  }

  /** Keep everything up to date until the returned object is disposed of. */
  watch(): IDisposable {
    this.#watcherCount += 1;
    this.refresh();
    void this.#poll.start();
    return new DisposableDelegate(() => {
      this.#watcherCount -= 1;
      if (this.#watcherCount === 0 && !this.isDisposed) {
        void this.#poll.stop();
      }
    });
  }

  /** Ask the server for changes now. */
  refresh(): void {
    this.#mustLoadAgain = this.#loading !== undefined;
    this.#load().catch(() => undefined); // `problem` reports it
  }

  /** Load everything again, as a request of the user. */
  reload(): void {
    this.#isUserRequest = true;
    this.#revision = null;
    this.checkpoints.markStale();
    this.refresh();
  }

  /** Create the record of a notebook that has none. */
  async create(): Promise<void> {
    await this.client.sync(this.#path);
    this.refresh();
  }

  /**
   * Change fields that are not part of the notebook file.
   *
   * Updates run one after the other. `change` is called with the current record of the server, which others may have
   * changed meanwhile.
   */
  update(change: (current: INotebookSummary) => INotebookChange): Promise<void> {
    const id = this.#record?.id;
    const update = this.#lastUpdate.then(() => this.#update(id, change));
    this.#lastUpdate = update.catch(() => undefined);
    return update;
  }

  async #update(
    id: string | undefined,
    change: (current: INotebookSummary) => INotebookChange
  ): Promise<void> {
    const current = await this.client.findByPath(this.#path);
    if (current === undefined || current.id !== id) {
      return; // the notebook has got another record meanwhile
    }
    try {
      const notebook = await this.client.updateNotebook(id, change(current));
      if (this.#record?.id === id) {
        this.#setRecord(toRecord(notebook));
      }
    } finally {
      this.#updateCount += 1;
    }
  }

  async loadMoreVersions(): Promise<void> {
    const id = this.#record?.id;
    const offset = this.#versions.length;
    if (id !== undefined) {
      const page = await this.client.versions(id, { limit: VERSION_PAGE_SIZE, offset });
      if (id === this.#record?.id) {
        this.#setVersions([...this.#versions, ...page.items], page.total);
      }
    }
  }

  #onSettingsChanged(): void {
    const interval = this.#settings.pollInterval;
    this.#poll.frequency = { interval, backoff: 2, max: Math.max(MAX_BACKOFF, interval) };
    if (this.#watcherCount > 0) {
      void this.#poll.refresh(); // the next poll may be scheduled for much later
    }
    this.checkpoints.preferred = this.#settings.preferred;
  }

  /** Load changes; one load at a time. */
  #load(): Promise<void> {
    this.#loading ??= this.#loadUntilCurrent().finally(() => {
      this.#loading = undefined;
    });
    return this.#loading;
  }

  async #loadUntilCurrent(): Promise<void> {
    do {
      this.#mustLoadAgain = false;
      await this.#loadChanges();
    } while (this.#mustLoadAgain as boolean);
  }

  async #loadChanges(): Promise<void> {
    const path = this.#path;
    const updateCount = this.#updateCount;
    const client = this.#isUserRequest ? this.client : this.#background;
    this.#isUserRequest = false;
    try {
      const current = await this.#findRecord(client, path);
      if (path !== this.#path || this.isDisposed) {
        return;
      }
      if (updateCount !== this.#updateCount) {
        this.#mustLoadAgain = true;
        return;
      }
      this.#setRecord(current?.record);
      if (current !== undefined && this.#watcherCount > 0) {
        await this.#loadDetails(current);
      }
      this.#setProblem(undefined);
    } catch (error) {
      if (!this.isDisposed) {
        this.#setProblem(toProblem(error));
      }
      throw error;
    }
  }

  /** Request the record by its id; search for it by the path only if there is none yet or it has moved. */
  async #findRecord(client: AxonClient, path: string): Promise<IFoundRecord | undefined> {
    if (this.#record !== undefined && this.#recordPath === path) {
      const current = await getRecord(client, this.#record);
      if (current !== undefined) {
        return current;
      }
    }
    const record = await client.findByPath(path);
    this.#recordPath = path;
    if (record === undefined) {
      return undefined;
    }
    const current = this.#watcherCount > 0 ? await getRecord(client, record) : undefined;
    return current ?? { record, revision: null };
  }

  #setRecord(record: INotebookRecord | undefined): void {
    const isChanged = !this.#isLoaded || !isEqual(record, this.#record);
    if (record?.id !== this.#record?.id) {
      this.#revision = null;
      this.#versions = [];
      this.#versionCount = 0;
      this.#versionsKey = '';
      this.#reproducibility = undefined;
      this.#reproducibilityKey = '';
      this.#origin = undefined;
      this.series.clear();
      this.checkpoints.clear();
    }
    if (isChanged) {
      this.#isLoaded = true;
      this.#record = record;
      this.#changed.emit();
    }
  }

  async #loadDetails({ record, revision }: IFoundRecord): Promise<void> {
    const isChanged = revision === null || revision !== this.#revision;
    const [isComplete] = await Promise.all([
      this.checkpoints.refresh(record.id, isChanged),
      this.#loadVersions(record),
      this.#loadOrigin(record)
    ]);
    await Promise.all([this.#loadReproducibility(), this.series.load()]);
    if (record.id === this.#record?.id) {
      this.#revision = isComplete ? revision : null;
    }
  }

  async #loadVersions({ id, version_id }: INotebookRecord): Promise<void> {
    const key = `${id} ${version_id ?? ''}`;
    if (key === this.#versionsKey) {
      return;
    }
    const { items, total } = await this.#background.versions(id, { limit: VERSION_PAGE_SIZE });
    if (id === this.#record?.id) {
      const overlaps = items.some(({ id }) => this.#versions.some(known => known.id === id));
      this.#setVersions([...items, ...(overlaps ? this.#versions : [])], total);
      this.#versionsKey = key;
    }
  }

  /** Set the versions, of which some may be listed twice. */
  #setVersions(versions: readonly IVersionSummary[], count: number): void {
    this.#versions = [...new Map(versions.map(version => [version.id, version])).values()];
    this.#versionCount = count;
    this.#emitIf(true);
  }

  async #loadOrigin({ id, metadata }: INotebookRecord): Promise<void> {
    const { axon } = metadata.extra as { axon?: { copied_from?: unknown } };
    const from = axon?.copied_from;
    if (typeof from !== 'string' || from === this.#origin?.id) {
      return;
    }
    let origin: IOrigin = { id: from };
    try {
      const { name, path } = (await this.#background.notebook(from)).notebook;
      origin = { id: from, name, path };
    } catch (error) {
      if (!isInaccessible(error)) {
        throw error;
      }
    }
    if (id === this.#record?.id) {
      this.#origin = origin;
      this.#emitIf(true);
    }
  }

  #onCheckpointsChanged(): void {
    this.#emitIf(true);
    if (this.#watcherCount > 0) {
      this.#loadReproducibility().catch(() => undefined); // the next poll reports the problem
    }
  }

  async #loadReproducibility(): Promise<void> {
    const { id, version_id: current } = this.#record ?? {};
    const { newest, selected } = this.checkpoints;
    const [only] = selected.size === 1 ? selected : [];
    const checkpoint = (this.checkpoints.row(only ?? '') ?? newest)?.detail;
    const saved = checkpoint?.version_id;
    if (!checkpoint || id === undefined || saved === undefined || current === undefined) {
      this.#emitIf(this.#reproducibility !== undefined);
      this.#reproducibility = undefined;
      this.#reproducibilityKey = '';
      return;
    }
    const key = [checkpoint.id, saved, current].join(' ');
    if (key === this.#reproducibilityKey) {
      return;
    }
    this.#reproducibilityKey = key;
    try {
      const { executed, flags } = await this.#background.provenance(id, checkpoint.id);
      const isKnown = executed.length > 0;
      const currentFlags =
        isKnown || saved === current ? flags : await this.#compareVersions(id, saved, current);
      if (key === this.#reproducibilityKey) {
        this.#reproducibility = { checkpointId: checkpoint.id, flags: currentFlags, isKnown };
        this.#emitIf(true);
      }
    } catch (error) {
      if (key === this.#reproducibilityKey) {
        this.#reproducibilityKey = '';
      }
      throw error;
    }
  }

  /** Derive flags from the saved code if it is unknown what was executed. */
  async #compareVersions(id: string, from: string, to: string): Promise<IFlag[]> {
    const cells = new Map(this.#record?.cells?.map(cell => [cell.id, cell.cell_type]));
    const changes = await this.#background.diff(id, from, to);
    return changes.flatMap(({ change, cell_id }): IFlag[] => {
      if (change === 'removed') {
        return [{ kind: 'deleted', message: '' }];
      }
      const isCodeChange = change === 'changed' && cells.get(cell_id) === 'code';
      return isCodeChange ? [{ kind: 'drifted', cell_id, message: '' }] : [];
    });
  }

  #setProblem(problem: Omit<IProblem, 'since'> | undefined): void {
    const last = this.#problem;
    if (problem?.kind !== last?.kind || problem?.message !== last?.message) {
      this.#problem = problem && { ...problem, since: last?.since ?? new Date() };
      this.#emitIf(true);
    }
  }

  #emitIf(isChanged: boolean): void {
    if (isChanged && !this.isDisposed) {
      this.#changed.emit();
    }
  }
}

interface IFoundRecord {
  record: INotebookRecord;
  revision: string | null;
}

/** Return a record by its id; undefined if it is deleted or has moved, so that another may belong to the path. */
async function getRecord(
  client: AxonClient,
  { id, path }: INotebookRecord
): Promise<IFoundRecord | undefined> {
  try {
    const { notebook, revision } = await client.notebook(id);
    return notebook.path === path ? { record: toRecord(notebook), revision } : undefined;
  } catch (error) {
    if (isNotFound(error)) {
      return undefined;
    }
    throw error;
  }
}

function toRecord(notebook: INotebook): INotebookRecord {
  return { ...notebook, cell_count: notebook.cells.length };
}

/** Return what changes with the logged values of a run; undefined if all its values are those of its checkpoints. */
function loggedState(run: IRun | undefined): unknown {
  return run?.step_count ? [run.step_count, run.last_step, run.metrics] : undefined;
}

/** Return the problem that an error of a request means. */
export function toProblem(error: unknown): Omit<IProblem, 'since'> {
  if (error instanceof ServerConnection.NetworkError) {
    return { kind: 'unreachable', message: error.message };
  }
  if (error instanceof ResponseError) {
    const kind = error instanceof ExtensionMissingError ? 'extension missing' : 'response';
    return { kind, message: error.message };
  }
  throw error;
}
