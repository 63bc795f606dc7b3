/** The table of the runs whose curves are drawn, which is their legend. */

import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { colourIndex } from '../charts/colours.ts';
import { starIcon } from '../icons.ts';
import { configSourceLabel, formatTime, runLabel } from '../labels.ts';
import { fitColumns } from '../pure/columns.ts';
import { configText } from '../pure/config.ts';
import { formatNumber } from '../pure/metrics.ts';
import { bestRun, bestValue, differingKeys, flattenConfig } from '../pure/summary.ts';
import type { IRun } from '../records.ts';
import { usePanel } from './context.tsx';
import { textWidth, useMeasure } from './measure.ts';
import { StatusDot } from './status.tsx';

/** Widths in pixels: of the name, of a number, and the largest of a value of the configuration. */
const NAME_WIDTH = 120;
const NUMBER_WIDTH = 62;
const MAX_VALUE_WIDTH = 96;
const PADDING = 10;

export interface IRunTableProps {
  /** The runs to list, hidden ones included. */
  listed: ReadonlySet<string>;
  hidden: ReadonlySet<string>;
  /** The run whose curve is at the pointer. */
  highlighted: string | undefined;
  onToggle: (runId: string) => void;
  /** Called with the run that has the pointer or the focus. */
  onFocus: (runId: string | undefined) => void;
}

/** The runs, the newest first: name, the configuration that differs, and the best value of the chosen metric. */
export function RunTable(props: IRunTableProps): React.ReactElement {
  const { listed, hidden, highlighted, onToggle, onFocus } = props;
  const { model, trans } = usePanel();
  const { ranking, runOrder, runs } = model.checkpoints;
  const [node, setNode] = React.useState<HTMLElement | null>(null);
  const { width, font } = useMeasure(node);
  const configs = React.useMemo(
    () => new Map([...listed].map(id => [id, flattenConfig(runs.get(id)?.config)])),
    [listed, runs]
  );
  const keys = React.useMemo(() => {
    const given = [...configs.values()].filter(config => config.size > 0);
    const [only, ...others] = given;
    const useful =
      only !== undefined && others.length === 0 ? [...only.keys()] : differingKeys(given);
    const columns = useful.map((key, priority) => {
      const texts = [key, ...given.map(config => config.get(key) ?? '')];
      const widest = Math.max(...texts.map(text => textWidth(text, font)));
      return { key, priority, width: Math.min(widest, MAX_VALUE_WIDTH) + PADDING };
    });
    const fitting = fitColumns(columns, width - NAME_WIDTH - NUMBER_WIDTH);
    return useful.filter(key => fitting.has(key));
  }, [configs, width, font]);
  const best = React.useMemo(
    () => (ranking === undefined ? undefined : bestRun(runs.values(), ranking)?.run.id),
    [runs, ranking?.metric, ranking?.minimize] // eslint-disable-line react-hooks/exhaustive-deps
  );
  const metric = ranking?.metric ?? '';
  return (
    <table ref={setNode} className="axon-RunTable" aria-label={trans.__('Runs')}>
      <thead>
        <tr>
          <th scope="col">{trans.__('run')}</th>
          {keys.map(key => (
            <th key={key} scope="col" title={key}>
              {key}
            </th>
          ))}
          <th scope="col" title={trans.__('Best %1 of the run', metric)}>
            {trans.__('best')}
          </th>
        </tr>
      </thead>
      <tbody onMouseLeave={() => onFocus(undefined)} onBlur={() => onFocus(undefined)}>
        {runOrder
          .map((id, index) => ({ id, index }))
          .filter(({ id }) => listed.has(id))
          .reverse()
          .map(({ id, index }) => {
            const run = runs.get(id);
            const label = runLabel(trans, runs, id);
            const source = run && configSourceLabel(trans, run);
            const config = configTitle(run?.config, source);
            const value = run && ranking && bestValue(run, ranking)?.value;
            return (
              <tr
                key={id}
                data-run={colourIndex(index)}
                className={id === highlighted ? 'axon-mod-highlighted' : ''}
                onMouseEnter={() => onFocus(id)}
                onFocus={() => onFocus(id)}
              >
                <th scope="row">
                  <span className="axon-RunTable-run">
                    <label>
                      <input
                        type="checkbox"
                        checked={!hidden.has(id)}
                        onChange={() => onToggle(id)}
                      />
                      <span className="axon-Legend-colour" aria-hidden="true" />
                      <span
                        className="axon-RunTable-name"
                        title={runTitle(trans, label, run, config)}
                      >
                        {label}
                      </span>
                    </label>
                    {run !== undefined && run.status !== 'completed' && (
                      <StatusDot status={run.status} trans={trans} />
                    )}
                    {id === best && (
                      <span role="img" aria-label={trans.__('Best')} title={trans.__('Best')}>
                        <starIcon.react tag="span" width="13px" />
                      </span>
                    )}
                  </span>
                </th>
                {keys.map(key => (
                  <td
                    key={key}
                    className={source === undefined ? '' : 'axon-mod-derived'}
                    title={config}
                  >
                    {configs.get(id)?.get(key)}
                  </td>
                ))}
                <td>{value !== undefined && formatNumber(value)}</td>
              </tr>
            );
          })}
      </tbody>
    </table>
  );
}

/** Return a configuration, and where it comes from unless the user gave it. */
function configTitle(
  config: Record<string, unknown> | undefined,
  source: string | undefined
): string | undefined {
  const text = configText(config ?? {});
  return text === '' ? undefined : source === undefined ? text : `${text} (${source})`;
}

function runTitle(
  trans: TranslationBundle,
  label: string,
  run: IRun | undefined,
  config: string | undefined
): string {
  const lines = [label, run && trans.__('started %1', formatTime(run.started_at)), config];
  return lines.filter(Boolean).join('\n');
}
