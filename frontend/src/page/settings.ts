/** The settings of the Training Runs page; see `schema/runs.json`. */

import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import type { PartialJSONValue } from '@lumino/coreutils';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import { RUNS_PLUGIN_ID } from '../ids.ts';

export interface ITableSettings {
  /** Empty for those that are chosen from the runs. */
  readonly columns: readonly string[];
  /** Pixels by column. */
  readonly widths: Readonly<Record<string, number>>;
  /** Columns, with `-` before those in descending order. */
  readonly sort: readonly string[];
  /** The column by which runs are grouped; empty for none. */
  readonly group: string;
  /** The run with which the others are compared; empty for none. */
  readonly baseline: string;
  /** The share of the height that the area of the selected runs has, and of the width that the details have. */
  readonly selectionShare: number;
  readonly detailsShare: number;
}

const DEFAULTS: ITableSettings = {
  columns: [],
  widths: {},
  sort: ['-started_at'],
  group: '',
  baseline: '',
  selectionShare: 0.55,
  detailsShare: 0.28
};

/** The settings of the table, which its controls change; the defaults if there is no setting registry. */
export class RunsSettings {
  readonly #changed = new Signal<this, void>(this);
  #settings: ISettingRegistry.ISettings | undefined;
  #table = DEFAULTS;
  /** Changes that are not stored yet; they apply until the stored settings have them. */
  #unsaved: Partial<ITableSettings> = {};
  #saving = Promise.resolve();

  /** Load the settings and keep them up to date. */
  async load(registry: ISettingRegistry | null): Promise<void> {
    this.#settings = await registry?.load(RUNS_PLUGIN_ID);
    this.#settings?.changed.connect(this.#read, this);
    this.#read();
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  get table(): ITableSettings {
    return this.#table;
  }

  /** Change settings at once, and store them. */
  update(change: Partial<ITableSettings>): Promise<void> {
    this.#unsaved = { ...this.#unsaved, ...change };
    this.#read();
    this.#saving = this.#saving.then(() => this.#save());
    return this.#saving;
  }

  /** Store the changes one after the other; those that cannot be stored apply until the page is loaded again. */
  async #save(): Promise<void> {
    for (const name of Object.keys(this.#unsaved) as (keyof ITableSettings)[]) {
      const value = this.#unsaved[name];
      try {
        await this.#settings?.set(name, value as PartialJSONValue);
      } catch {
        continue;
      }
      if (this.#settings !== undefined && this.#unsaved[name] === value) {
        this.#unsaved = Object.fromEntries(
          Object.entries(this.#unsaved).filter(([other]) => other !== name)
        );
      }
    }
  }

  #read(): void {
    const stored = this.#settings?.composite as Partial<ITableSettings> | undefined;
    this.#set({ ...DEFAULTS, ...stored, ...this.#unsaved });
  }

  #set(table: ITableSettings): void {
    if (JSON.stringify(table) !== JSON.stringify(this.#table)) {
      this.#table = table;
      this.#changed.emit();
    }
  }
}
