/** Smoothing of curves. */

/** Largest weight of earlier values. */
export const MAX_SMOOTHING = 0.99;

/**
 * Return the exponential moving average, corrected for its start (debiased) as in TensorBoard.
 *
 * Values that are missing or not finite stay as they are and have no influence on the others.
 */
export function smooth(
  values: readonly (number | null)[],
  weight: number
): readonly (number | null)[] {
  const factor = Math.min(Math.max(weight, 0), MAX_SMOOTHING);
  if (factor === 0) {
    return values;
  }
  let average = 0;
  let rest = 1; // the weight of the start, which has no value
  return values.map(value => {
    if (value === null || !Number.isFinite(value)) {
      return value;
    }
    average = factor * average + (1 - factor) * value;
    rest *= factor;
    return average / (1 - rest);
  });
}
