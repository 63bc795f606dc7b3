/** Lists that stay the same objects while their items do. */

/** Return the old list if the new one is equal, so that nothing that depends on it is computed again. */
export function keepEqual<T>(before: readonly T[], after: readonly T[]): readonly T[] {
  const isEqual =
    before.length === after.length && before.every((item, index) => item === after[index]);
  return isEqual ? before : after;
}
