/** Which notebook is in front, and its model. */

import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import type { Contents } from '@jupyterlab/services';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { AxonClient } from './api.ts';
import { RecordModel } from './model.ts';

/** Drives whose files the Jupyter server itself has: its own, and that of jupyter-collaboration. */
const SERVED = ['', 'RTC'];

/** Models of open notebooks, each made when it is first asked for. */
export class Front {
  readonly #client: AxonClient;
  readonly #tracker: INotebookTracker;
  readonly #contents: Contents.IManager;
  readonly #models = new WeakMap<NotebookPanel, RecordModel>();
  readonly #changed = new Signal<this, void>(this);

  constructor(client: AxonClient, tracker: INotebookTracker, contents: Contents.IManager) {
    this.#client = client;
    this.#tracker = tracker;
    this.#contents = contents;
    tracker.currentChanged.connect(() => {
      this.#changed.emit();
    });
  }

  /** Emitted when another notebook comes to the front. */
  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  /** The notebook in front. */
  get panel(): NotebookPanel | null {
    return this.#tracker.currentWidget;
  }

  /** Its model; undefined where there is none, or its file is not this server's. */
  get model(): RecordModel | undefined {
    return this.panel === null ? undefined : this.modelOf(this.panel);
  }

  modelOf(panel: NotebookPanel): RecordModel | undefined {
    const { context } = panel;
    if (!SERVED.includes(this.#contents.driveName(context.path))) {
      return undefined;
    }
    const there = this.#models.get(panel);
    if (there !== undefined) {
      return there;
    }
    const model = new RecordModel(this.#client, this.#contents.localPath(context.path));
    this.#models.set(panel, model);
    context.pathChanged.connect((_context, path) => {
      model.path = this.#contents.localPath(path);
    });
    context.fileChanged.connect(() => {
      model.refresh();
    });
    panel.disposed.connect(() => {
      model.dispose();
    });
    return model;
  }
}
