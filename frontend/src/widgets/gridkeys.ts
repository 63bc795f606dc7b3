/** The keys that move within a grid of rows. */

/** Height of a row and of the header in pixels, as in the style sheet. */
export const ROW_HEIGHT = 26;
/** Number of rows by which Page Up and Page Down move. */
const PAGE_ROWS = 10;

/** The index of the row to which a key moves. */
export const KEY_TARGETS: Partial<Record<string, (index: number, last: number) => number>> = {
  ArrowDown: index => index + 1,
  ArrowUp: index => index - 1,
  PageDown: index => index + PAGE_ROWS,
  PageUp: index => index - PAGE_ROWS,
  Home: () => 0,
  End: (_index, last) => last
};

/** Return the rows from one to another, in either direction; only the latter if the first is missing (-1). */
export function rowsBetween<T>(rows: readonly T[], start: number, end: number): readonly T[] {
  const from = start < 0 ? end : start;
  return rows.slice(Math.min(from, end), Math.max(from, end) + 1);
}
