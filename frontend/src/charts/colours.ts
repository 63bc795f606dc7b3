/** Colours of runs. */

/** Number of colours; each further round of them is drawn with other dashes. */
export const COLOUR_COUNT = 8;
const DASHES: readonly (readonly number[])[] = [[], [6, 3], [2, 2], [8, 3, 2, 3]];

/** Number of colours of the ramp in the style sheet, and between which values are rounded. */
const RAMP_STOPS = 5;
export const RAMP_STEPS = 16;

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
  /** Colours for values from the least to the greatest. */
  ramp: readonly string[];
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
    ramp: toRamp(Array.from({ length: RAMP_STOPS }, (_, index) => read(`--axon-ramp-${index}`))),
    text: style.color, // the system's one in high contrast
    grid: read('--jp-border-color2'),
    font: read('--jp-ui-font-family') || 'sans-serif'
  };
}

/** Return colours between hexadecimal ones. */
function toRamp(stops: readonly string[]): string[] {
  const channels = stops.map(stop =>
    [1, 3, 5].map(start => Number.parseInt(stop.slice(start, start + 2), 16))
  );
  return Array.from({ length: RAMP_STEPS }, (_, step) => {
    const place = (step / (RAMP_STEPS - 1)) * (RAMP_STOPS - 1);
    const index = Math.min(Math.floor(place), RAMP_STOPS - 2);
    const mixed = [0, 1, 2].map(channel => {
      const [from = 0, to = 0] = [channels[index]?.[channel], channels[index + 1]?.[channel]];
      return Math.round(from + (to - from) * (place - index));
    });
    return `rgb(${mixed.join(' ')})`;
  });
}

/** Return the step of the ramp for a position from 0 to 1. */
export function rampStep(position: number): number {
  return Math.round(position * (RAMP_STEPS - 1));
}
