/** Scales of axes: numbers, linear or logarithmic, and categories. */

import { formatNumber, formatTick, toNumber } from './metrics.ts';

/** Positive numbers whose largest is this many times the smallest have a logarithmic scale. */
const LOG_RATIO = 100;

export interface ITick {
  /** From 0 to 1. */
  position: number;
  label: string;
}

export interface IScale {
  kind: 'linear' | 'log' | 'category';
  /** Return the position of a value, from 0 to 1; undefined if it has none. */
  position: (value: unknown) => number | undefined;
  /** Return the value at a position as text. */
  label: (position: number) => string;
  /** Return about this many ticks. */
  ticks: (count: number) => ITick[];
}

/** Return about `count` round numbers from min to max. */
export function linearTicks(min: number, max: number, count: number): number[] {
  if (!(min < max) || count < 1) {
    return min === max ? [min] : [];
  }
  const rough = (max - min) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find(factor => factor * power >= rough) ?? 10) * power;
  const first = Math.ceil(min / step - 1e-9);
  const last = Math.floor(max / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) =>
    Number(((first + index) * step).toPrecision(12))
  );
}

/** Return about `count` numbers for a logarithmic scale: powers of 10, with 2 and 5 times of them if there is room. */
export function logTicks(min: number, max: number, count: number): number[] {
  if (!(min > 0 && min < max)) {
    return min === max ? [min] : [];
  }
  const first = Math.floor(Math.log10(min) + 1e-9);
  const last = Math.ceil(Math.log10(max) - 1e-9);
  const decades = last - first;
  const inRange = (value: number): boolean =>
    value >= min * (1 - 1e-9) && value <= max * (1 + 1e-9);
  const toTicks = (factors: readonly number[], every: number): number[] =>
    Array.from({ length: Math.floor(decades / every) + 1 }, (_, index) => first + index * every)
      .flatMap(power => factors.map(factor => Number(`${factor}e${power}`)))
      .filter(inRange);
  const candidates = [[1, 2, 5], [1, 3], [1]].map(factors => toTicks(factors, 1));
  const found = candidates.find(ticks => ticks.length <= count);
  if (found === undefined) {
    return toTicks([1], Math.ceil(decades / count));
  }
  return found.length < 2 ? linearTicks(min, max, count) : found;
}

/** Return the scale that fits the values of an axis. */
export function scaleOf(values: Iterable<unknown>): IScale {
  const numbers: number[] = [];
  const categories = new Set<string>();
  let isNumeric = true;
  for (const value of values) {
    if (value === undefined || value === null) {
      continue;
    }
    const number = toNumber(value);
    if (number === undefined) {
      isNumeric = false;
    } else if (Number.isFinite(number)) {
      numbers.push(number);
    }
    categories.add(categoryOf(value));
  }
  return isNumeric && numbers.length > 0 ? numberScale(numbers) : categoryScale(categories);
}

function numberScale(numbers: readonly number[]): IScale {
  let min = Infinity;
  let max = -Infinity;
  for (const number of numbers) {
    min = Math.min(min, number);
    max = Math.max(max, number);
  }
  const isLog = min > 0 && max / min >= LOG_RATIO;
  const [low, high] = isLog ? [Math.log10(min), Math.log10(max)] : [min, max];
  const toUnit = (number: number): number =>
    low === high ? 0.5 : ((isLog ? Math.log10(number) : number) - low) / (high - low);
  const ticks = isLog ? logTicks : linearTicks;
  return {
    kind: isLog ? 'log' : 'linear',
    position: value => {
      const number = toNumber(value);
      return number === undefined || !Number.isFinite(number) || (isLog && number <= 0)
        ? undefined
        : toUnit(number);
    },
    label: position => {
      const value = low + position * (high - low);
      return formatNumber(Number((isLog ? 10 ** value : value).toPrecision(4)));
    },
    ticks: count => {
      const values = distinctTicks(numbers, count, toUnit) ?? ticks(min, max, count);
      return values.map(value => ({ position: toUnit(value), label: formatTick(value) }));
    }
  };
}

/** Return the values themselves if they are few, short and far enough apart. */
function distinctTicks(
  numbers: readonly number[],
  count: number,
  toUnit: (number: number) => number
): number[] | undefined {
  const distinct = new Set<number>();
  for (const number of numbers) {
    distinct.add(number);
    if (distinct.size > count || number !== Number(number.toPrecision(3))) {
      return undefined;
    }
  }
  const values = [...distinct].sort((a, b) => a - b);
  const isReadable = values.every(
    (value, index) =>
      index === 0 || toUnit(value) - toUnit(values[index - 1] ?? value) > 0.5 / count
  );
  return isReadable ? values : undefined;
}

function categoryScale(categories: ReadonlySet<string>): IScale {
  const names = [...categories].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  const indices = new Map(names.map((name, index) => [name, index]));
  const last = Math.max(names.length - 1, 1);
  const toUnit = (index: number): number => (names.length === 1 ? 0.5 : index / last);
  return {
    kind: 'category',
    position: value => {
      const index =
        value === undefined || value === null ? undefined : indices.get(categoryOf(value));
      return index === undefined ? undefined : toUnit(index);
    },
    label: position => names[Math.round(position * (names.length - 1))] ?? '',
    ticks: count => {
      const every = Math.ceil(names.length / Math.max(count, 1));
      return names.flatMap((label, index) =>
        index % every === 0 ? { position: toUnit(index), label } : []
      );
    }
  };
}

function categoryOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
