/** The filter of checkpoints: words that all must match. */

import type { IRun } from '../records.ts';
import { formatNumber } from './metrics.ts';
import { hasState } from './python.ts';
import type { ICheckpointRow } from './rows.ts';
import { similarNames } from './similar.ts';

/** Characters of a filter that count: text pasted by mistake must not block the page. */
const MAX_LENGTH = 1000;
/** Shortest prefix of an id that a word matches. */
const MIN_ID_PREFIX = 4;
const FIELDS = ['epoch', 'step', 'size', 'run', 'tag'] as const;
const PINNED = 'pinned';
const OPERATOR = /^(?:<=|>=|==|!=|[<>=:])/;
const NUMBER = /^(-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)([kmgt]?b)?$/i;
const UNITS: Readonly<Record<string, number>> = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 };

export type RowFilter = (row: ICheckpointRow) => boolean;

/** What names a filter can use. */
export interface IFilterNames {
  metrics: readonly string[];
  tags: readonly string[];
  runs: ReadonlyMap<string, IRun>;
}

export type FilterErrorKind =
  | 'unknown name'
  | 'unknown run'
  | 'no operator'
  | 'no value'
  | 'no name'
  | 'no number'
  | 'no order'
  | 'unclosed quote'
  | 'unsupported word';

/** Why a filter is invalid. */
export interface IFilterError {
  kind: FilterErrorKind;
  /** The part of the filter that is wrong, and its position. */
  text: string;
  position: number;
  /** Filters that the user may have meant, with the words that they have instead. */
  suggestions: readonly { label: string; filter: string }[];
}

/** A valid filter; undefined matches everything. */
export interface IParsedFilter {
  matches?: RowFilter;
  error?: IFilterError;
}

/**
 * Parse a filter.
 *
 * A word matches a tag, `pinned` or the beginning of an id. A comparison has a metric, `epoch`, `step` or `size`, an
 * operator and a number (`val_loss<0.3`, `size>1MB`), or is `run:2`, `run:"wide net"` or `tag:paper`. `and` may stand
 * between them.
 */
export function parseFilter(filter: string, names: IFilterNames): IParsedFilter {
  const parser = new Parser(filter.slice(0, MAX_LENGTH), names);
  try {
    const filters = parser.parse();
    return filters.length === 0 ? {} : { matches: row => filters.every(matches => matches(row)) };
  } catch (error) {
    if (error instanceof InvalidFilter) {
      return { error: error.error };
    }
    throw error;
  }
}

class InvalidFilter extends Error {
  readonly error: IFilterError;

  constructor(error: IFilterError) {
    super(error.kind);
    this.error = error;
  }
}

interface IWord {
  text: string;
  position: number;
  isQuoted: boolean;
}

class Parser {
  readonly #text: string;
  readonly #names: IFilterNames;
  /** The names of metrics, the longest first: some contain spaces or operators. */
  readonly #metrics: readonly string[];
  #position = 0;

  constructor(text: string, names: IFilterNames) {
    this.#text = text;
    this.#names = names;
    this.#metrics = [...names.metrics].sort((a, b) => b.length - a.length);
  }

  parse(): RowFilter[] {
    const filters: RowFilter[] = [];
    while (this.#rest.trim() !== '') {
      this.#skipSpaces();
      const word = this.#readMetric() ?? this.#readWord();
      if (word.text === '' && !word.isQuoted) {
        this.#fail('no name', { ...word, text: OPERATOR.exec(this.#rest)?.[0] ?? this.#rest });
      }
      const operator = this.#readOperator();
      if (operator !== undefined) {
        filters.push(this.#comparison(word, operator));
      } else if (word.isQuoted || !/^(?:and|&&?)$/i.test(word.text)) {
        filters.push(this.#word(word));
      }
    }
    return filters;
  }

  get #rest(): string {
    return this.#text.slice(this.#position);
  }

  #skipSpaces(): void {
    while (/\s/.test(this.#text.charAt(this.#position))) {
      this.#position += 1;
    }
  }

  /** Read the name of a metric before an operator. */
  #readMetric(): IWord | undefined {
    const rest = this.#rest.toLowerCase();
    for (const name of this.#metrics) {
      if (rest.startsWith(name.toLowerCase())) {
        const after = rest.slice(name.length).trimStart();
        if (OPERATOR.test(after)) {
          const position = this.#position;
          this.#position += name.length;
          return { text: name, position, isQuoted: false };
        }
      }
    }
    return undefined;
  }

  #readWord(): IWord {
    const position = this.#position;
    const quote = this.#text.charAt(position);
    if (quote !== '"' && quote !== "'") {
      let end = position;
      while (end < this.#text.length && !/[\s<>=:]/.test(this.#text.charAt(end))) {
        if (this.#text.startsWith('!=', end)) {
          break;
        }
        end += 1;
      }
      this.#position = end;
      return { text: this.#text.slice(position, end), position, isQuoted: false };
    }
    const end = this.#text.indexOf(quote, position + 1);
    if (end < 0) {
      const text = this.#rest;
      this.#fail('unclosed quote', { text, position }, [`${text.trimEnd()}${quote}`]);
    }
    this.#position = end + 1;
    return { text: this.#text.slice(position + 1, end), position, isQuoted: true };
  }

  #readOperator(): string | undefined {
    const start = this.#position;
    this.#skipSpaces();
    const operator = OPERATOR.exec(this.#rest)?.[0];
    this.#position = operator === undefined ? start : this.#position + operator.length;
    return operator === ':' || operator === '==' ? '=' : operator;
  }

  #comparison(name: IWord, operator: string): RowFilter {
    const metrics = this.#names.metrics;
    const lower = name.text.toLowerCase();
    const field = FIELDS.find(field => field === lower);
    const metric =
      metrics.find(metric => metric === name.text) ??
      metrics.find(metric => metric.toLowerCase() === lower);
    if (field === undefined && metric === undefined) {
      this.#fail('unknown name', name, similarNames(name.text, [...metrics, ...FIELDS]));
    }
    this.#skipSpaces();
    const value = this.#readWord();
    if (value.text === '' && !value.isQuoted) {
      const text = this.#text.slice(name.position, value.position).trimEnd();
      this.#fail('no value', { text, position: value.position });
    }
    if (metric === undefined && (field === 'tag' || field === 'run')) {
      if (operator !== '=' && operator !== '!=') {
        this.#fail('no order', { text: name.text, position: name.position });
      }
      const matches = field === 'tag' ? hasTag(value.text) : this.#run(value);
      return operator === '=' ? matches : row => !matches(row);
    }
    const limit = toLimit(value.text);
    if (limit === undefined) {
      this.#fail('no number', value);
    }
    const read =
      metric !== undefined
        ? (row: ICheckpointRow) => row.metrics[metric]
        : field === 'size'
          ? sizeOf
          : (row: ICheckpointRow) => row[field === 'epoch' ? 'epoch' : 'step'];
    return row => {
      const number = read(row);
      return number !== undefined && evaluate(number, operator, limit);
    };
  }

  #run({ text, position }: IWord): RowFilter {
    const wanted = text.toLowerCase();
    const found = new Set<string>();
    const labels: string[] = [];
    for (const { id, name, number } of this.#names.runs.values()) {
      if (String(number) === wanted || name?.toLowerCase() === wanted) {
        found.add(id);
      }
      labels.push(name || String(number ?? ''));
    }
    if (found.size === 0) {
      const similar = similarNames(text, labels.filter(Boolean));
      this.#fail('unknown run', { text, position }, similar.map(quoteIfNeeded));
    }
    return row => found.has(row.runId);
  }

  #word(word: IWord): RowFilter {
    const { text, isQuoted } = word;
    const lower = text.toLowerCase();
    const isTag = this.#names.tags.some(tag => tag.toLowerCase().includes(lower));
    const names = [...this.#names.metrics, ...FIELDS];
    if (!isQuoted && !isTag) {
      if (/^(?:or|not|\||\|\||!)$/.test(lower)) {
        this.#fail('unsupported word', word);
      }
      if (names.some(name => name.toLowerCase() === lower)) {
        this.#fail('no operator', word);
      }
    }
    const matchesTag = hasTag(text);
    return row =>
      matchesTag(row) ||
      (lower === PINNED && row.detail?.pinned === true) ||
      (text.length >= MIN_ID_PREFIX && row.id.startsWith(lower));
  }

  /** Fail because of a part of the text, for which there may be `replacements`. */
  #fail(
    kind: FilterErrorKind,
    { text, position }: Pick<IWord, 'text' | 'position'>,
    replacements: readonly string[] = []
  ): never {
    const before = this.#text.slice(0, position);
    const after = this.#text.slice(position + text.length);
    const suggestions = replacements.map(label => ({ label, filter: before + label + after }));
    throw new InvalidFilter({ kind, text, position, suggestions });
  }
}

/** Return the size of the state files on disk; undefined if it is unknown or they are pruned. */
export function sizeOf({ detail }: ICheckpointRow): number | undefined {
  if (detail === undefined || !hasState(detail, 'model')) {
    return undefined;
  }
  return Object.values(detail.sizes ?? {}).reduce((sum, size) => sum + size, 0);
}

function hasTag(text: string): RowFilter {
  const lower = text.toLowerCase();
  return row => (row.detail?.tags ?? []).some(tag => tag.toLowerCase().includes(lower));
}

function quoteIfNeeded(text: string): string {
  return /^[^\s<>=:"']+$/.test(text) ? text : text.includes('"') ? `'${text}'` : `"${text}"`;
}

function toLimit(text: string): number | undefined {
  const [, number, unit = 'b'] = NUMBER.exec(text) ?? [];
  return number === undefined ? undefined : Number(number) * (UNITS[unit.toLowerCase()] ?? 1);
}

function evaluate(value: number, operator: string, limit: number): boolean {
  switch (operator) {
    case '<':
      return value < limit;
    case '<=':
      return value <= limit;
    case '>':
      return value > limit;
    case '>=':
      return value >= limit;
    default: {
      // Equal to the value as it is shown, too.
      const isSame = value === limit || formatNumber(value) === formatNumber(limit);
      return isSame === (operator === '=');
    }
  }
}
