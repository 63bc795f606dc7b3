/** What changed between two texts, line by line. */

import { diffArrays } from 'diff';

export interface ILine {
  kind: 'same' | 'removed' | 'added';
  text: string;
  /** Line numbers from 1; missing on the side that lacks the line. */
  before?: number;
  after?: number;
}

/** The most lines that differ; of texts further apart all is shown as replaced, so that no page waits for it. */
const MOST = 1000;

/** The lines of both texts in order: a longest common part stays, the rest is removed or added. */
export function diffLines(before: string, after: string): ILine[] {
  const old = split(before);
  const now = split(after);
  const parts = diffArrays(old, now, { maxEditLength: MOST }) ?? [
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
