/** The public interface for other extensions. */

import { Token } from '@lumino/coreutils';
import type { ISignal } from '@lumino/signaling';

import type { ICheckpointRow } from './pure/rows.ts';
import type { INotebookRecord } from './records.ts';

/** The training record of one open notebook. */
export interface ITrainingRecord {
  /** The path of the notebook in the contents API. */
  readonly path: string;
  /** The record, with its cells while the panel is visible; undefined if there is none. */
  readonly record: INotebookRecord | undefined;
  /** The checkpoints in no particular order; loaded while the training panel is visible. */
  readonly rows: readonly ICheckpointRow[];
  /** Emitted when any of the above has changed. */
  readonly changed: ISignal<ITrainingRecord, void>;
  /** Ask the server for changes now. */
  refresh(): void;
}

/** Gives access to the training record of the current notebook. */
export interface ITrainingPanel {
  /** The record of the current notebook; undefined if no notebook of this server is open. */
  readonly current: ITrainingRecord | undefined;
  /** Emitted when another notebook becomes the current one. */
  readonly currentChanged: ISignal<ITrainingPanel, void>;
}

/** The token by which other extensions request an `ITrainingPanel`. */
export const ITrainingPanel = new Token<ITrainingPanel>(
  'jupyter-axon-notebooks:ITrainingPanel',
  'Gives access to the training record of the current notebook.'
);
