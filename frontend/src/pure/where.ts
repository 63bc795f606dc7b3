/** Filters of runs as they are typed: what may follow at the cursor, and the part that an error is about. */

/** What filters can name, and the values that runs have. */
export interface IFilterNames {
  config: readonly string[];
  metrics: readonly string[];
  tags: readonly string[];
  /** Return some values that runs have of a field or configuration key, for comparisons. */
  valuesOf: (name: string) => readonly (string | number | boolean)[];
}

export type OptionKind = 'field' | 'config' | 'metric' | 'value' | 'operator' | 'word';

export interface IOption {
  text: string;
  kind: OptionKind;
}

/** What may replace the characters from `from` to `to`. */
export interface ICompletion {
  from: number;
  to: number;
  options: IOption[];
}

/** The most options that are offered. */
const MAX_OPTIONS = 50;

/** The fields of runs, as in `run_filters.py`. */
const FIELDS = [
  'status',
  'name',
  'number',
  'group',
  'tags',
  'notes',
  'notebook',
  'path',
  'started_at',
  'ended_at',
  'step_count',
  'archived',
  'key',
  'id',
  'notebook_id'
];
const TEXT_FIELDS = ['name', 'status', 'group', 'notes', 'notebook', 'path', 'key', 'id'];
const STATISTICS = ['last', 'min', 'max'];
const COMPARISONS = ['==', '!=', '<', '<=', '>', '>='];
const PYTHON_WORDS = new Set(
  'and as assert async await break class continue def del elif else except finally for from global if import in is lambda None nonlocal not or pass raise return True False try while with yield'.split(
    ' '
  )
);
const IDENTIFIER = /^[\p{L}_][\p{L}\p{N}_]*$/u;

type TokenKind = 'text' | 'number' | 'name' | 'operator' | 'open' | 'close' | 'comma' | 'other';

interface IToken {
  kind: TokenKind;
  text: string;
  from: number;
  to: number;
}

const TOKEN =
  /(?<text>"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)|(?<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d*)?)|(?<name>[\p{L}_](?:[\p{L}\p{N}_./]|\[(?:"[^"]*"?|'[^']*'?)\]?)*)|(?<operator>[=!<>]=?|&&?|\|\|?)|(?<open>[([{])|(?<close>[)\]}])|(?<comma>,)|(?<other>\S)/giuy;

function tokenize(text: string): IToken[] {
  const tokens: IToken[] = [];
  TOKEN.lastIndex = 0;
  for (let at = 0; at < text.length;) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) {
      at += 1; // a space
      continue;
    }
    const [kind] = Object.entries<string | undefined>(match.groups ?? {}).find(
      ([, found]) => found !== undefined
    ) ?? ['other'];
    at = TOKEN.lastIndex;
    tokens.push({ kind: kind as TokenKind, text: match[0], from: match.index, to: at });
  }
  return tokens;
}

/** Return a metric as filters name it: `val_loss`, `train/loss`, `metrics["val-loss"]`. */
export function metricName(metric: string): string {
  const isPlain =
    metric.split(/[./]/).every(part => IDENTIFIER.test(part) && !PYTHON_WORDS.has(part)) &&
    !/\/.*\./.test(metric) &&
    !FIELDS.includes(metric.split(/[./]/)[0] ?? '') &&
    !['config', 'metrics'].includes(metric.split(/[./]/)[0] ?? '') &&
    !STATISTICS.includes(metric.split('.').slice(1).at(-1) ?? '');
  return isPlain ? metric : `metrics[${JSON.stringify(metric)}]`;
}

/** Return a configuration key as filters name it: `config.lr`, `config["lr schedule"]`. */
export function configName(key: string): string {
  const isPlain = key.split('.').every(part => IDENTIFIER.test(part) && !PYTHON_WORDS.has(part));
  return isPlain ? `config.${key}` : `config[${JSON.stringify(key)}]`;
}

/** Return a value as filters write it. */
export function literal(value: string | number | boolean): string {
  return typeof value === 'boolean' ? (value ? 'True' : 'False') : JSON.stringify(value);
}

/** Return what may be written at the cursor. */
export function complete(text: string, cursor: number, names: IFilterNames): ICompletion {
  const tokens = tokenize(text);
  const current = tokens.find(
    ({ kind, from, to }) =>
      from < cursor && cursor <= to && !['open', 'close', 'comma', 'operator'].includes(kind)
  );
  const before = tokens.filter(({ to }) => to <= (current?.from ?? cursor));
  const from = current?.from ?? cursor;
  const to = current === undefined ? cursor : Math.max(current.to, cursor);
  const typed = text.slice(from, cursor);
  const options = candidates(before, typed, names);
  return { from, to, options: rank(options, typed).slice(0, MAX_OPTIONS) };
}

function candidates(
  before: readonly IToken[],
  typed: string,
  names: IFilterNames
): readonly IOption[] {
  const last = before.at(-1);
  const previous = before.at(-2);
  const listStart = before.findLastIndex(({ kind }) => kind === 'open');
  const isInList =
    listStart > 0 &&
    before[listStart - 1]?.text === 'in' &&
    !before.slice(listStart).some(({ kind }) => kind === 'close');
  if (isInList) {
    const isNegated = before[listStart - 2]?.text === 'not';
    return values(before[listStart - (isNegated ? 3 : 2)]?.text ?? '', names);
  }
  if (last === undefined || last.kind === 'open' || isConnective(last)) {
    return operands(names, last?.text !== 'not');
  }
  if (last.kind === 'operator') {
    return values(previous?.text ?? '', names);
  }
  if (last.text === 'in') {
    const subject = previous?.text === 'not' ? before.at(-3) : previous;
    return subject?.kind === 'text'
      ? ['tags', 'name', 'notes', 'notebook', 'path', 'group'].map(text => ({
          text,
          kind: 'field'
        }))
      : [{ text: '[', kind: 'word' }];
  }
  if (last.text === 'is') {
    return ['None', 'not None'].map(text => ({ text, kind: 'word' }));
  }
  // After an operand: an operator if it begins a comparison, else what combines comparisons.
  const beforeLast = previous;
  const isLeft = beforeLast === undefined || beforeLast.kind === 'open' || isConnective(beforeLast);
  if (isLeft && last.kind === 'text') {
    return ['in', 'not in', '==', '!='].map(text => ({ text, kind: 'operator' }));
  }
  if (isLeft && last.kind === 'name') {
    const isText = TEXT_FIELDS.includes(last.text);
    const operators = isText ? ['==', '!=', 'in', 'not in'] : [...COMPARISONS, 'in', 'not in'];
    return operators.map(text => ({ text, kind: 'operator' }));
  }
  return typed.startsWith('"') ? [] : ['and', 'or'].map(text => ({ text, kind: 'word' }));
}

function isConnective({ kind, text }: IToken): boolean {
  return kind === 'name' && ['and', 'or', 'not'].includes(text);
}

function operands({ config, metrics, tags }: IFilterNames, canNegate: boolean): IOption[] {
  const option =
    (kind: OptionKind) =>
    (text: string): IOption => ({ text, kind });
  return [
    ...FIELDS.filter(name => name !== 'tags').map(option('field')),
    ...config.map(configName).map(option('config')),
    ...metrics.map(metricName).map(option('metric')),
    ...metrics.flatMap(metric =>
      ['min', 'max'].map(statistic => option('metric')(`${metricName(metric)}.${statistic}`))
    ),
    ...tags.map(tag => option('value')(`${JSON.stringify(tag)} in tags`)),
    ...(canNegate ? [option('word')('not')] : [])
  ];
}

function values(name: string, { valuesOf, tags }: IFilterNames): IOption[] {
  const option = (text: string): IOption => ({ text, kind: 'value' });
  if (name === 'archived') {
    return ['True', 'False'].map(option);
  }
  if (name === 'tags') {
    return tags.map(tag => option(literal(tag)));
  }
  const found = [...new Set(valuesOf(name).map(literal))].map(option);
  return FIELDS.includes(name) && name !== 'group' && name !== 'notes'
    ? found
    : [...found, option('None')];
}

/** Return the options that contain what was typed, those that begin with it first. */
function rank(options: readonly IOption[], typed: string): IOption[] {
  const wanted = typed.toLowerCase().replace(/^["']/, '');
  if (wanted === '') {
    return [...options];
  }
  const ranked = options.flatMap((option, index) => {
    const text = option.text.toLowerCase();
    if (text === typed.toLowerCase()) {
      return []; // there is nothing to complete
    }
    const plain = text.replace(/^(config\.|config\["|metrics\["|")/, '');
    // Keys that need brackets are also found by `config.lr`.
    const dotted = text.replace(/^config\["/, 'config.');
    const isPrefix = [text, plain, dotted].some(one => one.startsWith(wanted));
    return isPrefix || text.includes(wanted) ? [{ option, order: isPrefix ? 0 : 1, index }] : [];
  });
  return ranked.sort((a, b) => a.order - b.order || a.index - b.index).map(({ option }) => option);
}

/** Return the reason in a server's message; its place and the suggestions are shown otherwise. */
export function errorReason(message: string): string {
  return message
    .replace(/^where: /, '')
    .replace(/ \(at (?:position \d+, .*|the end)\)$/s, '')
    .replace(/; did you mean .*\?$/s, '');
}

/** Return the index in a text of a position of the server, which counts code points. */
export function indexOf(text: string, position: number): number {
  return Array.from(text).slice(0, position).join('').length;
}

/** Return the characters that an error at an index is about. */
export function errorRange(text: string, position: number): [from: number, to: number] {
  const tokens = tokenize(text);
  const token = tokens.find(({ to }) => to > position) ?? tokens.at(-1);
  return token === undefined ? [0, text.length] : [token.from, token.to];
}

/** Return a filter with the part at an error replaced by a suggestion of the server. */
export function applySuggestion(text: string, position: number, suggestion: string): string {
  let [from, to] =
    position >= text.length ? [text.length, text.length] : errorRange(text, position);
  let insert = suggestion;
  const [, quoted] = /^(?:metrics|config)\["(.*)"\]$/s.exec(suggestion) ?? [];
  if (quoted !== undefined) {
    // An expression such as `a - b`, which is the name of a metric.
    let end = from;
    for (let i = 0; i < quoted.length && end < text.length; end++) {
      i += text[end] === quoted[i] ? 1 : 0;
    }
    to = Math.max(to, text.slice(from, end).replaceAll(/\s/g, '') === quoted ? end : to);
  } else if (suggestion.endsWith(' in tags')) {
    from = /tags\s*[!=]=\s*$/.exec(text.slice(0, from))?.index ?? from; // not the value alone
  } else if (/^["']/.test(text.slice(from, to)) && !/^["']/.test(suggestion)) {
    insert = JSON.stringify(suggestion);
  }
  return text.slice(0, from) + insert + text.slice(to);
}
