/** The choice of the columns of a table. */

/** A column with its width in pixels; of several, the one with the lower priority number is shown first. */
export interface ISizedColumn {
  key: string;
  width: number;
  priority: number;
}

/** Return the keys of the columns that fit into a width, the most important first. */
export function fitColumns(columns: readonly ISizedColumn[], available: number): Set<string> {
  const fitting = new Set<string>();
  let rest = available;
  for (const { key, width } of [...columns].sort((a, b) => a.priority - b.priority)) {
    if (width <= rest) {
      fitting.add(key);
      rest -= width;
    }
  }
  return fitting;
}

export type Cell = string | number | undefined;

/** Return the keys of the columns that tell nothing: they are empty, or an earlier one has the same values. */
export function redundantColumns<T>(
  columns: readonly { key: string; value: (row: T) => Cell }[],
  rows: readonly T[]
): Set<string> {
  const redundant = new Set<string>();
  const useful: ((row: T) => Cell)[] = [];
  for (const { key, value } of columns) {
    const isEmpty = rows.every(row => value(row) === undefined || value(row) === '');
    const isRepeated = (): boolean =>
      useful.some(other => rows.every(row => Object.is(other(row), value(row))));
    if (isEmpty || isRepeated()) {
      redundant.add(key);
    } else {
      useful.push(value);
    }
  }
  return redundant;
}

/** Return at most `count` evenly spread elements, the first and the last among them. */
export function sample<T>(items: readonly T[], count: number): readonly T[] {
  if (items.length <= count) {
    return items;
  }
  const step = (items.length - 1) / (count - 1);
  return Array.from({ length: count }, (_, i) => items[Math.round(i * step)] as T);
}
