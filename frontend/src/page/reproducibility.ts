/** Whether runs can be reproduced, loaded for the runs that are visible. */

import type { AxonClient } from '../api.ts';
import { isEqual } from '../pure/equal.ts';
import type { IRunReproducibility } from '../records.ts';

/** Least time in milliseconds between two requests for what is known but may be outdated. */
const INTERVAL = 5000;

/** What is known of the runs of the store. */
export interface IRunSource {
  has: (id: string) => boolean;
  /** Return the run with whose code that of a run is compared. */
  baseOf: (id: string) => string | undefined;
  /** Return the number of changes of the store that were seen. */
  changeCount: () => number;
}

interface IKnown {
  result: IRunReproducibility;
  withoutCode: IRunReproducibility;
  base: string | undefined;
  changeCount: number;
}

/** Loads the reproducibility of runs, many in one request and one request at a time. */
export class ReproducibilityLoader {
  readonly #client: AxonClient;
  readonly #runs: IRunSource;
  readonly #onChanged: () => void;
  readonly #known = new Map<string, IKnown>();
  #time = 0;
  #isLoading = false;

  constructor(client: AxonClient, runs: IRunSource, onChanged: () => void) {
    this.#client = client;
    this.#runs = runs;
    this.#onChanged = onChanged;
  }

  /** Return what is known of a run, without a comparison with another run than now; undefined until it is loaded. */
  get(id: string): IRunReproducibility | undefined {
    const known = this.#known.get(id);
    return known === undefined || known.base === this.#runs.baseOf(id)
      ? known?.result
      : known.withoutCode;
  }

  /** Load what is missing or outdated; what cannot be loaded remains as it is. */
  async load(wanted: readonly string[]): Promise<void> {
    const mayUpdate = Date.now() >= this.#time + INTERVAL;
    const ids = wanted.filter(id => this.#runs.has(id) && this.#isNeeded(id, mayUpdate));
    if (this.#isLoading || ids.length === 0) {
      return;
    }
    this.#time = Date.now();
    this.#isLoading = true;
    const changeCount = this.#runs.changeCount();
    const bases = new Map(ids.map(id => [id, this.#runs.baseOf(id)]));
    let isChanged = false;
    try {
      const found = await this.#client.reproducibility(ids, id => bases.get(id));
      const results = new Map(found.map(result => [result.run_id, result]));
      for (const id of ids) {
        const found = results.get(id) ?? { run_id: id, notebook_id: '', flags: [] };
        const withoutCode = { ...found };
        delete withoutCode.code;
        delete withoutCode.changed_cells;
        const base = bases.get(id);
        const result = base === undefined ? withoutCode : found; // or it was compared with one of another notebook
        isChanged ||= !isEqual(this.get(id), result);
        this.#known.set(id, { result, withoutCode, base, changeCount });
      }
    } catch {
      // the next call tries again
    } finally {
      this.#isLoading = false;
    }
    if (isChanged) {
      this.#onChanged();
    }
  }

  #isNeeded(id: string, mayUpdate: boolean): boolean {
    const known = this.#known.get(id);
    if (known === undefined) {
      return true;
    }
    const { base, changeCount } = known;
    return (
      base !== this.#runs.baseOf(id) || (mayUpdate && changeCount !== this.#runs.changeCount())
    );
  }
}
