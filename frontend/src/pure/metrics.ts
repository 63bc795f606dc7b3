/** Values of metrics and the formatting of numbers. */

import { direction } from './direction.ts';

const NON_FINITE = new Map([NaN, Infinity, -Infinity].map(value => [String(value), value]));

/** Convert a value of the REST API; undefined if it is not a number. */
export function toNumber(value: unknown): number | undefined {
  if (typeof value === 'number') {
    return value;
  }
  return typeof value === 'string' ? NON_FINITE.get(value) : undefined;
}

/** Return the numbers in a checkpoint's metrics, nested ones under dotted names; an exact name wins over a path. */
export function flatten(metrics: unknown): Record<string, number> {
  const numbers: Record<string, number> = {};
  collect(metrics, '', numbers);
  return numbers;
}

function collect(value: unknown, prefix: string, numbers: Record<string, number>): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return;
  }
  const entries = Object.entries(value);
  for (const [name, inner] of entries) {
    const number = toNumber(inner);
    if (number !== undefined) {
      numbers[prefix + name] = number;
    }
  }
  for (const [name, inner] of entries) {
    const nested: Record<string, number> = {};
    collect(inner, `${prefix}${name}.`, nested);
    for (const [path, number] of Object.entries(nested)) {
      numbers[path] ??= number;
    }
  }
}

/** Return whether lower values are better, by the metric's name; higher ones if the name is ambiguous. */
export function isMinimized(name: string): boolean {
  return direction(name) === 'min';
}

/** Validation losses before other losses. */
const DEFAULT_METRICS = [
  'val_loss',
  'val.loss',
  'valid_loss',
  'eval_loss',
  'test_loss',
  'loss',
  'train_loss'
];

/** Return the preferred metric if there is such, else a loss, else the first metric. */
export function defaultMetric(names: readonly string[], preferred = ''): string | undefined {
  return [preferred, ...DEFAULT_METRICS].find(name => names.includes(name)) ?? names[0];
}

/** Format a number in about seven characters: `0.2513`, `1.2e-7`, `NaN`. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value) || Number.isInteger(value)) {
    return Math.abs(value) >= 1e7 && Number.isFinite(value)
      ? value.toExponential(3)
      : String(value);
  }
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** Format a number of an axis: `0.02`, `1e-4`. */
export function formatTick(value: number): string {
  const rounded = Number(value.toPrecision(6));
  const size = Math.abs(rounded);
  return size !== 0 && (size >= 1e6 || size < 1e-3) ? rounded.toExponential() : String(rounded);
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** Format a number of bytes: `1.4 GB`. */
export function formatBytes(bytes: number): string {
  let size = bytes;
  let unit = 0;
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size >= 100 || unit === 0 ? Math.round(size) : size.toFixed(1)} ${UNITS[unit] ?? ''}`;
}
