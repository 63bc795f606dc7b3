/** Durations as text, and ticks for axes of time. */

/** Distances of ticks in seconds. */
export const DURATION_STEPS: readonly number[] = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900,
  1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000
];

const UNITS: readonly [string, number][] = [
  ['d', 86_400],
  ['h', 3600],
  ['min', 60]
];

/** Format a number of seconds by its two largest units: `1 h 20 min`, `45 s`, `0.2 s`. */
export function formatDuration(seconds: number): string {
  const sign = seconds < 0 ? '−' : '';
  const exact = Math.abs(seconds);
  const size = exact < 10 ? Number(exact.toPrecision(2)) : Math.round(exact);
  if (size < 60) {
    return `${sign}${size} s`;
  }
  const index = UNITS.findIndex(([, length]) => size >= length);
  const [unit, length] = UNITS[index] ?? ['s', 1];
  const [smallerUnit, smaller] = UNITS[index + 1] ?? ['s', 1];
  let whole = Math.floor(size / length);
  let rest = Math.round((size - whole * length) / smaller);
  if (rest * smaller >= length) {
    whole += 1;
    rest = 0;
  }
  return `${sign}${whole} ${unit}${rest === 0 ? '' : ` ${rest} ${smallerUnit}`}`;
}
