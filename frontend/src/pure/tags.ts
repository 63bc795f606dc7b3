/** Tags of several things at once. */

/** Tags to add to each and to remove from each; the others stay as they are. */
export interface ITagChange {
  add: readonly string[];
  remove: readonly string[];
}

/** Return how many lists have each tag, the most frequent first. */
export function countTags(lists: readonly (readonly string[])[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const tag of lists.flatMap(tags => [...new Set(tags)])) {
    counts.set(tag, (counts.get(tag) ?? 0) + 1);
  }
  return new Map([...counts].sort(([a, m], [b, n]) => n - m || a.localeCompare(b)));
}

/** Return the tags after a change; undefined if they remain the same. */
export function changeTags(
  tags: readonly string[],
  { add, remove }: ITagChange
): string[] | undefined {
  const kept = tags.filter(tag => !remove.includes(tag));
  const added = add.filter(tag => !kept.includes(tag));
  return added.length === 0 && kept.length === tags.length ? undefined : [...kept, ...added];
}

/** Return the distinct tags in a text, in which commas separate them. */
export function splitTags(text: string): string[] {
  return [...new Set(text.split(',').map(tag => tag.trim()))].filter(Boolean);
}
