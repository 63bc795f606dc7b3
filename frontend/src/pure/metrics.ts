/** Metrics: what can be plotted and ranked, which way is better, how numbers read. */

import type { MetricValue } from '../records.ts';
import { direction } from './direction.ts';

const SPELLED = new Map([NaN, Infinity, -Infinity].map(value => [String(value), value]));

/** A metric as a number; undefined where there is none. */
export function toNumber(value: unknown): number | undefined {
  if (typeof value === 'number') {
    return value;
  }
  return typeof value === 'string' ? SPELLED.get(value) : undefined;
}

/** The numbers in a checkpoint's metrics, nested ones under dotted names; an exact name comes before a path. */
export function flatten(metrics: unknown): Record<string, number> {
  const found: Record<string, number> = {};
  collect(metrics, '', found);
  return found;
}

function collect(value: unknown, prefix: string, found: Record<string, number>): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return;
  }
  const entries = Object.entries(value);
  for (const [name, inner] of entries) {
    const number = toNumber(inner);
    if (number !== undefined) {
      found[prefix + name] = number;
    }
  }
  for (const [name, inner] of entries) {
    const below: Record<string, number> = {};
    collect(inner, `${prefix}${name}.`, below);
    for (const [path, number] of Object.entries(below)) {
      found[path] ??= number;
    }
  }
}

/** A column of a series as numbers; undefined where a checkpoint lacks the metric. */
export function toNumbers(column: readonly MetricValue[]): (number | undefined)[] {
  return column.map(toNumber);
}

/** Whether less of a metric is better; where its name does not say it for certain, more is, until the user switches. */
export function isMinimized(name: string): boolean {
  return direction(name) === 'min';
}

const FAVOURITES = [
  'val_loss',
  'val.loss',
  'valid_loss',
  'eval_loss',
  'test_loss',
  'loss',
  'train_loss'
];

/** The metric to begin with: a validation loss, else a loss, else the first. */
export function favourite(names: readonly string[]): string | undefined {
  return FAVOURITES.find(name => names.includes(name)) ?? names[0];
}

/** A number in at most seven characters or so: `0.2513`, `1.2e-7`, `NaN`. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value) || Number.isInteger(value)) {
    return Math.abs(value) >= 1e7 && Number.isFinite(value)
      ? value.toExponential(3)
      : String(value);
  }
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** A number of bytes: `1.4 GB`. */
export function formatBytes(bytes: number): string {
  let size = bytes;
  let unit = 0;
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size >= 100 || unit === 0 ? Math.round(size) : size.toFixed(1)} ${UNITS[unit] ?? ''}`;
}
