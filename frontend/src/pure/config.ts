/** The configuration of a run as text. */

import { formatNumber } from './metrics.ts';

/** Most values that are shown, and the most characters of a value and of all. */
const MAX_VALUES = 20;
const MAX_VALUE_LENGTH = 60;
const MAX_LENGTH = 400;

/** Return a configuration as `lr=0.01, model.layers=[64,64]`, cut to a few lines. */
export function configText(config: Readonly<Record<string, unknown>>): string {
  const texts: string[] = [];
  addTexts(config, '', texts);
  return shorten(texts.join(', '), MAX_LENGTH);
}

function addTexts(config: object, prefix: string, texts: string[]): void {
  for (const [key, value] of Object.entries(config) as [string, unknown][]) {
    if (texts.length > MAX_VALUES) {
      return;
    }
    const name = shorten(prefix + key, MAX_VALUE_LENGTH);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      addTexts(value, `${name}.`, texts);
    } else {
      texts.push(`${name}=${formatValue(value)}`);
    }
  }
}

/** Format a value of a configuration. */
export function formatValue(value: unknown): string {
  if (typeof value === 'number') {
    return formatNumber(value);
  }
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return shorten(text, MAX_VALUE_LENGTH);
}

function shorten(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}
