/** The section with the curves of a metric, one per run. */

import type { TranslationBundle } from '@jupyterlab/translation';
import { Button, HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import { configSourceLabel, runLabel } from '../labels.ts';
import { configText } from '../pure/config.ts';
import type { Axis, ICurves } from '../pure/curves.ts';
import { runsToDraw, toCurves } from '../pure/curves.ts';
import { formatNumber } from '../pure/metrics.ts';
import type { IRun } from '../records.ts';
import type { ICursor } from './chart.ts';
import { Chart, colourIndex } from './chart.ts';
import { usePanel, useSignal } from './context.tsx';
import { RankingSelect } from './ranking.tsx';

/** Smallest height of a chart in pixels. */
const MIN_HEIGHT = 130;

export function Curves(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { checkpoints } = model;
  const [axis, setAxis] = React.useState<Axis>('epoch');
  const [log, setLog] = React.useState(false);
  const [hidden, setHidden] = React.useState<ReadonlySet<string>>(new Set());
  const [cursor, setCursor] = React.useState<ICursor | undefined>(undefined);
  const [isExpanded, setExpanded] = React.useState(false);
  const { rows, runs, runOrder } = checkpoints;
  const bestRun = checkpoints.row(checkpoints.best ?? '')?.runId;
  const metric = checkpoints.ranking?.metric;
  const defaultRuns = React.useMemo(
    () => runsToDraw(runOrder, run => runs.get(run)?.status === 'running', bestRun),
    [runOrder, runs, bestRun]
  );
  const listed = React.useMemo(
    () => (isExpanded ? new Set(runOrder) : defaultRuns),
    [isExpanded, runOrder, defaultRuns]
  );
  const curves = React.useMemo(
    () =>
      metric === undefined
        ? undefined
        : toCurves(
            rows.filter(row => listed.has(row.runId) && !hidden.has(row.runId)),
            { metric, axis, log, parents: checkpoints.parents() }
          ),
    // `parents` depends on rows and runs.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [rows, runs, listed, metric, axis, log, hidden]
  );
  if (curves === undefined || metric === undefined) {
    return <NoCurves />;
  }
  return (
    <div className="axon-Curves">
      <div className="axon-Curves-controls">
        <RankingSelect />
        <HTMLSelect
          aria-label={trans.__('Over')}
          value={axis}
          options={[
            { value: 'epoch', label: trans.__('by epoch') },
            { value: 'step', label: trans.__('by step') }
          ]}
          onChange={event => setAxis(event.target.value as Axis)}
        />
        <label>
          <input type="checkbox" checked={log} onChange={event => setLog(event.target.checked)} />
          {trans.__('log')}
        </label>
      </div>
      <Plot curves={curves} metric={metric} axis={axis} log={log} onCursor={setCursor}>
        <p className="axon-Curves-cursor" role="status">
          {cursor !== undefined && cursorLabel(trans, axis, cursor, runs)}
        </p>
      </Plot>
      <Legend
        curves={curves}
        metric={metric}
        axis={axis}
        cursor={cursor}
        listed={listed}
        hidden={hidden}
        onToggle={run => {
          const changed = new Set(hidden);
          if (!changed.delete(run)) {
            changed.add(run);
          }
          setHidden(changed);
        }}
      />
      {defaultRuns.size < runOrder.length && (
        <Button minimal small className="axon-Link" onClick={() => setExpanded(!isExpanded)}>
          {isExpanded
            ? trans.__('Show the newest runs')
            : trans.__('Show all %1 runs', runOrder.length)}
        </Button>
      )}
      {curves.skipped > 0 && (
        <p className="axon-Hint">
          {trans._n(
            '%1 point is not drawn: it is not finite, or not positive on a logarithmic scale.',
            '%1 points are not drawn: they are not finite, or not positive on a logarithmic scale.',
            curves.skipped
          )}
        </p>
      )}
    </div>
  );
}

interface IPlotProps {
  curves: ICurves;
  metric: string;
  axis: Axis;
  log: boolean;
  onCursor: (cursor: ICursor | undefined) => void;
  /** Shown over the chart. */
  children: React.ReactNode;
}

function Plot({ curves, metric, axis, log, onCursor, children }: IPlotProps): React.ReactElement {
  const { model, trans, themeChanged } = usePanel();
  const theme = useSignal(themeChanged);
  const node = React.useRef<HTMLDivElement>(null);
  const chart = React.useRef<Chart | undefined>(undefined);
  const [isZoomed, setZoomed] = React.useState(false);
  const { runOrder } = model.checkpoints;
  // With the indices of the runs, which give them their colours.
  const runs = runOrder
    .flatMap((run, index) => (curves.y.has(run) ? `${index} ${run}` : []))
    .join('\n');

  React.useEffect(() => {
    const parent = node.current;
    if (parent === null) {
      return;
    }
    const created = new Chart(parent, curves, heightOf(parent), {
      axis,
      log,
      runOrder,
      onCursor,
      onZoom: setZoomed
    });
    chart.current = created;
    const observer = new ResizeObserver(() => {
      if (parent.clientWidth > 0) {
        created.resize(parent.clientWidth, heightOf(parent));
      }
    });
    observer.observe(parent);
    return () => {
      observer.disconnect();
      created.dispose();
      chart.current = undefined;
      setZoomed(false);
    };
    // The effect below draws other curves of the same runs.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [runs, metric, axis, log, theme]);

  React.useEffect(() => {
    if (chart.current?.hasRunsOf(curves) === true) {
      chart.current.draw(curves);
    }
  }, [curves]);

  return (
    <div className="axon-Curves-frame">
      <div
        ref={node}
        className="axon-Curves-plot"
        role="img"
        tabIndex={0}
        aria-label={trans.__(
          'Curves of %1 by %2, %3 points. Arrow keys move along them, plus and minus zoom, 0 shows all.',
          metric,
          axisLabel(trans, axis),
          curves.x.length
        )}
        onKeyDown={event => {
          if (event.ctrlKey || event.metaKey || event.altKey) {
            return; // a shortcut of the browser or JupyterLab
          }
          if (chart.current?.handleKey(event.key, event.shiftKey) === true) {
            event.preventDefault();
            event.stopPropagation();
          }
        }}
      />
      {isZoomed && (
        <Button
          small
          className="axon-Curves-all"
          title={trans.__('Or double-click')}
          onClick={() => chart.current?.resetZoom()}
        >
          {trans.__('Show all')}
        </Button>
      )}
      {children}
    </div>
  );
}

function heightOf(node: HTMLElement): number {
  return Math.max(MIN_HEIGHT, node.clientHeight);
}

function axisLabel(trans: TranslationBundle, axis: Axis): string {
  return axis === 'epoch' ? trans.__('epoch') : trans.__('step');
}

/** Return the position of the cursor and the values there. */
function cursorLabel(
  trans: TranslationBundle,
  axis: Axis,
  { x, values }: ICursor,
  runs: ReadonlyMap<string, IRun>
): string {
  const labels = [...values].map(
    ([run, value]) => `${runLabel(trans, runs, run)} ${formatNumber(value)}`
  );
  return trans.__('%1 %2: %3', axisLabel(trans, axis), x, labels.join(', '));
}

interface ILegendProps {
  curves: ICurves;
  metric: string;
  axis: Axis;
  cursor: ICursor | undefined;
  /** The runs to list, hidden ones included. */
  listed: ReadonlySet<string>;
  hidden: ReadonlySet<string>;
  onToggle: (runId: string) => void;
}

/** A table of the runs with their colours and values. */
function Legend({
  curves,
  metric,
  axis,
  cursor,
  listed,
  hidden,
  onToggle
}: ILegendProps): React.ReactElement {
  const { model, trans } = usePanel();
  const { runOrder, runs, best, ranking } = model.checkpoints;
  const bestRun = model.checkpoints.row(best ?? '')?.runId;
  const isMaximized = ranking?.minimize === false;
  return (
    <table className="axon-Legend" aria-label={trans.__('Runs by %1', metric)}>
      <thead>
        <tr>
          <th scope="col">{trans.__('run')}</th>
          <th scope="col">{trans.__('points')}</th>
          <th scope="col">
            {cursor === undefined
              ? trans.__('last')
              : trans.__('at %1 %2', axisLabel(trans, axis), cursor.x)}
          </th>
          <th scope="col">{isMaximized ? trans.__('max') : trans.__('min')}</th>
        </tr>
      </thead>
      <tbody>
        {runOrder.map((run, index) => {
          if (!listed.has(run)) {
            return null;
          }
          const summary = curves.summaries.get(run);
          const status = runs.get(run)?.status;
          return (
            <React.Fragment key={run}>
              <tr data-run={colourIndex(index)}>
                <th scope="row">
                  <span className="axon-Legend-run">
                    <label>
                      <input
                        type="checkbox"
                        checked={!hidden.has(run)}
                        onChange={() => onToggle(run)}
                      />
                      <span className="axon-Legend-colour" aria-hidden="true" />
                      <span className="axon-Legend-name" title={runLabel(trans, runs, run)}>
                        {runLabel(trans, runs, run)}
                      </span>
                    </label>
                    {status === 'running' && <em>{trans.__('running')}</em>}
                    {run === bestRun && <em>{trans.__('best')}</em>}
                  </span>
                </th>
                <td>{summary?.points ?? ''}</td>
                <td>{formatCell(cursor === undefined ? summary?.last : cursor.values.get(run))}</td>
                <td>{formatCell(isMaximized ? summary?.max : summary?.min)}</td>
              </tr>
              <RunConfig run={runs.get(run)} />
            </React.Fragment>
          );
        })}
      </tbody>
    </table>
  );
}

/** A row with the configuration of a run, with a mark if it was not given by the user. */
const RunConfig = React.memo(function RunConfig({
  run
}: {
  run: IRun | undefined;
}): React.ReactElement | null {
  const { trans } = usePanel();
  if (run?.config === undefined || Object.keys(run.config).length === 0) {
    return null;
  }
  const text = configText(run.config);
  const source = configSourceLabel(trans, run);
  return (
    <tr className="axon-Legend-config">
      <td colSpan={4} title={source === undefined ? text : `${text} (${source})`}>
        {source !== undefined && <em>{source}</em>} {text}
      </td>
    </tr>
  );
});

function formatCell(value: number | undefined): string {
  return value === undefined ? '' : formatNumber(value);
}

function NoCurves(): React.ReactElement | null {
  const { model, trans } = usePanel();
  if (model.record === undefined) {
    return null;
  }
  const { isLoaded, rows } = model.checkpoints;
  return (
    <p className="axon-Hint">
      {!isLoaded
        ? trans.__('Loading checkpoints…')
        : rows.length === 0
          ? trans.__('The metrics of your checkpoints are plotted here, one curve per run.')
          : trans.__('No checkpoint has a metric with a number.')}
    </p>
  );
}
