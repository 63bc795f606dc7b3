/** The user's settings; see `schema/panel.json`. */

import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import { PLUGIN_ID } from './ids.ts';

export type SectionName = 'record' | 'curves' | 'checkpoints' | 'cells' | 'versions';
export type SectionState = 'open' | 'closed' | 'hidden';

const SECTIONS: Record<SectionName, SectionState> = {
  record: 'open',
  curves: 'open',
  checkpoints: 'open',
  cells: 'closed',
  versions: 'closed'
};

/** The settings of the panel; the defaults if there is no setting registry. */
export class PanelSettings {
  readonly #changed = new Signal<this, void>(this);
  #settings: ISettingRegistry.ISettings | undefined;

  /** Load the settings and keep them up to date. */
  async load(registry: ISettingRegistry | null): Promise<void> {
    this.#settings = await registry?.load(PLUGIN_ID);
    this.#settings?.changed.connect(() => this.#changed.emit());
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  /** Milliseconds between two polls. */
  get pollInterval(): number {
    return 1000 * Number(this.#settings?.composite['pollInterval'] ?? 1);
  }

  /** The metric to prefer; empty for none. */
  get preferredMetric(): string {
    const metric = this.#settings?.composite['preferredMetric'];
    return typeof metric === 'string' ? metric : '';
  }

  get sections(): Record<SectionName, SectionState> {
    return { ...SECTIONS, ...(this.#settings?.composite['sections'] as object | undefined) };
  }
}
