/** The series of the runs that are drawn in the page. */

import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';
import * as React from 'react';

import type { AxonClient } from '../api.ts';
import type { SeriesOfRuns } from '../pure/series.ts';
import { keepUnchanged } from '../pure/series.ts';
import type { IRunRow } from '../records.ts';
import { useSignal } from '../widgets/context.tsx';

/** Number of points of a series that are requested; a chart is hardly wider in pixels. */
const POINTS = 500;

/** Load the series of runs and keep them up to date; after a change, only those of the runs that have changed. */
export function useSeries(
  client: AxonClient,
  runs: readonly IRunRow[],
  metrics: readonly string[]
): SeriesLoader {
  const [loader] = React.useState(() => new SeriesLoader(client));
  useSignal(loader.changed);
  const metricKey = metrics.join('\n');
  React.useEffect(() => {
    loader.want(runs, metricKey === '' ? [] : metricKey.split('\n'));
  }, [loader, runs, metricKey]);
  return loader;
}

/** Loads series, one request at a time. */
export class SeriesLoader {
  readonly #client: AxonClient;
  readonly #changed = new Signal<this, void>(this);
  #runs: readonly IRunRow[] = [];
  #metrics: readonly string[] = [];
  /** By run, the state in which its series were loaded. */
  readonly #states = new Map<string, string>();
  #series: SeriesOfRuns = {};
  #isLoading = false;
  #isLoaded = false;
  #error: string | undefined;

  constructor(client: AxonClient) {
    this.#client = client;
  }

  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  /** The loaded series, perhaps also of runs that are no longer wanted. */
  get series(): SeriesOfRuns {
    return this.#series;
  }

  /** Whether something was loaded, or could not be. */
  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  get error(): string | undefined {
    return this.#error;
  }

  /** Load these metrics of these runs, in the state that they have now. */
  want(runs: readonly IRunRow[], metrics: readonly string[]): void {
    this.#runs = runs;
    this.#metrics = metrics;
    if (!this.#isLoading) {
      void this.#load();
    }
  }

  /** Load until what is wanted now is loaded. */
  async #load(): Promise<void> {
    this.#isLoading = true;
    try {
      let states = this.#outdated();
      while (states.size > 0) {
        const found = await this.#client.series([...states.keys()], this.#metrics, POINTS);
        this.#series = { ...this.#series, ...keepUnchanged(this.#series, found) };
        for (const [id, state] of states) {
          this.#states.set(id, state);
        }
        this.#set(undefined);
        states = this.#outdated();
      }
    } catch (error) {
      this.#set(error instanceof Error ? error.message : String(error));
    } finally {
      this.#isLoading = false;
    }
  }

  #set(error: string | undefined): void {
    this.#error = error;
    this.#isLoaded = true;
    this.#changed.emit();
  }

  /** Return the states of the runs that have changed since they were loaded. */
  #outdated(): Map<string, string> {
    const states = new Map<string, string>();
    for (const run of this.#metrics.length === 0 ? [] : this.#runs) {
      const { step_count, checkpoint_count, metrics } = run;
      const state = JSON.stringify([this.#metrics, step_count, checkpoint_count, metrics]);
      if (state !== this.#states.get(run.id)) {
        states.set(run.id, state);
      }
    }
    return states;
  }
}
