/** Names that a user may have meant. */

/** Largest number of suggestions. */
const MAX_NAMES = 3;
/** Longest name that is compared letter by letter. */
const MAX_LENGTH = 60;

/** Return the names that are most similar to a misspelt or unfinished one, the most similar first. */
export function similarNames(name: string, names: Iterable<string>): string[] {
  const wanted = name.toLowerCase();
  const found: { name: string; distance: number }[] = [];
  for (const other of names) {
    const distance = distanceOf(wanted, other.toLowerCase());
    if (distance <= Math.max(1, Math.floor(wanted.length / 3))) {
      found.push({ name: other, distance });
    }
  }
  found.sort((a, b) => a.distance - b.distance || a.name.length - b.name.length);
  return [...new Set(found.map(({ name }) => name))].slice(0, MAX_NAMES);
}

/** Return the number of changed letters; less than one if a name contains the other. */
function distanceOf(a: string, b: string): number {
  if (a !== '' && (b.includes(a) || (a.includes(b) && b.length > 1))) {
    return a === b ? 0 : 0.5;
  }
  if (Math.max(a.length, b.length) > MAX_LENGTH) {
    return Infinity;
  }
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const replaced = (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? Infinity;
}
