/** Line-by-line comparison of texts. */

import { diffArrays } from 'diff';

export interface ILine {
  kind: 'same' | 'removed' | 'added';
  text: string;
  /** Line numbers from 1; missing in the text that lacks the line. */
  before?: number;
  after?: number;
}

/** Largest number of differing lines; texts that differ more are shown as replaced, to not block the page. */
const MAX_EDIT_LENGTH = 1000;

/** Return the lines of both texts in order, marked as the same, removed or added. */
export function diffLines(before: string, after: string): ILine[] {
  const old = split(before);
  const now = split(after);
  const parts = diffArrays(old, now, { maxEditLength: MAX_EDIT_LENGTH }) ?? [
    { value: old, removed: true, added: false },
    { value: now, removed: false, added: true }
  ];
  let i = 0;
  let j = 0;
  return parts.flatMap(({ value, removed, added }) =>
    value.map((text): ILine => {
      if (removed) {
        return { kind: 'removed', text, before: (i += 1) };
      }
      return added
        ? { kind: 'added', text, after: (j += 1) }
        : { kind: 'same', text, before: (i += 1), after: (j += 1) };
    })
  );
}

function split(text: string): string[] {
  return text === '' ? [] : text.split('\n');
}
