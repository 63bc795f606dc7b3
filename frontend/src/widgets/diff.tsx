/** What differs between two checkpoints or two versions: code, metrics, environment. */

import { ReactWidget } from '@jupyterlab/ui-components';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { formatNumber, toNumber } from '../pure/metrics.ts';
import { diffLines } from '../pure/textdiff.ts';
import type { ICellChange, IValueChange } from '../records.ts';

export interface IDiff {
  /** What each side is called. */
  before: string;
  after: string;
  changes: readonly ICellChange[];
  /** Whether the code is what was executed, not what was saved. */
  isExecuted?: boolean;
  /** Missing for versions, which have none. */
  metrics?: readonly IValueChange[];
  environment?: readonly IValueChange[] | undefined;
}

export class DiffView extends ReactWidget {
  readonly #diff: IDiff;
  readonly #trans: TranslationBundle;

  constructor(diff: IDiff, trans: TranslationBundle) {
    super();
    this.#diff = diff;
    this.#trans = trans;
    this.addClass('axon-Diff');
  }

  protected override render(): React.ReactElement {
    return <Diff diff={this.#diff} trans={this.#trans} />;
  }
}

interface IDiffProps {
  diff: IDiff;
  trans: TranslationBundle;
}

function Diff({ diff, trans }: IDiffProps): React.ReactElement {
  const { before, after, changes, metrics, environment } = diff;
  return (
    <div className="axon-Diff-content" tabIndex={0}>
      <h2>{trans.__('From %1 to %2', before, after)}</h2>
      {metrics !== undefined && <Values title={trans.__('Metrics')} values={metrics} diff={diff} />}
      <section aria-label={trans.__('Code')}>
        <h3>{diff.isExecuted === true ? trans.__('Executed code') : trans.__('Saved code')}</h3>
        {changes.length === 0 && <p>{trans.__('No code changes.')}</p>}
        {changes.map(change => (
          <Change key={change.cell_id} change={change} trans={trans} />
        ))}
      </section>
      {environment !== undefined && (
        <Values
          title={trans.__('Environment')}
          values={environment}
          diff={diff}
          same={trans.__('No differences.')}
        />
      )}
    </div>
  );
}

interface IValuesProps {
  title: string;
  /** What to say where there are none. */
  same?: string;
  values: readonly IValueChange[];
  diff: IDiff;
}

function Values({ title, values, diff, same }: IValuesProps): React.ReactElement {
  if (values.length === 0) {
    return (
      <section aria-label={title}>
        <h3>{title}</h3>
        <p>{same}</p>
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
              <td>{shown(before)}</td>
              <td>{shown(after)}</td>
              <td>{difference(before, after)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function shown(value: unknown): string {
  const number = toNumber(value);
  if (number !== undefined) {
    return formatNumber(number);
  }
  if (value === undefined || value === null) {
    return '–';
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function difference(before: unknown, after: unknown): string {
  if (typeof before !== 'number' || typeof after !== 'number' || before === after) {
    return '';
  }
  const by = after - before;
  return `${by > 0 ? '+' : '−'}${formatNumber(Math.abs(by))}`;
}

interface IChangeProps {
  change: ICellChange;
  trans: TranslationBundle;
}

function Change({ change, trans }: IChangeProps): React.ReactElement {
  const lines = React.useMemo(
    () => diffLines(change.before ?? '', change.after ?? ''),
    [change.before, change.after]
  );
  const hidden = Math.max(lines.length - MOST_LINES, 0);
  return (
    <figure className="axon-Diff-cell">
      <figcaption>
        {changeWord(trans, change.change)} <code>{change.cell_id}</code>
      </figcaption>
      <pre>
        {lines.slice(0, MOST_LINES).map((line, index) => (
          <span key={index} className="axon-Diff-line" data-kind={line.kind}>
            <span className="axon-Diff-number">{line.before ?? ''}</span>
            <span className="axon-Diff-number">{line.after ?? ''}</span>
            <span className="axon-Diff-sign">{SIGNS[line.kind]}</span>
            {`${line.text}\n`}
          </span>
        ))}
      </pre>
      {hidden > 0 && <p>{trans.__('%1 more lines are not shown.', hidden)}</p>}
    </figure>
  );
}

/** Lines of a cell that are shown: a cell may be data, and every line is several elements. */
const MOST_LINES = 5000;

const SIGNS = { same: ' ', removed: '-', added: '+' } as const;

function changeWord(trans: TranslationBundle, change: ICellChange['change']): string {
  switch (change) {
    case 'added':
      return trans.__('Cell added');
    case 'removed':
      return trans.__('Cell removed');
    case 'changed':
      return trans.__('Cell changed');
    case 'moved':
      return trans.__('Cell moved');
  }
}
