/** Metric curves: one a run, over epochs or steps. */

import type { TranslationBundle } from '@jupyterlab/translation';
import { Button, HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { Axis, ICurves } from '../pure/curves.ts';
import { curves, runsToDraw } from '../pure/curves.ts';
import { formatNumber } from '../pure/metrics.ts';
import type { ICursor } from './chart.ts';
import { Chart, colourPlace } from './chart.ts';
import { usePanel, useSignal } from './context.ts';
import { NoCurves } from './empty.tsx';
import { MeasureSelect } from './measure.tsx';
import { runWord } from './words.ts';

/** Pixels that a chart has at least. */
const LEAST_HEIGHT = 130;

export function Curves(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { checkpoints } = model;
  const [axis, setAxis] = React.useState<Axis>('epoch');
  const [log, setLog] = React.useState(false);
  const [hidden, setHidden] = React.useState<ReadonlySet<string>>(new Set());
  const [cursor, setCursor] = React.useState<ICursor | undefined>(undefined);
  const [showsAll, setShowsAll] = React.useState(false);
  const { rows, runs, order } = checkpoints;
  const best = checkpoints.row(checkpoints.best ?? '')?.runId;
  const metric = checkpoints.measure?.metric;
  const newest = React.useMemo(
    () => runsToDraw(order, run => runs.get(run)?.status === 'running', best),
    [order, runs, best]
  );
  const listed = React.useMemo(
    () => (showsAll ? new Set(order) : newest),
    [showsAll, order, newest]
  );
  const drawn = React.useMemo(
    () =>
      metric === undefined
        ? undefined
        : curves(
            rows.filter(row => listed.has(row.runId) && !hidden.has(row.runId)),
            { metric, axis, log, parents: checkpoints.parents() }
          ),
    // `parents` follows from rows and runs.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [rows, runs, listed, metric, axis, log, hidden]
  );
  if (drawn === undefined || metric === undefined) {
    return <NoCurves />;
  }
  return (
    <div className="axon-Curves">
      <div className="axon-Curves-controls">
        <MeasureSelect />
        <HTMLSelect
          aria-label={trans.__('Over')}
          value={axis}
          options={[
            { value: 'epoch', label: trans.__('by epoch') },
            { value: 'step', label: trans.__('by step') }
          ]}
          onChange={event => {
            setAxis(event.target.value as Axis);
          }}
        />
        <label>
          <input
            type="checkbox"
            checked={log}
            onChange={event => {
              setLog(event.target.checked);
            }}
          />
          {trans.__('log')}
        </label>
      </div>
      <Plot drawn={drawn} metric={metric} axis={axis} log={log} onCursor={setCursor}>
        <p className="axon-Curves-cursor" role="status">
          {cursor !== undefined && cursorWords(trans, axis, cursor, order)}
        </p>
      </Plot>
      <Legend
        drawn={drawn}
        metric={metric}
        axis={axis}
        cursor={cursor}
        listed={listed}
        hidden={hidden}
        onToggle={run => {
          const other = new Set(hidden);
          if (!other.delete(run)) {
            other.add(run);
          }
          setHidden(other);
        }}
      />
      {newest.size < order.length && (
        <Button
          minimal
          small
          className="axon-Link"
          onClick={() => {
            setShowsAll(!showsAll);
          }}
        >
          {showsAll ? trans.__('Show the newest runs') : trans.__('Show all %1 runs', order.length)}
        </Button>
      )}
      {drawn.left > 0 && (
        <p className="axon-Hint">
          {trans._n(
            '%1 point is not drawn: it is not finite, or not above 0 on a logarithmic scale.',
            '%1 points are not drawn: they are not finite, or not above 0 on a logarithmic scale.',
            drawn.left
          )}
        </p>
      )}
    </div>
  );
}

interface IPlotProps {
  drawn: ICurves;
  metric: string;
  axis: Axis;
  log: boolean;
  onCursor: (cursor: ICursor | undefined) => void;
  /** Shown on it. */
  children: React.ReactNode;
}

function Plot({ drawn, metric, axis, log, onCursor, children }: IPlotProps): React.ReactElement {
  const { model, trans, themeChanged } = usePanel();
  const theme = useSignal(themeChanged);
  const node = React.useRef<HTMLDivElement>(null);
  const chart = React.useRef<Chart | undefined>(undefined);
  const [isZoomed, setZoomed] = React.useState(false);
  const axisName = axisWord(trans, axis);
  const { order } = model.checkpoints;
  // By their places, too, which give them their colours and names.
  const runs = order
    .flatMap((run, place) => (drawn.y.has(run) ? `${place} ${run}` : []))
    .join('\n');

  React.useEffect(() => {
    const parent = node.current;
    if (parent === null) {
      return;
    }
    const made = new Chart(parent, drawn, heightOf(parent), {
      axis,
      log,
      runs: order,
      runName: run => runWord(trans, order, run),
      onCursor,
      onZoom: setZoomed
    });
    chart.current = made;
    const observer = new ResizeObserver(() => {
      if (parent.clientWidth > 0) {
        made.resize(parent.clientWidth, heightOf(parent));
      }
    });
    observer.observe(parent);
    return () => {
      observer.disconnect();
      made.dispose();
      chart.current = undefined;
      setZoomed(false);
    };
    // What is drawn changes with every checkpoint; a chart of the same runs takes that as it is, below.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [runs, metric, axis, log, theme]);

  React.useEffect(() => {
    if (chart.current?.fits(drawn) === true) {
      chart.current.draw(drawn);
    }
  }, [drawn]);

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
          axisName,
          drawn.x.length
        )}
        onKeyDown={event => {
          if (event.ctrlKey || event.metaKey || event.altKey) {
            return; // the browser's or JupyterLab's
          }
          if (chart.current?.key(event.key, event.shiftKey) === true) {
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
          onClick={() => {
            chart.current?.resetZoom();
          }}
        >
          {trans.__('Show all')}
        </Button>
      )}
      {children}
    </div>
  );
}

function heightOf(node: HTMLElement): number {
  return Math.max(LEAST_HEIGHT, node.clientHeight);
}

function axisWord(trans: TranslationBundle, axis: Axis): string {
  return axis === 'epoch' ? trans.__('epoch') : trans.__('step');
}

/** Where the cursor is and what is there. */
function cursorWords(
  trans: TranslationBundle,
  axis: Axis,
  { x, values }: ICursor,
  order: readonly string[]
): string {
  const found = [...values].map(
    ([run, value]) => `${runWord(trans, order, run)} ${formatNumber(value)}`
  );
  return trans.__('%1 %2: %3', axisWord(trans, axis), x, found.join(', '));
}

interface ILegendProps {
  drawn: ICurves;
  metric: string;
  axis: Axis;
  cursor: ICursor | undefined;
  /** The runs that have a row, drawn or hidden. */
  listed: ReadonlySet<string>;
  hidden: ReadonlySet<string>;
  onToggle: (runId: string) => void;
}

/** Which colour is which run; the same in numbers. */
function Legend({
  drawn,
  metric,
  axis,
  cursor,
  listed,
  hidden,
  onToggle
}: ILegendProps): React.ReactElement {
  const { model, trans } = usePanel();
  const { order, runs, best, measure } = model.checkpoints;
  const bestRun = best === undefined ? undefined : model.checkpoints.row(best)?.runId;
  return (
    <table className="axon-Legend" aria-label={trans.__('Runs by %1', metric)}>
      <thead>
        <tr>
          <th scope="col">{trans.__('run')}</th>
          <th scope="col">{trans.__('points')}</th>
          <th scope="col">
            {cursor === undefined
              ? trans.__('last')
              : trans.__('at %1 %2', axisWord(trans, axis), cursor.x)}
          </th>
          <th scope="col">{measure?.minimize === false ? trans.__('max') : trans.__('min')}</th>
        </tr>
      </thead>
      <tbody>
        {order.map((run, place) => {
          if (!listed.has(run)) {
            return null;
          }
          const summary = drawn.summaries.get(run);
          const status = runs.get(run)?.status;
          return (
            <tr key={run} data-run={colourPlace(place)}>
              <th scope="row">
                <span className="axon-Legend-run">
                  <label>
                    <input
                      type="checkbox"
                      checked={!hidden.has(run)}
                      onChange={() => {
                        onToggle(run);
                      }}
                    />
                    <span className="axon-Legend-colour" aria-hidden="true" />
                    {runWord(trans, order, run)}
                  </label>
                  {status === 'running' && <em>{trans.__('running')}</em>}
                  {run === bestRun && <em>{trans.__('best')}</em>}
                </span>
              </th>
              <td>{summary?.points ?? ''}</td>
              <td>{shown(cursor === undefined ? summary?.last : cursor.values.get(run))}</td>
              <td>{shown(measure?.minimize === false ? summary?.most : summary?.least)}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

function shown(value: number | undefined): string {
  return value === undefined ? '' : formatNumber(value);
}
