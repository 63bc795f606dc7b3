/** Colours of runs. */

/** Number of colours; each further round of them is drawn with other dashes. */
export const COLOUR_COUNT = 8;
const DASHES: readonly (readonly number[])[] = [[], [6, 3], [2, 2], [8, 3, 2, 3]];

/** Return the index of a colour in the style sheet (`--axon-run-<index>`, `data-run`). */
export function colourIndex(index: number): number {
  return index % COLOUR_COUNT;
}

/** Return the dashes of a curve, in pixels. */
export function dashesOf(index: number): readonly number[] {
  return DASHES[Math.floor(index / COLOUR_COUNT) % DASHES.length] ?? [];
}

/** The colours of the theme that an element has. */
export interface IPalette {
  runs: readonly string[];
  text: string;
  grid: string;
  font: string;
}

/** Read the colours of the theme. Canvases need them as values. */
export function readPalette(node: HTMLElement): IPalette {
  const style = getComputedStyle(node);
  const read = (name: string): string => style.getPropertyValue(name).trim();
  return {
    runs: Array.from({ length: COLOUR_COUNT }, (_, index) => read(`--axon-run-${index}`)),
    text: style.color, // the system's one in high contrast
    grid: read('--jp-border-color2'),
    font: read('--jp-ui-font-family') || 'sans-serif'
  };
}
