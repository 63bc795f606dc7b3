/** The record models of all open notebooks. */

import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import type { Contents } from '@jupyterlab/services';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { AxonClient } from './api.ts';
import { RecordModel } from './model.ts';
import type { PanelSettings } from './settings.ts';
import type { ITrainingPanel } from './tokens.ts';

/** Drives that serve files of this server: the default one and that of jupyter-collaboration. */
const SERVER_DRIVES = ['', 'RTC'];

/** Creates a model for each notebook on first use and knows which notebook is the current one. */
export class RecordModelRegistry implements ITrainingPanel {
  readonly #client: AxonClient;
  readonly #settings: PanelSettings;
  readonly #tracker: INotebookTracker;
  readonly #contents: Contents.IManager;
  readonly #models = new WeakMap<NotebookPanel, RecordModel>();
  readonly #currentChanged = new Signal<this, void>(this);

  constructor(
    client: AxonClient,
    settings: PanelSettings,
    tracker: INotebookTracker,
    contents: Contents.IManager
  ) {
    this.#client = client;
    this.#settings = settings;
    this.#tracker = tracker;
    this.#contents = contents;
    tracker.currentChanged.connect(() => this.#currentChanged.emit());
  }

  get currentChanged(): ISignal<this, void> {
    return this.#currentChanged;
  }

  /** The current notebook. */
  get panel(): NotebookPanel | null {
    return this.#tracker.currentWidget;
  }

  /** The model of the current notebook. */
  get current(): RecordModel | undefined {
    return this.panel === null ? undefined : this.get(this.panel);
  }

  /** Return the model of a notebook; undefined if its file is not on this server. */
  get(panel: NotebookPanel): RecordModel | undefined {
    const { context } = panel;
    if (!SERVER_DRIVES.includes(this.#contents.driveName(context.path))) {
      return undefined;
    }
    const existing = this.#models.get(panel);
    if (existing !== undefined) {
      return existing;
    }
    const path = this.#contents.localPath(context.path);
    const model = new RecordModel(this.#client, this.#settings, path);
    this.#models.set(panel, model);
    context.pathChanged.connect((_context, path) => {
      model.path = this.#contents.localPath(path);
    });
    context.fileChanged.connect(() => model.refresh());
    panel.disposed.connect(() => model.dispose());
    return model;
  }
}
