/** The user's settings; see `schema/panel.json`. */

import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import { PLUGIN_ID } from './ids.ts';

export type SectionName = 'curves' | 'checkpoints' | 'record' | 'cells' | 'versions';
export type SectionState = 'open' | 'closed' | 'hidden';

const SECTIONS: Record<SectionName, SectionState> = {
  curves: 'open',
  checkpoints: 'open',
  record: 'closed',
  cells: 'closed',
  versions: 'closed'
};

/** The metric to prefer, empty for none, and whether lower is better unless its name tells. */
export interface IPreferredRanking {
  metric: string;
  minimize?: boolean;
}

/** The settings of the panel; the defaults if there is no setting registry. */
export class PanelSettings {
  readonly #changed = new Signal<this, void>(this);
  #settings: ISettingRegistry.ISettings | undefined;
  /** Columns that were chosen in the panel, and may not be saved yet. */
  #columns: readonly string[] | undefined;

  /** Load the settings and keep them up to date. */
  async load(registry: ISettingRegistry | null): Promise<void> {
    this.#settings = await registry?.load(PLUGIN_ID);
    this.#settings?.changed.connect(() => {
      this.#columns = undefined;
      this.#changed.emit();
    });
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  /** Milliseconds between two polls. */
  get pollInterval(): number {
    return 1000 * Number(this.#settings?.composite['pollInterval'] ?? 1);
  }

  get preferred(): IPreferredRanking {
    const { preferredMetric, preferredDirection } = this.#settings?.composite ?? {};
    const metric = typeof preferredMetric === 'string' ? preferredMetric : '';
    return preferredDirection === 'lower' || preferredDirection === 'higher'
      ? { metric, minimize: preferredDirection === 'lower' }
      : { metric };
  }

  /** The columns of the table of checkpoints; empty for those that fit. */
  get columns(): readonly string[] {
    const columns = this.#columns ?? this.#settings?.composite['columns'];
    return Array.isArray(columns) ? columns.map(String) : [];
  }

  /** Choose the columns and save them, if there is a setting registry. */
  async setColumns(columns: readonly string[]): Promise<void> {
    this.#columns = [...columns];
    this.#changed.emit();
    await this.#settings?.set('columns', [...columns]);
  }

  /** Whether the panel is opened when the application starts. */
  get openAtStart(): boolean {
    return this.#settings?.composite['openAtStart'] === true;
  }

  get sections(): Record<SectionName, SectionState> {
    return { ...SECTIONS, ...(this.#settings?.composite['sections'] as object | undefined) };
  }
}
