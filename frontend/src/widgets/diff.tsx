/** A comparison of two checkpoints or two versions. */

import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { Widget } from '@lumino/widgets';
import * as React from 'react';

import type { Highlighter, IToken } from '../highlight.ts';
import type { Verdict } from '../pure/comparison.ts';
import { verdict } from '../pure/comparison.ts';
import type { Direction } from '../pure/direction.ts';
import { formatNumber, toNumber } from '../pure/metrics.ts';
import type { ILine } from '../pure/textdiff.ts';
import { diffLines } from '../pure/textdiff.ts';
import type { ICellChange, IValueChange } from '../records.ts';

/** Largest number of lines shown of a cell, which may contain data. */
const MAX_LINES = 5000;

export interface IDiff {
  /** The names of both sides. */
  before: string;
  after: string;
  changes: readonly ICellChange[];
  /** Whether the code was executed, not just saved. */
  isExecuted?: boolean;
  /** Missing for versions. */
  metrics?: readonly IValueChange[];
  environment?: readonly IValueChange[] | undefined;
  /** Which values of metrics are better; derived from their names by default. */
  directionOf?: Direction;
}

/** How code is highlighted; without it, it is not. */
export const HighlighterContext = React.createContext<Highlighter | undefined>(undefined);

export function createDiffView(
  diff: IDiff,
  trans: TranslationBundle,
  highlight: Highlighter
): Widget {
  const view = ReactWidget.create(
    <HighlighterContext.Provider value={highlight}>
      <Diff diff={diff} trans={trans} />
    </HighlighterContext.Provider>
  );
  view.addClass('axon-Diff');
  return view;
}

function Diff({ diff, trans }: { diff: IDiff; trans: TranslationBundle }): React.ReactElement {
  const { before, after, changes, metrics, environment } = diff;
  return (
    <div className="axon-Diff-content" tabIndex={0}>
      <h2>{trans.__('From %1 to %2', before, after)}</h2>
      {metrics !== undefined && (
        <Values title={trans.__('Metrics')} values={metrics} diff={diff} trans={trans} isMetric />
      )}
      <section aria-label={trans.__('Code')}>
        <h3>{diff.isExecuted === true ? trans.__('Executed code') : trans.__('Saved code')}</h3>
        {changes.length === 0 && <p>{trans.__('No code changes.')}</p>}
        {changes.map(change => (
          <CellChange key={change.cell_id} change={change} trans={trans} />
        ))}
      </section>
      {environment !== undefined && (
        <Values
          title={trans.__('Environment')}
          values={environment}
          diff={diff}
          trans={trans}
          emptyText={trans.__('No differences.')}
        />
      )}
    </div>
  );
}

interface IValuesProps {
  title: string;
  /** The text for no differences. */
  emptyText?: string;
  values: readonly IValueChange[];
  diff: IDiff;
  /** Whether one value may be better than another. */
  isMetric?: boolean;
  trans: TranslationBundle;
}

function Values({
  title,
  values,
  diff,
  emptyText,
  isMetric = false,
  trans
}: IValuesProps): React.ReactElement {
  if (values.length === 0) {
    return (
      <section aria-label={title}>
        <h3>{title}</h3>
        <p>{emptyText}</p>
      </section>
    );
  }
  return (
    <section aria-label={title}>
      <h3>{title}</h3>
      <table>
        <thead>
          <tr>
            <th />
            <th scope="col">{diff.before}</th>
            <th scope="col">{diff.after}</th>
            <th />
          </tr>
        </thead>
        <tbody>
          {values.map(({ name, before, after }) => (
            <tr key={name} className={before === after ? '' : 'axon-mod-changed'}>
              <th scope="row">{name}</th>
              <td>{formatValue(before)}</td>
              <td>{formatValue(after)}</td>
              <td>
                <Difference
                  before={before}
                  after={after}
                  verdict={isMetric ? verdict(name, before, after, diff.directionOf) : undefined}
                  trans={trans}
                />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function formatValue(value: unknown): string {
  const number = toNumber(value);
  if (number !== undefined) {
    return formatNumber(number);
  }
  if (value === undefined || value === null) {
    return '–';
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** How much a number differs from another one, marked as better or worse by sign and colour. */
export function Difference({
  before,
  after,
  verdict,
  trans
}: {
  before: unknown;
  after: unknown;
  verdict: Verdict | undefined;
  trans: TranslationBundle;
}): React.ReactElement | null {
  if (typeof before !== 'number' || typeof after !== 'number' || before === after) {
    return null;
  }
  const change = after - before;
  const text = `${change > 0 ? '+' : '−'}${formatNumber(Number(Math.abs(change).toPrecision(6)))}`;
  const label = { better: trans.__('better'), worse: trans.__('worse') };
  return (
    <span className="axon-Difference" data-verdict={verdict}>
      {` ${text}`}
      {verdict !== undefined && (
        <span role="img" aria-label={label[verdict]} title={label[verdict]}>
          {verdict === 'better' ? ' ▲' : ' ▼'}
        </span>
      )}
    </span>
  );
}

export function CellChange({
  change,
  trans
}: {
  change: ICellChange;
  trans: TranslationBundle;
}): React.ReactElement {
  const lines = React.useMemo(
    () => diffLines(change.before ?? '', change.after ?? ''),
    [change.before, change.after]
  );
  const before = useTokens(change.before ?? '');
  const after = useTokens(change.after ?? '');
  const hiddenCount = Math.max(lines.length - MAX_LINES, 0);
  return (
    <figure className="axon-Diff-cell">
      <figcaption>
        {changeLabel(trans, change.change)} <code>{change.cell_id}</code>
      </figcaption>
      <pre>
        {lines.slice(0, MAX_LINES).map((line, index) => (
          <span key={index} className="axon-Diff-line" data-kind={line.kind}>
            <span className="axon-Diff-number">{line.before ?? ''}</span>
            <span className="axon-Diff-number">{line.after ?? ''}</span>
            <span className="axon-Diff-sign">{SIGNS[line.kind]}</span>
            <Tokens line={line} before={before} after={after} />
            {'\n'}
          </span>
        ))}
      </pre>
      {hiddenCount > 0 && <p>{trans.__('%1 more lines are not shown.', hiddenCount)}</p>}
    </figure>
  );
}

type Lines = readonly (readonly IToken[])[] | undefined;

/** Return the tokens of each line; undefined until they are known. */
function useTokens(code: string): Lines {
  const highlight = React.useContext(HighlighterContext);
  const [found, setFound] = React.useState<{ code: string; lines: Lines }>();
  React.useEffect(() => {
    let isCurrent = true;
    void highlight?.(code).then(
      lines => isCurrent && setFound({ code, lines }),
      () => undefined // the language cannot be loaded: the code is shown without colours
    );
    return () => {
      isCurrent = false;
    };
  }, [code, highlight]);
  return found?.code === code ? found.lines : undefined;
}

function Tokens(props: { line: ILine; before: Lines; after: Lines }): React.ReactElement {
  const { line, before, after } = props;
  const tokens =
    line.after === undefined ? before?.[(line.before ?? 0) - 1] : after?.[line.after - 1];
  if (tokens === undefined) {
    return <>{line.text}</>;
  }
  return (
    <>
      {tokens.map(({ text, classes }, index) =>
        classes === '' ? (
          text
        ) : (
          <span key={index} className={classes}>
            {text}
          </span>
        )
      )}
    </>
  );
}

const SIGNS = { same: ' ', removed: '-', added: '+' } as const;

function changeLabel(trans: TranslationBundle, change: ICellChange['change']): string {
  return {
    added: trans.__('Cell added'),
    removed: trans.__('Cell removed'),
    changed: trans.__('Cell changed'),
    moved: trans.__('Cell moved')
  }[change];
}
