/** The logged values of the runs that are drawn. */

import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { AxonClient } from './api.ts';
import type { SeriesOfRuns } from './pure/series.ts';
import { keepUnchanged } from './pure/series.ts';

/** Number of points of a series that are requested; a chart is hardly wider in pixels. */
const POINTS = 500;

/** Loads the series of the metrics that are drawn: one request at a time, and only for runs that have changed. */
export class SeriesLoader {
  readonly #client: AxonClient;
  readonly #stateOf: (run: string) => unknown;
  readonly #changed = new Signal<this, void>(this);
  #runs: readonly string[] = [];
  #metrics: readonly string[] = [];
  #series: SeriesOfRuns = {};
  /** By run, the state in which its series were loaded. */
  readonly #states = new Map<string, string>();
  #loading: Promise<void> | undefined;
  #isLoaded = false;
  #error: string | undefined;

  /**
   * @param stateOf - Returns something that changes with the values of a run, given its key; undefined if it has none.
   */
  constructor(client: AxonClient, stateOf: (run: string) => unknown) {
    this.#client = client;
    this.#stateOf = stateOf;
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  /** The loaded series by key of the run and metric; a new object after every change. */
  get series(): SeriesOfRuns {
    return this.#series;
  }

  /** Whether something that is wanted was loaded, or could not be. */
  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  /** Why what is wanted could not be loaded. */
  get error(): string | undefined {
    return this.#error;
  }

  dispose(): void {
    Signal.clearData(this);
    this.clear();
  }

  /** Forget everything. */
  clear(): void {
    this.#runs = [];
    this.#keepWanted();
  }

  /** Load these metrics of these runs, given their keys, now and whenever `load` is called. */
  want(runs: readonly string[], metrics: readonly string[]): void {
    this.#runs = runs;
    this.#metrics = metrics;
    this.#keepWanted();
    this.load().catch(() => undefined); // `error` reports it, and whoever calls `load` next
  }

  /** Load what has changed; rejects if it cannot be loaded. */
  load(): Promise<void> {
    this.#loading ??= this.#load().finally(() => {
      this.#loading = undefined;
    });
    return this.#loading;
  }

  async #load(): Promise<void> {
    try {
      for (let states = this.#outdated(); states.size > 0; states = this.#outdated()) {
        const found = await this.#client.series([...states.keys()], this.#metrics, POINTS);
        for (const [run, state] of states) {
          this.#states.set(run, state);
        }
        this.#series = { ...this.#series, ...keepUnchanged(this.#series, found) };
        this.#keepWanted(); // others may be wanted meanwhile
        this.#isLoaded = true;
        this.#error = undefined;
        this.#changed.emit();
      }
      this.#finish(undefined);
    } catch (error) {
      this.#finish(error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  #finish(error: string | undefined): void {
    if (!this.#isLoaded || error !== this.#error) {
      this.#isLoaded = true;
      this.#error = error;
      this.#changed.emit();
    }
  }

  /** Forget the runs that are no longer wanted. */
  #keepWanted(): void {
    const wanted = new Set(this.#runs);
    const kept = Object.entries(this.#series).filter(([run]) => wanted.has(run));
    if (kept.length < Object.keys(this.#series).length) {
      this.#series = Object.fromEntries(kept);
    }
    for (const run of this.#states.keys()) {
      if (!wanted.has(run)) {
        this.#states.delete(run);
      }
    }
    this.#isLoaded &&= this.#states.size > 0;
  }

  /** Return the states of the runs that have changed since they were loaded. */
  #outdated(): Map<string, string> {
    const outdated = new Map<string, string>();
    for (const run of this.#metrics.length === 0 ? [] : this.#runs) {
      const current = this.#stateOf(run);
      const state = JSON.stringify([this.#metrics, current]);
      if (current !== undefined && state !== this.#states.get(run)) {
        outdated.set(run, state);
      }
    }
    return outdated;
  }
}
