/** Equality of values and lists. */

import { JSONExt } from '@lumino/coreutils';
import type { PartialJSONValue } from '@lumino/coreutils';

/** Return whether two JSON values, which may be undefined, are equal. */
export function isEqual(a: unknown, b: unknown): boolean {
  return JSONExt.deepEqual((a ?? null) as PartialJSONValue, (b ?? null) as PartialJSONValue);
}

/** Return the old list if the new one is equal, so that nothing that depends on it is computed again. */
export function keepEqual<T>(before: readonly T[], after: readonly T[]): readonly T[] {
  const isSame =
    before.length === after.length && before.every((item, index) => item === after[index]);
  return isSame ? before : after;
}
