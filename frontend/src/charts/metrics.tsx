/** Small charts of metrics, one per metric, with a common cursor and zoom. */

import type { TranslationBundle } from '@jupyterlab/translation';
import { Button } from '@jupyterlab/ui-components';
import type { ISignal } from '@lumino/signaling';
import * as React from 'react';

import type { IPoints } from '../pure/curve.ts';
import { extentOf, isDrawable, summarizeCurve } from '../pure/curve.ts';
import { formatDuration } from '../pure/duration.ts';
import type { ISpread } from '../pure/means.ts';
import { smoothedMean } from '../pure/means.ts';
import { formatNumber } from '../pure/metrics.ts';
import { smooth } from '../pure/smoothing.ts';
import { useSignal } from '../widgets/context.tsx';
import { useMedia } from './canvas.tsx';
import { ChartGroup } from './group.ts';
import type { IDrawnCurve } from './plot.ts';
import { Plot } from './plot.ts';
import { Swatch } from './swatch.tsx';

const DEFAULT_HEIGHT = 150;
const DEFAULT_MIN_WIDTH = 240;
/** Number of runs beside the emphasised one whose values are shown at the cursor. */
const MAX_VALUES = 8;

/** The values of a metric of a run, or the mean of several. Keep the arrays while they don't change: they are compared by identity. */
export interface ICurve {
  /** The id of the run or of the group. */
  runId: string;
  label: string;
  /** Index of `--axon-run-N`; from 8 on, the colours repeat with dashes. */
  colour: number;
  /** Ascending. */
  x: readonly number[];
  /** Null for a gap. */
  y: readonly (number | null)[];
  /** Whether the run is emphasised. */
  isFocused?: boolean;
  /** The curves of the runs and their spread, if it is a mean. They belong to `y`. */
  runs?: readonly IPoints[];
  spread?: ISpread;
}

export interface IMetricChart {
  metric: string;
  curves: readonly ICurve[];
  /** Whether curves are those of groups of runs. */
  isGrouped?: boolean;
}

export interface IChartAxis {
  label: string;
  /** Whether x is a number of seconds. */
  kind: 'number' | 'duration';
}

export interface IMetricCharts {
  charts: readonly IMetricChart[];
  axis: IChartAxis;
  /** Weight of earlier values, 0 to 0.99. */
  smoothing: number;
  log: boolean;
  /** Height of a chart in pixels. */
  height?: number;
  /** Smallest width of a chart in pixels; the number of charts beside each other follows from it. */
  minWidth?: number;
  /** Called with the run whose curve is at the pointer. */
  onHover?: (runId: string | undefined) => void;
  trans: TranslationBundle;
  themeChanged: ISignal<unknown, unknown> | undefined;
}

export function MetricCharts({
  charts,
  axis,
  smoothing,
  log,
  height = DEFAULT_HEIGHT,
  minWidth = DEFAULT_MIN_WIDTH,
  onHover,
  trans,
  themeChanged
}: IMetricCharts): React.ReactElement {
  const [group] = React.useState(() => new ChartGroup());
  const extent = React.useMemo(
    () => extentOf(charts.flatMap(({ curves }) => curves)) ?? { min: 0, max: 1 },
    [charts]
  );
  const focused = charts.flatMap(({ curves }) => curves).find(curve => curve.isFocused)?.runId;

  React.useEffect(() => group.zoom(undefined), [group, axis.label]);
  React.useEffect(() => group.setExtent(extent), [group, extent]);
  React.useEffect(() => group.highlight(focused), [group, focused]);
  React.useEffect(() => {
    let current: string | undefined;
    const report = (): void => {
      const runId = group.cursor?.runId;
      if (runId !== current) {
        current = runId;
        onHover?.(runId);
      }
    };
    group.cursorChanged.connect(report);
    return () => void group.cursorChanged.disconnect(report);
  }, [group, onHover]);

  const style = { '--axon-chart-width': `${minWidth}px` } as React.CSSProperties;
  return (
    <div className="axon-MetricCharts" style={style}>
      {charts.map(chart => (
        <MetricChart
          key={chart.metric}
          chart={chart}
          group={group}
          axisLabel={axis.label}
          axisKind={axis.kind}
          smoothing={smoothing}
          log={log}
          height={height}
          trans={trans}
          themeChanged={themeChanged}
        />
      ))}
    </div>
  );
}

interface IMetricChartProps {
  chart: IMetricChart;
  group: ChartGroup;
  axisLabel: string;
  axisKind: IChartAxis['kind'];
  smoothing: number;
  log: boolean;
  height: number;
  trans: TranslationBundle;
  themeChanged: ISignal<unknown, unknown> | undefined;
}

/** A chart; rendered again only if its own curves have changed. */
const MetricChart = React.memo(
  MetricChartView,
  (before, after) =>
    hasSameCurves(before.chart, after.chart) &&
    (Object.keys(after) as (keyof IMetricChartProps)[]).every(
      key => key === 'chart' || before[key] === after[key]
    )
);

function hasSameCurves(before: IMetricChart, after: IMetricChart): boolean {
  return (
    before.metric === after.metric &&
    before.isGrouped === after.isGrouped &&
    before.curves.length === after.curves.length &&
    before.curves.every((curve, index) => {
      const { x, y, label, colour, runId } = after.curves[index] ?? curve;
      return (
        curve.x === x &&
        curve.y === y &&
        curve.label === label &&
        curve.colour === colour &&
        curve.runId === runId
      );
    })
  );
}

function MetricChartView({
  chart,
  group,
  axisLabel,
  axisKind,
  smoothing,
  log,
  height,
  trans,
  themeChanged
}: IMetricChartProps): React.ReactElement {
  const theme = useSignal(themeChanged);
  const contrast = useMedia('(forced-colors: active)');
  const node = React.useRef<HTMLDivElement>(null);
  const plot = React.useRef<Plot | undefined>(undefined);
  const drawn = useDrawnCurves(chart.curves, smoothing);
  const { metric } = chart;

  React.useEffect(() => {
    const parent = node.current;
    if (parent === null) {
      return;
    }
    const created = new Plot(parent, group, { kind: axisKind, log });
    plot.current = created;
    const observer = new ResizeObserver(() => {
      if (parent.clientWidth > 0) {
        created.resize(parent.clientWidth, parent.clientHeight);
      }
    });
    observer.observe(parent);
    return () => {
      observer.disconnect();
      created.dispose();
      plot.current = undefined;
    };
  }, [group, axisKind, log, theme, contrast]);

  React.useEffect(() => {
    plot.current?.draw(drawn);
  }, [drawn, group, axisKind, log, theme, contrast]);

  return (
    <section className="axon-MetricChart" aria-label={metric}>
      <header className="axon-MetricChart-header">
        <h4 title={metric}>{metric}</h4>
        <Readout
          chart={chart}
          plot={plot}
          group={group}
          axis={{ label: axisLabel, kind: axisKind }}
          trans={trans}
        />
        <ZoomButton group={group} trans={trans} />
      </header>
      <div
        ref={node}
        className="axon-MetricChart-plot"
        style={{ height }}
        role="img"
        tabIndex={0}
        aria-label={trans.__(
          'Curves of %1 by %2, %3. Arrow keys move along a curve and between curves, plus and minus zoom, 0 shows all.',
          metric,
          axisLabel,
          chart.isGrouped
            ? trans._n('%1 group', '%1 groups', chart.curves.length)
            : trans._n('%1 run', '%1 runs', chart.curves.length)
        )}
        onBlur={() => group.setCursor(undefined)}
        onKeyDown={event => {
          if (event.ctrlKey || event.metaKey || event.altKey) {
            return; // a shortcut of the browser or JupyterLab
          }
          if (plot.current?.handleKey(event.key, event.shiftKey) === true) {
            event.preventDefault();
            event.stopPropagation();
          }
        }}
      />
      <Gaps chart={chart} log={log} trans={trans} />
      <Numbers chart={chart} trans={trans} />
    </section>
  );
}

/** Return the curves to draw; those whose values have not changed are not smoothed again. */
function useDrawnCurves(curves: readonly ICurve[], smoothing: number): readonly IDrawnCurve[] {
  const [cache] = React.useState(() => new Map<number, WeakMap<object, SmoothedCurve>>());
  return React.useMemo(() => {
    const values = cache.get(smoothing) ?? new WeakMap<object, SmoothedCurve>();
    cache.clear();
    cache.set(smoothing, values);
    return curves.map(curve => {
      if (smoothing === 0) {
        return curve;
      }
      const { y } = curve;
      const smoothed = values.get(y) ?? smoothCurve(curve, smoothing);
      values.set(y, smoothed);
      return { ...curve, ...smoothed, raw: y };
    });
  }, [cache, curves, smoothing]);
}

type SmoothedCurve = Pick<ICurve, 'y' | 'spread'>;

/** Smooth a curve. Of a mean, each run is smoothed, so that the band is that of the smoothed runs. */
function smoothCurve({ y, runs, spread }: ICurve, smoothing: number): SmoothedCurve {
  return runs === undefined || spread === undefined
    ? { y: smooth(y, smoothing) }
    : smoothedMean(runs, smoothing);
}

function ZoomButton({
  group,
  trans
}: {
  group: ChartGroup;
  trans: TranslationBundle;
}): React.ReactElement | null {
  useSignal(group.rangeChanged);
  return group.isZoomed ? (
    <Button
      small
      className="axon-MetricChart-all"
      title={trans.__('Show the whole range of all charts (or double-click a chart)')}
      onClick={() => group.zoom(undefined)}
    >
      {trans.__('Show all')}
    </Button>
  ) : null;
}

interface IReadoutProps {
  chart: IMetricChart;
  plot: React.RefObject<Plot | undefined>;
  group: ChartGroup;
  axis: IChartAxis;
  trans: TranslationBundle;
}

/** The position of the cursor and the values there: first that of the emphasised run, then the nearest ones. */
function Readout({ chart, plot, group, axis, trans }: IReadoutProps): React.ReactElement {
  useSignal(group.cursorChanged);
  const { cursor, emphasised } = group;
  const found = cursor === undefined ? [] : (plot.current?.valuesAt(cursor.x) ?? []);
  const focused = found.find(({ curve }) => curve.runId === emphasised);
  const distance = (value: number): number =>
    focused === undefined ? value : Math.abs(value - focused.value);
  const values = found.sort((a, b) => distance(a.value) - distance(b.value)).slice(0, MAX_VALUES);
  const labels = new Map(chart.curves.map(({ runId, label }) => [runId, label]));
  return (
    <p
      className="axon-MetricChart-readout"
      role={cursor?.source === plot.current ? 'status' : undefined}
    >
      {cursor !== undefined && <span>{`${axis.label} ${formatPosition(axis, cursor.x)}`}</span>}
      {values.map(({ curve, index, value }) => {
        const { runId, colour, raw, spread } = curve;
        const exact = raw?.[index];
        const count = spread?.count[index];
        return (
          <span key={runId} className={runId === emphasised ? 'axon-mod-focused' : ''}>
            <Swatch colour={colour} />
            {labels.get(runId)} {spreadText(value, spread, index)}
            {count !== undefined &&
              runId === emphasised &&
              ` (${trans._n('%1 run', '%1 runs', count)})`}
            {isDrawable(exact, false) &&
              runId === emphasised &&
              ` (${trans.__('not smoothed: %1', formatNumber(exact))})`}
          </span>
        );
      })}
    </p>
  );
}

/** Return a value of a mean with the deviation of the runs, as in the table; the value alone if it is that of one run. */
function spreadText(value: number, spread: ISpread | undefined, index: number): string {
  const deviation = (spread?.count[index] ?? 0) > 1 ? spread?.deviation[index] : undefined;
  return deviation === undefined
    ? formatNumber(value)
    : `${formatNumber(value)} ± ${formatNumber(Number(deviation.toPrecision(3)))}`;
}

function formatPosition(axis: IChartAxis, x: number): string {
  return axis.kind === 'duration' ? formatDuration(x) : formatNumber(x);
}

/** Report values that cannot be drawn. */
const Gaps = React.memo(function Gaps({
  chart,
  log,
  trans
}: {
  chart: IMetricChart;
  log: boolean;
  trans: TranslationBundle;
}): React.ReactElement | null {
  let [count, omitted] = [0, 0];
  for (const { y, runs, spread } of chart.curves) {
    if (runs === undefined || spread === undefined) {
      count += countGaps(y, log);
    } else {
      count += countGaps(y, log) - countGaps(y, false);
      omitted += runs.reduce((sum, run) => sum + countGaps(run.y, false), 0);
    }
  }
  if (count + omitted === 0) {
    return null;
  }
  return (
    <p className="axon-MetricChart-gaps">
      {count > 0 &&
        trans._n(
          '%1 point is not drawn: it is not finite, or not positive on a logarithmic scale.',
          '%1 points are not drawn: they are not finite, or not positive on a logarithmic scale.',
          count
        )}{' '}
      {omitted > 0 &&
        trans._n(
          '%1 value of a run is not in a mean: it is not finite.',
          '%1 values of runs are not in a mean: they are not finite.',
          omitted
        )}
    </p>
  );
});

/** Return how many values cannot be drawn. */
function countGaps(values: ICurve['y'], log: boolean): number {
  let count = 0;
  for (const value of values) {
    count += isDrawable(value, log) ? 0 : 1;
  }
  return count;
}

/** The curves in numbers, for users who cannot see them. */
const Numbers = React.memo(function Numbers({
  chart,
  trans
}: {
  chart: IMetricChart;
  trans: TranslationBundle;
}): React.ReactElement {
  return (
    <div className="axon-Hidden">
      <table>
        <caption>
          {chart.isGrouped
            ? trans.__('Values of %1, mean ± standard deviation', chart.metric)
            : trans.__('Values of %1', chart.metric)}
        </caption>
        <thead>
          <tr>
            <th scope="col">{chart.isGrouped ? trans.__('group') : trans.__('run')}</th>
            <th scope="col">{trans.__('points')}</th>
            <th scope="col">{trans.__('first')}</th>
            <th scope="col">{trans.__('last')}</th>
            <th scope="col">{trans.__('min')}</th>
            <th scope="col">{trans.__('max')}</th>
          </tr>
        </thead>
        <tbody>
          {chart.curves.map(curve => (
            <NumbersRow
              key={curve.runId}
              label={
                chart.isGrouped
                  ? `${curve.label} (${trans._n('%1 run', '%1 runs', curve.runs?.length ?? 1)})`
                  : curve.label
              }
              x={curve.x}
              y={curve.y}
              spread={curve.spread}
            />
          ))}
        </tbody>
      </table>
    </div>
  );
});

const NumbersRow = React.memo(function NumbersRow({
  label,
  x,
  y,
  spread
}: Pick<ICurve, 'label' | 'x' | 'y'> & {
  spread: ISpread | undefined;
}): React.ReactElement {
  const { count = 0, first, last, min, max } = summarizeCurve({ x, y }) ?? {};
  return (
    <tr>
      <th scope="row">{label}</th>
      <td>{count}</td>
      {[first, last, min, max].map((value, index) => (
        <td key={index}>
          {value !== undefined &&
            spreadText(value, spread, index === 1 ? y.lastIndexOf(value) : y.indexOf(value))}
        </td>
      ))}
    </tr>
  );
});
