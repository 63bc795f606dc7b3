/** The filter of the runs that the Training Runs page shows. */

import type { AxonClient } from '../api.ts';
import { ResponseError } from '../api.ts';
import { isEqual } from '../pure/equal.ts';
import type { IRunRow, IRunTable } from '../records.ts';

/** A filter that names this field also selects archived runs. */
const NAMES_ARCHIVED = /(?<![\w."'[])archived\b/;

/** Why a filter cannot be used. */
export interface IFilterError {
  where: string;
  message: string;
  position: number | undefined;
  suggestions: readonly string[];
}

/** A filter, and the runs that the last valid one selects. */
export class RunFilter {
  readonly #onFound: (runs: IRunTable) => void;
  readonly #onChanged: (isSelectionChanged: boolean) => void;
  #where = '';
  /** The keys of the selected runs; undefined without a filter. */
  #keys: ReadonlySet<string> | undefined;
  #error: IFilterError | undefined;
  /** Whether runs have changed since the filter was applied, or it could not be applied. */
  #isOutdated = true;
  #count = 0;

  /**
   * @param onFound - Called with runs that may not be loaded yet.
   * @param onChanged - Called after a change; the argument tells whether other runs are selected.
   */
  constructor(
    onFound: (runs: IRunTable) => void,
    onChanged: (isSelectionChanged: boolean) => void
  ) {
    this.#onFound = onFound;
    this.#onChanged = onChanged;
  }

  /** The filter that was set last. */
  get where(): string {
    return this.#where;
  }

  get error(): IFilterError | undefined {
    return this.#error;
  }

  selects(run: IRunRow): boolean {
    return this.#keys === undefined ? run.archived !== true : this.#keys.has(run.id);
  }

  /** Set the filter; an empty text selects all runs that are not archived. */
  async set(where: string, client: AxonClient): Promise<void> {
    const last = this.#where;
    this.#where = where.trim();
    if (this.#where !== last) {
      this.#onChanged(false);
    }
    await this.#apply(client);
  }

  /** Apply the filter again with the next update. */
  markOutdated(): void {
    this.#isOutdated = true;
  }

  /** Apply the filter if it may select other runs than the last time. */
  async update(client: AxonClient): Promise<void> {
    if (this.#isOutdated && this.#where !== '') {
      await this.#apply(client);
    }
  }

  async #apply(client: AxonClient): Promise<void> {
    const where = this.#where;
    this.#count += 1;
    const count = this.#count;
    this.#isOutdated = false;
    try {
      const keys = where === '' ? undefined : await this.#find(client, where);
      if (count === this.#count) {
        this.#set(keys, undefined);
      }
    } catch (error) {
      if (!(error instanceof ResponseError) || error.status !== 400) {
        this.#isOutdated = true; // the next update tries again
        throw error;
      }
      if (count === this.#count) {
        const { message, position, suggestions } = error;
        this.#set(this.#keys, { where, message, position, suggestions });
      }
    }
  }

  async #find(client: AxonClient, where: string): Promise<ReadonlySet<string>> {
    if (!NAMES_ARCHIVED.test(where)) {
      return new Set(await client.runKeys(where));
    }
    const table = await client.runTable({ where }); // the archived ones are not loaded yet
    this.#onFound(table);
    return new Set(table.runs.map(({ id }) => id));
  }

  #set(keys: ReadonlySet<string> | undefined, error: IFilterError | undefined): void {
    const last = this.#keys;
    const isSame =
      keys === last ||
      (keys !== undefined && keys.size === last?.size && [...keys].every(id => last.has(id)));
    if (!isSame || !isEqual(error, this.#error)) {
      this.#keys = keys;
      this.#error = error;
      this.#onChanged(!isSame);
    }
  }
}
