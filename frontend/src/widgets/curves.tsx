/** The section with the curves of metrics, and the runs to which they belong. */

import { Button } from '@jupyterlab/ui-components';
import * as React from 'react';

import { runKey } from '../api.ts';
import type { IChartSettings } from '../charts/controls.tsx';
import { chartAxis, ChartControls } from '../charts/controls.tsx';
import type { ICurve } from '../charts/metrics.tsx';
import { MetricCharts } from '../charts/metrics.tsx';
import { RunCommandIDs } from '../ids.ts';
import { runLabel } from '../labels.ts';
import type { Axis } from '../pure/curves.ts';
import { CurveCache, MAX_RUNS, metricsToDraw, runsToDraw, whereNotebook } from '../pure/curves.ts';
import { useEqual, usePanel } from './context.tsx';
import { useMeasure } from './measure.ts';
import { RunTable } from './runs.tsx';

/** Smallest and largest number of metrics that are drawn at first: as many as fit beside each other. */
const MIN_METRICS = 2;
const MAX_METRICS = 4;
/** Number of runs that are drawn besides when the user asks for more. */
const MORE_RUNS = 100;
/** Smallest size of a chart, largest height, and the step between heights in pixels. */
const CHART_WIDTH = 140;
const MIN_CHART_HEIGHT = 100;
const MAX_CHART_HEIGHT = 180;
const HEIGHT_STEP = 20;
/** Height of the controls, of the title of a chart and of a row of the legend in pixels. */
const CONTROLS_HEIGHT = 34;
const TITLE_HEIGHT = 22;
const RUN_HEIGHT = 20;
/** Number of rows of the legend for which there is room below the charts. */
const VISIBLE_RUNS = 6;

export function Curves(): React.ReactElement | null {
  const { model, trans } = usePanel();
  if (model.record === undefined) {
    return null;
  }
  const { allMetrics, isLoaded } = model.checkpoints;
  if (allMetrics.length > 0) {
    return <Charts />;
  }
  return (
    <p className="axon-Hint">
      {isLoaded
        ? trans.__('The metrics of your checkpoints and logs are plotted here, one curve per run.')
        : trans.__('Loading runs…')}
    </p>
  );
}

function Charts(): React.ReactElement {
  const { model, trans, themeChanged } = usePanel();
  const { checkpoints } = model;
  const { allMetrics, ranking, runOrder, runs } = checkpoints;
  const [chosen, setChosen] = React.useState(model.chartSettings);
  const [hidden, setHidden] = React.useState<ReadonlySet<string>>(new Set());
  const [count, setCount] = React.useState(MAX_RUNS);
  const [focused, setFocused] = React.useState<string | undefined>(undefined);
  const [hovered, setHovered] = React.useState<string | undefined>(undefined);

  const [node, setNode] = React.useState<HTMLElement | null>(null);
  const { width, height } = useMeasure(node?.parentElement ?? null);
  const perRow = Math.max(1, Math.floor(width / (CHART_WIDTH + 12)));

  const bestRun = checkpoints.row(checkpoints.best ?? '')?.runId;
  const listed = React.useMemo(
    () => runsToDraw(runOrder, run => runs.get(run)?.status === 'running', bestRun, count),
    [runOrder, runs, bestRun, count]
  );
  const axes = useAxes();
  const settings: IChartSettings = {
    metrics: metricsToDraw(
      allMetrics,
      ranking?.metric,
      Math.min(MAX_METRICS, Math.max(MIN_METRICS, perRow))
    ),
    smoothing: 0,
    log: false,
    ...chosen,
    axis: axes.find(axis => axis === chosen.axis) ?? axes[0] ?? 'step'
  };
  const drawn = React.useMemo(() => [...listed].filter(run => !hidden.has(run)), [listed, hidden]);
  const metrics = useEqual(settings.metrics);
  const legendHeight = RUN_HEIGHT * (1 + Math.min(VISIBLE_RUNS, listed.size));
  const rowCount = Math.ceil(metrics.length / perRow);
  const chartHeight = (height - CONTROLS_HEIGHT - legendHeight) / rowCount - TITLE_HEIGHT;
  const charts = useCharts(metrics, settings.axis, drawn, focused);
  return (
    <div ref={setNode} className="axon-Curves">
      <ChartControls
        settings={settings}
        metrics={allMetrics}
        axes={axes}
        trans={trans}
        onChange={({ metrics, ...others }) => {
          // The metrics follow the ranking until the user chooses some.
          const isSame = metrics === settings.metrics;
          const next = { ...chosen, ...others, ...(isSame ? {} : { metrics }) };
          setChosen(next);
          model.rememberCharts(next);
        }}
      />
      <MetricCharts
        charts={charts}
        axis={chartAxis(trans, settings.axis)}
        smoothing={settings.smoothing}
        log={settings.log}
        height={clamp(chartHeight)}
        minWidth={CHART_WIDTH}
        onHover={setHovered}
        trans={trans}
        themeChanged={themeChanged}
      />
      <RunTable
        listed={listed}
        hidden={hidden}
        highlighted={hovered}
        onToggle={run => {
          const changed = new Set(hidden);
          if (!changed.delete(run)) {
            changed.add(run);
          }
          setHidden(changed);
        }}
        onFocus={setFocused}
      />
      <More
        shown={listed.size}
        onMore={() => setCount(count + MORE_RUNS)}
        onLess={count > MAX_RUNS ? () => setCount(MAX_RUNS) : undefined}
      />
    </div>
  );
}

/** Return a height between the smallest and the largest one, in steps, so that charts are seldom created again. */
function clamp(height: number): number {
  const steps = Math.floor((height - MIN_CHART_HEIGHT) / HEIGHT_STEP) || 0;
  return Math.min(MAX_CHART_HEIGHT, MIN_CHART_HEIGHT + HEIGHT_STEP * Math.max(0, steps));
}

/** Return the axes that there are values for: epochs only if they differ from steps. */
function useAxes(): readonly Axis[] {
  const { rows } = usePanel().model.checkpoints;
  return React.useMemo(
    () =>
      rows.some(({ epoch, step }) => epoch !== step && epoch !== 0)
        ? ['epoch', 'step', 'time']
        : ['step', 'time'],
    [rows]
  );
}

function useCharts(
  metrics: readonly string[],
  axis: Axis,
  drawn: readonly string[],
  focused: string | undefined
): { metric: string; curves: ICurve[] }[] {
  const { model, trans } = usePanel();
  const { checkpoints, series: seriesModel } = model;
  const { rows, runs, runOrder } = checkpoints;
  const { series } = seriesModel;
  const notebookId = model.record?.id ?? '';
  const [cache] = React.useState(() => new CurveCache());

  React.useEffect(() => {
    seriesModel.want(
      drawn.map(id => runKey(notebookId, id)),
      metrics
    );
  }, [seriesModel, notebookId, drawn, metrics]);

  const byRun = React.useMemo(
    () => cache.group(rows, checkpoints.parents()),
    // `parents` depends on rows and runs.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [cache, rows, runs]
  );

  return React.useMemo(() => {
    const indices = new Map(runOrder.map((run, index) => [run, index]));
    const charts = metrics.map(metric => ({
      metric,
      curves: drawn.flatMap((runId): ICurve[] => {
        const startedAt = Date.parse(runs.get(runId)?.started_at ?? '');
        const points = cache.get(runId, metric, axis, {
          logged: series[runKey(notebookId, runId)]?.[metric],
          rows: byRun.get(runId) ?? [],
          startedAt: Number.isNaN(startedAt) ? undefined : startedAt
        });
        return points.x.length === 0
          ? []
          : [
              {
                ...points,
                runId,
                label: runLabel(trans, runs, runId),
                colour: indices.get(runId) ?? 0,
                isFocused: runId === focused
              }
            ];
      })
    }));
    cache.prune();
    return charts;
  }, [metrics, axis, drawn, focused, byRun, runs, runOrder, series, notebookId, cache, trans]);
}

interface IMoreProps {
  /** Number of runs that are listed. */
  shown: number;
  onMore: () => void;
  onLess: (() => void) | undefined;
}

/** Buttons for the runs that are not listed. */
function More({ shown, onMore, onLess }: IMoreProps): React.ReactElement | null {
  const { model, trans, commands } = usePanel();
  const count = model.checkpoints.runOrder.length;
  const notebook = model.record?.id ?? '';
  const link = (label: string, onClick: () => void): React.ReactElement => (
    <Button minimal small className="axon-Link" onClick={onClick}>
      {label}
    </Button>
  );
  if (shown === count && onLess === undefined) {
    return null;
  }
  return (
    <p className="axon-RunTable-more">
      {trans.__('%1 of %2 runs', shown, count)}
      {shown < count && link(trans.__('Show more'), onMore)}
      {onLess !== undefined && link(trans.__('Show fewer'), onLess)}
      {commands.hasCommand(RunCommandIDs.open) &&
        link(trans.__('Open in Training Runs'), () => {
          void commands.execute(RunCommandIDs.open, {
            where: whereNotebook(notebook)
          });
        })}
    </p>
  );
}
