/** What the panel knows of one notebook. */

import { ServerConnection } from '@jupyterlab/services';
import type { IDisposable } from '@lumino/disposable';
import { DisposableDelegate } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { AxonClient } from './api.ts';
import { Absence, Refusal } from './api.ts';
import { Checkpoints } from './checkpoints.ts';
import type {
  IFlag,
  INotebook,
  INotebookChange,
  INotebookSummary,
  IVersionSummary
} from './records.ts';

/** Milliseconds between two looks at the server while somebody watches. */
const INTERVAL = 1000;
/** The most that passes between two tries to reach a server that is gone. */
const PATIENCE = 20_000;
/** Versions that are asked for at once. */
const VERSIONS = 100;

/** Why what is shown may be old. */
export interface ITrouble {
  /** No server answered; else it did, and said this. */
  unreachable: boolean;
  /** A server answered that knows nothing of records. */
  absent: boolean;
  message: string;
  since: Date;
}

/** What speaks against a checkpoint coming out again: the one that is selected, else the newest. */
export interface IDrift {
  checkpointId: string;
  flags: IFlag[];
}

/**
 * The record of the notebook at a path, its checkpoints and versions, kept up to date while somebody watches.
 *
 * Nothing is asked of the server before `refresh` or `watch`. `changed` is emitted after every change.
 */
export class RecordModel implements IDisposable {
  /** For what the user asks for. */
  readonly client: AxonClient;
  /** For what is asked again and again. */
  readonly #background: AxonClient;
  readonly checkpoints: Checkpoints;
  readonly #changed = new Signal<this, void>(this);
  readonly #poll: Poll;
  #path: string;
  #watchers = 0;
  #summary: INotebookSummary | undefined;
  #notebook: INotebook | undefined;
  #versions: readonly IVersionSummary[] = [];
  #versionCount = 0;
  #drift: IDrift | undefined;
  #driftOf = '';
  #seen = '';
  #changes: Promise<void> = Promise.resolve();
  #changeCount = 0;
  #looked = false;
  #looking: Promise<void> | undefined;
  #again = false;
  #isAsked = false;
  #trouble: ITrouble | undefined;

  constructor(client: AxonClient, path: string) {
    this.client = client.apart(); // what it keeps is this notebook's
    this.#background = client.apart({ background: true });
    this.#path = path;
    this.checkpoints = new Checkpoints(this.#background);
    this.checkpoints.changed.connect(this.#onCheckpoints, this);
    this.#poll = new Poll({
      name: 'jupyter-axon-notebooks:record',
      factory: () => this.#lookOnce(),
      frequency: { interval: INTERVAL, backoff: 2, max: PATIENCE },
      standby: 'when-hidden',
      auto: false
    });
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  get isDisposed(): boolean {
    return this.#poll.isDisposed;
  }

  /** The path in the contents API. */
  get path(): string {
    return this.#path;
  }

  /** The notebook was renamed. */
  set path(path: string) {
    if (path !== this.#path) {
      this.#path = path;
      this.refresh();
    }
  }

  /** Whether the server has answered yet; until then nobody knows whether there is a record. */
  get isLoaded(): boolean {
    return this.#looked;
  }

  get summary(): INotebookSummary | undefined {
    return this.#summary;
  }

  /** The record with its cells; missing until somebody watches. */
  get notebook(): INotebook | undefined {
    return this.#notebook;
  }

  /** Newest first; those that have been asked for. */
  get versions(): readonly IVersionSummary[] {
    return this.#versions;
  }

  /** How many there are. */
  get versionCount(): number {
    return this.#versionCount;
  }

  get drift(): IDrift | undefined {
    return this.#drift;
  }

  get trouble(): ITrouble | undefined {
    return this.#trouble;
  }

  dispose(): void {
    if (!this.isDisposed) {
      this.#poll.dispose();
      this.checkpoints.dispose();
      this.client.forget();
      this.#background.forget();
      Signal.clearData(this);
    }
  }

  /** Keep everything up to date until what this returns is disposed of. */
  watch(): IDisposable {
    this.#watchers += 1;
    this.refresh();
    void this.#poll.start();
    return new DisposableDelegate(() => {
      this.#watchers -= 1;
      if (this.#watchers === 0 && !this.isDisposed) {
        void this.#poll.stop();
      }
    });
  }

  /** Look at the server now, whether or not somebody watches; `isAsked` by the user. */
  refresh(isAsked = false): void {
    this.#isAsked ||= isAsked;
    this.#again = this.#looking !== undefined;
    this.#lookOnce().catch(() => undefined); // `trouble` tells
  }

  /** Make the record of a notebook that has none. */
  async record(): Promise<void> {
    await this.client.sync(this.#path);
    this.refresh();
  }

  /**
   * Change what the file does not say; `change` makes of the record as it is then what is to be changed.
   *
   * One change waits for the other, and each is made of what the server says at that time: others change records, too.
   */
  update(change: (now: INotebookSummary) => INotebookChange): Promise<void> {
    const id = this.#summary?.id;
    const done = this.#changes.then(() => this.#update(id, change));
    this.#changes = done.catch(() => undefined);
    return done;
  }

  async #update(
    id: string | undefined,
    change: (now: INotebookSummary) => INotebookChange
  ): Promise<void> {
    const now = await this.client.findByPath(this.#path);
    if (now === undefined || now.id !== id) {
      return; // what is shown by now is another record
    }
    try {
      const { cells, ...updated } = await this.client.updateNotebook(id, change(now));
      if (this.#summary?.id === id) {
        this.#summary = { ...updated, cell_count: cells.length };
      }
    } finally {
      this.#changeCount += 1;
    }
    this.#emit();
  }

  /** Ask for older versions. */
  async moreVersions(): Promise<void> {
    const id = this.#summary?.id;
    const offset = this.#versions.length;
    if (id !== undefined) {
      const page = await this.client.versions(id, { limit: VERSIONS, offset });
      if (id === this.#summary?.id) {
        this.#takeVersions([...this.#versions, ...page.items], page.total);
        this.#emit();
      }
    }
  }

  /** Look, unless that is being done. */
  #lookOnce(): Promise<void> {
    this.#looking ??= this.#lookUntilSeen().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookUntilSeen(): Promise<void> {
    do {
      this.#again = false;
      await this.#look();
    } while (this.#again as boolean);
  }

  async #look(): Promise<void> {
    const path = this.#path;
    const changes = this.#changeCount;
    const client = this.#isAsked ? this.client : this.#background;
    this.#isAsked = false;
    try {
      const summary = await client.findByPath(path);
      if (path !== this.#path || this.isDisposed) {
        return;
      }
      if (changes !== this.#changeCount) {
        this.#again = true; // it was asked for before something was changed
        return;
      }
      this.#take(summary);
      if (summary !== undefined && this.#watchers > 0) {
        await this.#lookCloser(summary);
      }
      this.#trouble = undefined;
    } catch (error) {
      if (this.isDisposed) {
        return;
      }
      this.#trouble = trouble(error, this.#trouble);
      this.#emit();
      throw error;
    }
    this.#emit();
  }

  #take(summary: INotebookSummary | undefined): void {
    if (summary?.id !== this.#summary?.id) {
      this.#notebook = undefined;
      this.#versions = [];
      this.#versionCount = 0;
      this.#drift = undefined;
      this.#driftOf = '';
      this.#seen = '';
      this.checkpoints.clear();
    }
    this.#looked = true;
    this.#summary = summary;
    this.#emit();
  }

  async #lookCloser(summary: INotebookSummary): Promise<void> {
    const { id } = summary;
    const seen = [id, summary.version_id, summary.updated_at].join(' ');
    const cells = seen === this.#seen ? undefined : this.#lookAtCells(id);
    await Promise.all([cells, this.checkpoints.refresh(id)]);
    this.#seen = seen;
    await this.#lookForDrift(summary);
  }

  async #lookAtCells(id: string): Promise<void> {
    const [notebook, versions] = await Promise.all([
      this.#background.notebook(id),
      this.#background.versions(id, { limit: VERSIONS })
    ]);
    if (id !== this.#summary?.id) {
      return;
    }
    this.#notebook = notebook;
    const isNext = versions.items.some(({ id }) => this.#versions.some(known => known.id === id));
    this.#takeVersions([...versions.items, ...(isNext ? this.#versions : [])], versions.total);
    this.#emit();
  }

  /** Each once; those that come first are the newest. */
  #takeVersions(versions: readonly IVersionSummary[], count: number): void {
    this.#versions = [...new Map(versions.map(version => [version.id, version])).values()];
    this.#versionCount = count;
  }

  #onCheckpoints(): void {
    this.#emit();
    if (this.#summary !== undefined && this.#watchers > 0) {
      this.#lookForDrift(this.#summary).catch(() => undefined); // the next look at the server tells what is wrong
    }
  }

  /** See whether the code is still what the checkpoint that is selected came from; else the newest. */
  async #lookForDrift(summary: INotebookSummary): Promise<void> {
    const { newest, selected } = this.checkpoints;
    const only = selected.size === 1 ? this.checkpoints.row([...selected].join('')) : undefined;
    const checkpoint = (only ?? newest)?.detail;
    const { id, version_id: now } = summary;
    const then = checkpoint?.version_id;
    if (checkpoint === undefined || then === undefined || now === undefined) {
      this.#drift = undefined;
      this.#driftOf = '';
      return;
    }
    const key = [checkpoint.id, then, now].join(' ');
    if (key === this.#driftOf) {
      return;
    }
    this.#driftOf = key;
    try {
      const { executed, flags } = await this.#background.provenance(id, checkpoint.id);
      const isKnown = executed.length > 0 || then === now;
      const found = isKnown ? flags : await this.#changedSince(id, then, now);
      if (key === this.#driftOf) {
        this.#drift = { checkpointId: checkpoint.id, flags: found };
        this.#emit();
      }
    } catch (error) {
      if (key === this.#driftOf) {
        this.#driftOf = '';
      }
      throw error;
    }
  }

  /** What was executed is not known: the code that was saved then and is another now. */
  async #changedSince(id: string, then: string, now: string): Promise<IFlag[]> {
    const changes = await this.#background.diff(id, then, now);
    return changes.flatMap(({ change, cell_id }): IFlag[] => {
      if (change === 'removed') {
        return [{ kind: 'deleted', message: '' }];
      }
      return change === 'changed' && this.#isCode(cell_id)
        ? [{ kind: 'drifted', cell_id, message: '' }]
        : [];
    });
  }

  #isCode(cellId: string): boolean {
    return this.#notebook?.cells.find(cell => cell.id === cellId)?.cell_type === 'code';
  }

  #emit(): void {
    if (!this.isDisposed) {
      this.#changed.emit();
    }
  }
}

function trouble(error: unknown, before: ITrouble | undefined): ITrouble {
  const unreachable = error instanceof ServerConnection.NetworkError;
  if (!unreachable && !(error instanceof Refusal)) {
    throw error;
  }
  const absent = error instanceof Absence;
  return { unreachable, absent, message: error.message, since: before?.since ?? new Date() };
}
