/** The series of the runs that are drawn in the page. */

import * as React from 'react';

import type { AxonClient } from '../api.ts';
import type { SeriesOfRuns } from '../pure/series.ts';
import { keepUnchanged } from '../pure/series.ts';
import type { IRunRow } from '../records.ts';

/** Number of points of a series that are requested; a chart is hardly wider in pixels. */
const POINTS = 500;

export interface ILoadedSeries {
  series: SeriesOfRuns;
  isLoaded: boolean;
  error?: string;
}

/** Load the series of runs; after a change, only those of the runs that have changed. */
export function useSeries(
  client: AxonClient,
  runs: readonly IRunRow[],
  metrics: readonly string[]
): ILoadedSeries {
  const [loader] = React.useState(() => new SeriesLoader(client));
  const [loaded, setLoaded] = React.useState<ILoadedSeries>({ series: {}, isLoaded: false });
  const metricKey = metrics.join('\n');
  React.useEffect(() => {
    let isCurrent = true;
    loader
      .load(runs, metricKey === '' ? [] : metricKey.split('\n'))
      .then(series => {
        if (isCurrent) {
          setLoaded(before =>
            before.isLoaded && before.series === series && before.error === undefined
              ? before
              : { series, isLoaded: true }
          );
        }
      })
      .catch((error: unknown) => {
        if (isCurrent) {
          const message = error instanceof Error ? error.message : String(error);
          setLoaded(before => ({ ...before, isLoaded: true, error: message }));
        }
      });
    return () => {
      isCurrent = false;
    };
  }, [loader, runs, metricKey]);
  return loaded;
}

class SeriesLoader {
  readonly #client: AxonClient;
  /** By run, the state in which its series were loaded. */
  readonly #states = new Map<string, string>();
  #series: SeriesOfRuns = {};
  #loading: Promise<unknown> = Promise.resolve();

  constructor(client: AxonClient) {
    this.#client = client;
  }

  /** Return the series of runs, and perhaps of others; the same object if nothing has changed. */
  load(runs: readonly IRunRow[], metrics: readonly string[]): Promise<SeriesOfRuns> {
    const loading = this.#loading.catch(() => undefined).then(() => this.#load(runs, metrics));
    this.#loading = loading;
    return loading;
  }

  async #load(runs: readonly IRunRow[], metrics: readonly string[]): Promise<SeriesOfRuns> {
    const states = new Map(runs.map(run => [run.id, stateOf(run, metrics)]));
    const changed = [...states.keys()].filter(id => states.get(id) !== this.#states.get(id));
    if (changed.length === 0 || metrics.length === 0) {
      return this.#series;
    }
    const found = await this.#client.series(changed, metrics, POINTS);
    this.#series = { ...this.#series, ...keepUnchanged(this.#series, found) };
    for (const id of changed) {
      this.#states.set(id, states.get(id) ?? '');
    }
    return this.#series;
  }
}

/** Return what changes with every value of a run. */
function stateOf(run: IRunRow, metrics: readonly string[]): string {
  return JSON.stringify([metrics, run.step_count, run.checkpoint_count, run.metrics]);
}
