/** The logged values of the runs that are drawn. */

import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { AxonClient } from './api.ts';
import { runKey } from './api.ts';
import type { SeriesOfRuns } from './pure/series.ts';
import { keepUnchanged } from './pure/series.ts';
import type { IRun } from './records.ts';

/** Number of points of a series that are requested; a chart is hardly wider in pixels. */
const POINTS = 400;

/**
 * Loads the series of the metrics that are drawn.
 *
 * Only runs that logged something since the last time are requested. A run without logged values is not requested: all
 * its values are those of its checkpoints.
 */
export class SeriesModel {
  readonly #client: AxonClient;
  readonly #changed = new Signal<this, void>(this);
  #runs: ReadonlyMap<string, IRun> = new Map();
  #wantedRuns: readonly string[] = [];
  #wantedMetrics: readonly string[] = [];
  #series: SeriesOfRuns = {};
  /** The states of runs for which their series were loaded. */
  readonly #states = new Map<string, string>();
  #loading: Promise<void> = Promise.resolve();

  constructor(client: AxonClient) {
    this.#client = client;
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  /** The loaded series by run and metric; a new object after every change. */
  get series(): SeriesOfRuns {
    return this.#series;
  }

  dispose(): void {
    Signal.clearData(this);
    this.clear();
  }

  /** Forget everything, when the notebook gets another record. */
  clear(): void {
    this.#runs = new Map();
    this.#states.clear();
    this.#series = {};
  }

  /** Load these metrics of these runs now, and with every refresh. */
  want(runs: readonly string[], metrics: readonly string[]): Promise<void> {
    this.#wantedRuns = runs;
    this.#wantedMetrics = metrics;
    return this.refresh(this.#runs);
  }

  /** Load what has changed; `runs` are the runs as they are now. */
  refresh(runs: ReadonlyMap<string, IRun>): Promise<void> {
    this.#runs = runs;
    const loading = this.#loading.then(() => this.#load());
    this.#loading = loading.catch(() => undefined); // the caller gets the error
    return loading;
  }

  async #load(): Promise<void> {
    const metrics = this.#wantedMetrics;
    const states = new Map<string, string>();
    const ids = new Map<string, string>();
    for (const id of this.#wantedRuns) {
      const run = this.#runs.get(id);
      if (run !== undefined && (run.step_count ?? 0) > 0) {
        const state = JSON.stringify([metrics, run.step_count, run.last_step, run.metrics]);
        if (state !== this.#states.get(id)) {
          states.set(id, state);
          ids.set(runKey(run.notebook_id, id), id);
        }
      }
    }
    if (states.size === 0 || metrics.length === 0) {
      return;
    }
    const found = await this.#client.series([...ids.keys()], metrics, POINTS);
    const loaded = Object.fromEntries(
      Object.entries(found).map(([key, series]) => [ids.get(key) ?? key, series])
    );
    for (const [id, state] of states) {
      this.#states.set(id, state);
    }
    this.#series = keepUnchanged(this.#series, { ...this.#series, ...loaded });
    this.#changed.emit();
  }
}
