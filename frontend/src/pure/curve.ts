/** Geometry of curves: their extent, the point at a position, and the path of pixels. */

export interface IPoints {
  /** Ascending. */
  x: readonly number[];
  /** Null where a curve has a gap. */
  y: readonly (number | null)[];
}

export interface IRange {
  min: number;
  max: number;
}

/** Return whether a value has a place on the axis. */
export function isDrawable(value: number | null | undefined, log: boolean): value is number {
  return typeof value === 'number' && Number.isFinite(value) && !(log && value <= 0);
}

/** Return the first index whose value is not less than another one. */
export function lowerBound(values: readonly number[], value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] ?? Infinity) < value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/** Return the range of x of some curves; undefined if they have no points. */
export function extentOf(curves: readonly IPoints[]): IRange | undefined {
  let min = Infinity;
  let max = -Infinity;
  for (const { x } of curves) {
    min = Math.min(min, x[0] ?? Infinity);
    max = Math.max(max, x.at(-1) ?? -Infinity);
  }
  return min <= max ? { min, max } : undefined;
}

/** Return the range of y within a range of x; undefined if there is nothing to draw. */
export function valueRange(
  curves: readonly IPoints[],
  range: IRange,
  log: boolean
): IRange | undefined {
  let min = Infinity;
  let max = -Infinity;
  for (const { x, y } of curves) {
    for (let index = lowerBound(x, range.min); index < x.length; index++) {
      if ((x[index] ?? Infinity) > range.max) {
        break;
      }
      const value = y[index];
      if (isDrawable(value, log)) {
        min = value < min ? value : min;
        max = value > max ? value : max;
      }
    }
  }
  return min <= max ? { min, max } : undefined;
}

/** Return a range with a margin, so that curves do not touch the frame. */
export function padRange({ min, max }: IRange, log: boolean): IRange {
  if (log) {
    const factor = min === max ? 2 : (max / min) ** 0.06;
    return { min: min / factor, max: max * factor };
  }
  const margin = min === max ? Math.abs(min) * 0.1 || 1 : (max - min) * 0.06;
  return { min: min - margin, max: max + margin };
}

/** Return the index of the point next to a position that can be drawn; undefined outside of the curve. */
export function nearestIndex(
  { x, y }: IPoints,
  at: number,
  log: boolean,
  tolerance: number
): number | undefined {
  const right = lowerBound(x, at);
  let best: number | undefined;
  let distance = Infinity;
  for (const step of [-1, 1]) {
    let index = step === 1 ? right : right - 1;
    while (index >= 0 && index < x.length && !isDrawable(y[index], log)) {
      index += step;
    }
    const candidate = Math.abs((x[index] ?? Infinity) - at);
    if (candidate < distance) {
      best = index;
      distance = candidate;
    }
  }
  const first = x[0] ?? Infinity;
  const last = x.at(-1) ?? -Infinity;
  return at < first - tolerance || at > last + tolerance ? undefined : best;
}

/** Return the value of the line at a position; undefined in gaps and outside of the curve. */
export function valueAt({ x, y }: IPoints, at: number, log: boolean): number | undefined {
  const right = lowerBound(x, at);
  const end = y[right];
  if (x[right] === at) {
    return isDrawable(end, log) ? end : undefined;
  }
  const start = y[right - 1];
  if (!isDrawable(start, log) || !isDrawable(end, log)) {
    return undefined;
  }
  const left = x[right - 1] ?? at;
  const part = (at - left) / ((x[right] ?? at) - left);
  return log ? start * (end / start) ** part : start + (end - start) * part;
}

/** Receives the points of a curve in pixels. */
export interface IPen {
  moveTo(x: number, y: number): void;
  lineTo(x: number, y: number): void;
  /** A point without neighbours, which a line cannot show. */
  dot(x: number, y: number): void;
}

/**
 * Draw a curve, with at most four points per column of pixels.
 *
 * One point on each side of the range is included, to lead the line to the edge.
 */
export function trace(
  { x, y }: IPoints,
  range: IRange,
  log: boolean,
  toX: (value: number) => number,
  toY: (value: number) => number,
  pen: IPen
): void {
  const from = Math.max(lowerBound(x, range.min) - 1, 0);
  const to = Math.min(lowerBound(x, range.max) + 1, x.length);
  let isDown = false;
  let column: { left: number; first: number; min: number; max: number; last: number } | undefined;
  const flush = (): void => {
    if (column === undefined) {
      return;
    }
    const { left, min, max, first, last } = column;
    if (min !== first || max !== first) {
      pen.lineTo(left, min);
      pen.lineTo(left, max);
      pen.lineTo(left, last);
    }
    column = undefined;
  };
  for (let index = from; index < to; index++) {
    const value = y[index];
    if (!isDrawable(value, log)) {
      flush();
      isDown = false;
      continue;
    }
    const left = toX(x[index] ?? 0);
    const top = toY(value);
    if (!isDown) {
      const isLast = index + 1 >= to || !isDrawable(y[index + 1], log);
      if (isLast) {
        pen.dot(left, top);
      } else {
        pen.moveTo(left, top);
        column = { left, first: top, min: top, max: top, last: top };
      }
      isDown = !isLast;
    } else if (column !== undefined && left - column.left < 1) {
      column.min = Math.min(column.min, top);
      column.max = Math.max(column.max, top);
      column.last = top;
    } else {
      flush();
      pen.lineTo(left, top);
      column = { left, first: top, min: top, max: top, last: top };
    }
  }
  flush();
}

/** Return how many points of a curve are in a range. */
export function countPoints({ x }: IPoints, range: IRange): number {
  return lowerBound(x, range.max) + (x.includes(range.max) ? 1 : 0) - lowerBound(x, range.min);
}

/** The values of a curve in numbers, for users who cannot see it. */
export interface ICurveNumbers {
  count: number;
  first: number;
  last: number;
  min: number;
  max: number;
}

/** Return the numbers of a curve; undefined if it has no finite value. */
export function summarizeCurve({ y }: IPoints): ICurveNumbers | undefined {
  const values = y.filter((value): value is number => isDrawable(value, false));
  const [first] = values;
  const last = values.at(-1);
  if (first === undefined || last === undefined) {
    return undefined;
  }
  let min = first;
  let max = first;
  for (const value of values) {
    min = value < min ? value : min;
    max = value > max ? value : max;
  }
  return { count: values.length, first, last, min, max };
}
