/** What changed between two texts, line by line. */

export interface ILine {
  kind: 'same' | 'removed' | 'added';
  text: string;
  /** Line numbers from 1; missing on the side that lacks the line. */
  before?: number;
  after?: number;
}

/** The most cells of the table that lines are compared in; larger texts are shown as replaced. */
const MOST = 4_000_000;

/** The lines of both texts in order: a longest common part stays, the rest is removed or added. */
export function diffLines(before: string, after: string): ILine[] {
  const a = split(before);
  const b = split(after);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) {
    start += 1;
  }
  let end = 0;
  while (
    end < a.length - start &&
    end < b.length - start &&
    a[a.length - 1 - end] === b[b.length - 1 - end]
  ) {
    end += 1;
  }
  const lines: ILine[] = [];
  const same = (i: number, j: number): void => {
    lines.push({ kind: 'same', text: a[i] ?? '', before: i + 1, after: j + 1 });
  };
  for (let i = 0; i < start; i += 1) {
    same(i, i);
  }
  const rows = a.length - start - end;
  const columns = b.length - start - end;
  const longest = rows * columns <= MOST ? commonLengths(a, b, start, rows, columns) : undefined;
  let i = 0;
  let j = 0;
  while (i < rows || j < columns) {
    const at = (row: number, column: number): number =>
      longest?.[row * (columns + 1) + column] ?? 0;
    if (longest !== undefined && i < rows && j < columns && a[start + i] === b[start + j]) {
      same(start + i, start + j);
      i += 1;
      j += 1;
    } else if (i < rows && (j >= columns || at(i + 1, j) >= at(i, j + 1))) {
      lines.push({ kind: 'removed', text: a[start + i] ?? '', before: start + i + 1 });
      i += 1;
    } else {
      lines.push({ kind: 'added', text: b[start + j] ?? '', after: start + j + 1 });
      j += 1;
    }
  }
  for (let k = end; k > 0; k -= 1) {
    same(a.length - k, b.length - k);
  }
  return lines;
}

function split(text: string): string[] {
  return text === '' ? [] : text.split('\n');
}

/** By (i, j): how many lines what is left of both texts has in common. */
function commonLengths(
  a: readonly string[],
  b: readonly string[],
  start: number,
  rows: number,
  columns: number
): Uint32Array {
  const width = columns + 1;
  const longest = new Uint32Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i -= 1) {
    for (let j = columns - 1; j >= 0; j -= 1) {
      longest[i * width + j] =
        a[start + i] === b[start + j]
          ? (longest[(i + 1) * width + j + 1] ?? 0) + 1
          : Math.max(longest[(i + 1) * width + j] ?? 0, longest[i * width + j + 1] ?? 0);
    }
  }
  return longest;
}
