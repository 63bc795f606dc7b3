/** The differences between runs: configuration, metrics, executed code, environment and reproducibility. */

import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { AxonClient } from '../api.ts';
import type { IComparedRow, Verdict } from '../pure/comparison.ts';
import { alignChanges, compareConfigs, compareMetrics, verdict } from '../pure/comparison.ts';
import { valueText } from '../pure/dimensions.ts';
import type { Direction } from '../pure/direction.ts';
import type { ICheckpointDiff, IRunComparison, IRunReproducibility, IRunRow } from '../records.ts';
import { CellChange, Difference } from '../widgets/diff.tsx';
import { Swatch } from './swatch.tsx';

/** The most runs that the server compares. */
export const MAX_COMPARED = 20;

export interface IRunComparisonProps {
  /** 2 to 20 runs. */
  runs: readonly IRunRow[];
  colours: ReadonlyMap<string, number>;
  directionOf: Direction;
  client: AxonClient;
  /** Show the details of a run. */
  onOpen: (id: string) => void;
  trans: TranslationBundle;
}

interface ILoaded {
  /** The ids of the runs. */
  key: string;
  comparison?: IRunComparison;
  reproducibility?: ReadonlyMap<string, IRunReproducibility>;
  error?: string;
}

export function RunComparison({
  runs,
  colours,
  directionOf,
  client,
  onOpen,
  trans
}: IRunComparisonProps): React.ReactElement {
  const [baseId, setBase] = React.useState<string | undefined>(undefined);
  const [loaded, setLoaded] = React.useState<ILoaded | undefined>(undefined);
  const base = runs.find(({ id }) => id === baseId) ?? runs[0];
  const ordered = React.useMemo(
    () => (base === undefined ? [] : [base, ...runs.filter(run => run !== base)]),
    [runs, base]
  );
  const ids = ordered.map(({ id }) => id).join('\n');
  // The code of a run is that of its last checkpoint, and is mostly the same in all.
  const key = ordered.map(run => `${run.checkpoint_count > 0} ${run.status}`).join('\n');

  const latest = React.useRef(ids);

  React.useEffect(() => {
    // Answers for other runs may arrive later; those for the same runs are used even if a newer one is on its way.
    latest.current = ids;
    const show = (result: ILoaded): void => {
      if (latest.current === result.key) {
        setLoaded(result);
      }
    };
    const load = async (): Promise<void> => {
      const list = ids.split('\n');
      const [comparison, reproducibility] = await Promise.all([
        client.compareRuns(list),
        client.reproducibility(list, () => list[0])
      ]);
      const byId = new Map(reproducibility.map(one => [one.run_id, one]));
      show({ key: ids, comparison, reproducibility: byId });
    };
    load().catch((error: unknown) => {
      show({ key: ids, error: error instanceof Error ? error.message : String(error) });
    });
  }, [client, ids, key]);

  const current = loaded?.key === ids ? loaded : undefined;
  const { differing, equal } = React.useMemo(() => compareConfigs(ordered), [ordered]);
  const metrics = React.useMemo(() => compareMetrics(ordered, directionOf), [ordered, directionOf]);
  const table = { runs: ordered, colours, onOpen, trans };
  return (
    <div className="axon-Comparison" tabIndex={0} role="region" aria-label={trans.__('Comparison')}>
      <label className="axon-Comparison-base">
        {trans.__('Compare with')}
        <HTMLSelect
          value={base?.id ?? ''}
          options={runs.map(({ id, name }) => ({ value: id, label: name }))}
          onChange={event => setBase(event.target.value)}
        />
      </label>
      <section aria-label={trans.__('Metrics')}>
        <h3>{trans.__('Metrics')}</h3>
        {metrics.length === 0 ? (
          <p>{trans.__('The runs have no metrics.')}</p>
        ) : (
          <ComparedTable {...table} caption={trans.__('Metrics')}>
            {metrics.map(row => (
              <tr key={row.name}>
                <th scope="row">{row.name}</th>
                {row.values.map((value, index) => (
                  <MetricCell
                    key={ordered[index]?.id}
                    value={value}
                    base={index === 0 ? undefined : row.values[0]}
                    verdict={
                      index === 0 ? undefined : verdict(row.name, row.values[0], value, directionOf)
                    }
                    isBest={row.best.includes(index)}
                    trans={trans}
                  />
                ))}
              </tr>
            ))}
          </ComparedTable>
        )}
      </section>
      <section aria-label={trans.__('Configuration')}>
        <h3>{trans.__('Configuration')}</h3>
        {differing.length === 0 ? (
          <p>{trans.__('No differences.')}</p>
        ) : (
          <ComparedTable {...table} caption={trans.__('Configuration that differs')}>
            <ValueRows rows={differing} />
          </ComparedTable>
        )}
        {equal.length > 0 && (
          <details>
            <summary>{trans._n('%1 equal value', '%1 equal values', equal.length)}</summary>
            <table>
              <caption className="axon-Hidden">{trans.__('Equal configuration')}</caption>
              <tbody>
                {equal.map(({ name, values }) => (
                  <tr key={name}>
                    <th scope="row">{name}</th>
                    <td>{valueText(values[0])}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </details>
        )}
      </section>
      {current === undefined ? (
        <p role="status">{trans.__('Loading code and environment…')}</p>
      ) : current.error !== undefined ? (
        <p role="alert">{current.error}</p>
      ) : (
        <>
          <Code runs={ordered} changes={current.comparison?.changes ?? []} trans={trans} />
          <EnvironmentTable {...table} changes={current.comparison?.changes ?? []} />
          <Reproducibility runs={ordered} known={current.reproducibility} trans={trans} />
        </>
      )}
    </div>
  );
}

interface IComparedTableProps {
  runs: readonly IRunRow[];
  colours: ReadonlyMap<string, number>;
  onOpen: (id: string) => void;
  trans: TranslationBundle;
}

/** A table with a column per run. */
function ComparedTable({
  runs,
  colours,
  onOpen,
  trans,
  caption,
  children
}: IComparedTableProps & { caption: string; children: React.ReactNode }): React.ReactElement {
  return (
    <div className="axon-Comparison-scroller">
      <table>
        <caption className="axon-Hidden">{caption}</caption>
        <thead>
          <tr>
            <td />
            {runs.map((run, index) => (
              <th key={run.id} scope="col">
                <Swatch colour={colours.get(run.id) ?? 0} />
                <button
                  type="button"
                  className="axon-Comparison-run"
                  title={trans.__('Show the details of %1', run.name)}
                  onClick={() => onOpen(run.id)}
                >
                  {run.name}
                </button>
                {index === 0 && <em>{trans.__('base')}</em>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

/** Rows of values, with those marked that differ from the first. */
function ValueRows({ rows }: { rows: readonly IComparedRow[] }): React.ReactElement {
  return (
    <>
      {rows.map(({ name, values }) => (
        <tr key={name}>
          <th scope="row">{name}</th>
          {values.map((value, index) => {
            const text = valueText(value);
            const differs = JSON.stringify(value) !== JSON.stringify(values[0]);
            return (
              <td key={index} className={differs ? 'axon-mod-differs' : ''} title={text}>
                {text === '' ? '–' : text}
              </td>
            );
          })}
        </tr>
      ))}
    </>
  );
}

interface IMetricCellProps {
  value: unknown;
  /** The value to compare with; undefined for none. */
  base: unknown;
  verdict: Verdict | undefined;
  isBest: boolean;
  trans: TranslationBundle;
}

function MetricCell({ value, base, verdict, isBest, trans }: IMetricCellProps): React.ReactElement {
  return (
    <td className={isBest ? 'axon-mod-best' : ''}>
      {valueText(value) || '–'}
      {isBest && (
        <span role="img" aria-label={trans.__('best')} title={trans.__('best')}>
          {' ★'}
        </span>
      )}
      <Difference before={base} after={value} verdict={verdict} trans={trans} />
    </td>
  );
}

interface IChangesProps {
  /** The first is that with which the others are compared. */
  runs: readonly IRunRow[];
  changes: readonly (ICheckpointDiff | null)[];
  trans: TranslationBundle;
}

function Code({ runs, changes, trans }: IChangesProps): React.ReactElement {
  const isBaseUnknown = runs[0]?.checkpoint_count === 0;
  return (
    <section aria-label={trans.__('Code')}>
      <h3>{trans.__('Executed code')}</h3>
      {isBaseUnknown && (
        <p>{trans.__('The code of %1 is unknown, since it has no checkpoint.', runs[0]?.name)}</p>
      )}
      {(isBaseUnknown ? [] : changes).map((change, index) => {
        const { id, name = '' } = runs[index + 1] ?? {};
        if (change === null) {
          return <p key={id}>{trans.__('%1: unknown, since it has no checkpoint.', name)}</p>;
        }
        const { sources, executed } = change;
        return sources.length === 0 ? (
          <p key={id}>
            {executed
              ? trans.__('%1: the same code.', name)
              : trans.__('%1: the same code, by the saved notebook.', name)}
          </p>
        ) : (
          <details key={id} open={changes.length === 1}>
            <summary>
              {executed
                ? trans._n('%2: %1 cell differs', '%2: %1 cells differ', sources.length, name)
                : trans._n(
                    '%2: %1 cell differs, by the saved notebooks',
                    '%2: %1 cells differ, by the saved notebooks',
                    sources.length,
                    name
                  )}
            </summary>
            <div className="axon-Diff">
              {sources.map(source => (
                <CellChange key={source.cell_id} change={source} trans={trans} />
              ))}
            </div>
          </details>
        );
      })}
    </section>
  );
}

function EnvironmentTable({
  changes,
  ...table
}: IComparedTableProps & IChangesProps): React.ReactElement {
  const { trans } = table;
  const rows = (kind: 'values' | 'packages'): IComparedRow[] =>
    alignChanges(changes.map(change => change?.environment?.[kind]));
  const all = [...rows('values'), ...rows('packages')];
  const isUnknown = changes.every(change => change?.environment === undefined);
  return (
    <section aria-label={trans.__('Environment')}>
      <h3>{trans.__('Environment')}</h3>
      {isUnknown ? (
        <p>{trans.__('The environment of the runs is unknown.')}</p>
      ) : all.length === 0 ? (
        <p>{trans.__('No differences.')}</p>
      ) : (
        <ComparedTable {...table} caption={trans.__('Environment that differs')}>
          <ValueRows rows={all} />
        </ComparedTable>
      )}
    </section>
  );
}

function Reproducibility({
  runs,
  known,
  trans
}: {
  runs: readonly IRunRow[];
  known: ReadonlyMap<string, IRunReproducibility> | undefined;
  trans: TranslationBundle;
}): React.ReactElement {
  return (
    <section aria-label={trans.__('Reproducibility')}>
      <h3>{trans.__('Reproducibility')}</h3>
      <ul>
        {runs.map(({ id, name }) => {
          const { checkpoint_id, flags = [] } = known?.get(id) ?? {};
          return (
            <li key={id}>
              {checkpoint_id === undefined
                ? trans.__('%1: unknown, since it has no checkpoint.', name)
                : flags.length === 0
                  ? trans.__('%1: nothing suggests that it cannot be reproduced.', name)
                  : trans.__('%1 may not be reproducible:', name)}
              {flags.length > 0 && (
                <ul>
                  {flags.map(({ message }) => (
                    <li key={message}>{message}</li>
                  ))}
                </ul>
              )}
            </li>
          );
        })}
      </ul>
    </section>
  );
}
