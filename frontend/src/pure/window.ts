/** Which rows of a long list are in view. */

export interface IWindow {
  /** The first row to draw, and the one after the last. */
  start: number;
  end: number;
}

/** Rows drawn beyond either edge, so that scrolling shows no gap. */
const BEYOND = 6;

export function rowsInView(
  scrollTop: number,
  height: number,
  rowHeight: number,
  count: number
): IWindow {
  const first = Math.floor(scrollTop / rowHeight) - BEYOND;
  const last = Math.ceil((scrollTop + height) / rowHeight) + BEYOND;
  const start = Math.min(Math.max(0, first), count);
  return { start, end: Math.max(start, Math.min(count, last)) };
}

/** How far to scroll so that a row is in view: as little as needed. */
export function scrollToRow(
  row: number,
  scrollTop: number,
  height: number,
  rowHeight: number
): number {
  const top = row * rowHeight;
  if (top < scrollTop) {
    return top;
  }
  return Math.max(scrollTop, top + rowHeight - height);
}
