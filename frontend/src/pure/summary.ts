/** What a list of runs shows of each run. */

import type { IRun } from '../records.ts';
import { formatValue } from './config.ts';
import { toNumber } from './metrics.ts';

/** The best value of a metric, its run and its step. */
export interface IBestValue {
  run: IRun;
  value: number;
  step: number;
}

/** Return the best value of a metric in a run; undefined if it has no number. */
export function bestValue(
  run: IRun,
  { metric, minimize }: { metric: string; minimize: boolean }
): IBestValue | undefined {
  const summary = run.metrics?.[metric];
  const value = toNumber(minimize ? summary?.min : summary?.max);
  if (value === undefined || Number.isNaN(value)) {
    return undefined;
  }
  const step = minimize ? summary?.min_step : summary?.max_step;
  return { run, value, step: step ?? 0 };
}

/** Return the best value of a metric in any run. */
export function bestRun(
  runs: Iterable<IRun>,
  ranking: { metric: string; minimize: boolean }
): IBestValue | undefined {
  let best: IBestValue | undefined;
  for (const run of runs) {
    const found = bestValue(run, ranking);
    if (found !== undefined) {
      const isBetter =
        best === undefined ||
        (ranking.minimize ? found.value < best.value : found.value > best.value);
      best = isBetter ? found : best;
    }
  }
  return best;
}

/** Return the values of the configuration of a run as texts, nested ones under dotted names. */
export function flattenConfig(config: Readonly<Record<string, unknown>> = {}): Map<string, string> {
  const values = new Map<string, string>();
  const add = (part: object, prefix: string): void => {
    for (const [key, value] of Object.entries(part) as [string, unknown][]) {
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
        add(value, `${prefix}${key}.`);
      } else {
        values.set(prefix + key, formatValue(value));
      }
    }
  };
  add(config, '');
  return values;
}

/** Return the names in configurations whose values are not the same in all, those that most have first. */
export function differingKeys(configs: readonly ReadonlyMap<string, string>[]): string[] {
  const counts = new Map<string, number>();
  const first = new Map<string, string>();
  const differing = new Set<string>();
  for (const config of configs) {
    for (const [key, value] of config) {
      counts.set(key, (counts.get(key) ?? 0) + 1);
      if ((first.get(key) ?? value) !== value) {
        differing.add(key);
      }
      first.set(key, value);
    }
  }
  for (const [key, count] of counts) {
    if (count < configs.length) {
      differing.add(key);
    }
  }
  return [...counts.keys()]
    .filter(key => differing.has(key))
    .sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0));
}
