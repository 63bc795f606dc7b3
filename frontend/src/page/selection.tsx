/** The selected runs: curves, parallel coordinates, scatter, and comparison. */

import type { TranslationBundle } from '@jupyterlab/translation';
import type { ISignal } from '@lumino/signaling';
import * as React from 'react';

import type { AxonClient } from '../api.ts';
import { MAX_COMPARED, RunComparison } from '../charts/comparison.tsx';
import type { IChartSettings } from '../charts/controls.tsx';
import { chartAxis, ChartControls } from '../charts/controls.tsx';
import type { IMetricChart } from '../charts/metrics.tsx';
import { MetricCharts } from '../charts/metrics.tsx';
import { ParallelCoordinates } from '../charts/parallel.tsx';
import { DimensionSelect } from '../charts/readout.tsx';
import { Scatter } from '../charts/scatter.tsx';
import { Swatch } from '../charts/swatch.tsx';
import type { IPoints } from '../pure/curve.ts';
import { isSystem, metricsToDraw } from '../pure/curves.ts';
import type { Direction } from '../pure/direction.ts';
import { keepEqual } from '../pure/equal.ts';
import type { IMean } from '../pure/means.ts';
import { meanOf } from '../pure/means.ts';
import { toColumn } from '../pure/runs.ts';
import { toPoints } from '../pure/series.ts';
import type { ILoggedSeries, IRunRow } from '../records.ts';
import type { SeriesLoader } from '../series.ts';
import { useEqual, useSignal } from '../widgets/context.tsx';
import type { IMeasure } from '../widgets/measure.ts';
import { useMeasure } from '../widgets/measure.ts';
import { spreadTitle } from './columns.tsx';
import { usePage } from './context.ts';
import type { ICurveGroup } from './groups.ts';
import { curveGroups, groupOptions } from './groups.ts';

/** The most runs whose curves are drawn, and the most runs of the other charts. */
const MAX_CURVES = 50;
const MAX_RUNS = 10_000;
/** Number of means that are kept of groups with the same first run. */
const MAX_MEANS = 8;
/** Number of metrics that are drawn at first. */
const METRICS = 4;
/** Smallest height of a chart of runs in pixels, and the height of what is above it. */
const MIN_HEIGHT = 200;
const CONTROLS_HEIGHT = 56;
/** Smallest size of a chart of curves in pixels, the height of its title, and the distances of charts. */
const CURVES_WIDTH = 320;
const CURVES_HEIGHT = 140;
const TITLE_HEIGHT = 20;
const GAP = { x: 12, y: 8 };
const TABS = ['curves', 'parallel', 'scatter', 'compare'] as const;

type Tab = (typeof TABS)[number];

export interface ISelectionProps {
  /** The selected runs that the filter does not hide, in the order of the table. */
  selected: readonly IRunRow[];
  /** All runs that the filter selects. */
  runs: readonly IRunRow[];
  /** The index of the colour of each selected run. */
  colours: ReadonlyMap<string, number>;
  /** The metric by which runs are compared, if there is any. */
  metric: string | undefined;
  client: AxonClient;
  /** The logged values of the selected runs. */
  series: SeriesLoader;
  trans: TranslationBundle;
  themeChanged: ISignal<unknown, unknown> | undefined;
  /** Returns the name of a notebook. */
  notebookName: (id: string) => string | undefined;
  /** Returns whether lower or higher values of a metric are better; undefined if that is unknown. */
  direction: (metric: string) => 'min' | 'max' | undefined;
  /** Select these runs only. */
  onSelect: (ids: Iterable<string>) => void;
  /** Show the details of a run. */
  onOpen: (id: string) => void;
}

export function Selection(props: ISelectionProps): React.ReactElement {
  const { trans } = props;
  const [tab, setTab] = React.useState<Tab>('curves');
  const id = React.useId();
  const given = useEqual(props.selected);
  const { notebookName } = props;
  const names = distinctNames(given, notebookName).join('\n');
  const selected = React.useMemo(() => {
    const list = names.split('\n');
    return given.map((run, index) => ({ ...run, name: list[index] ?? run.name }));
  }, [given, names]);
  const directionOf = useDirections(selected, props.runs, props.direction);
  const labels: Record<Tab, string> = {
    curves: trans.__('Curves'),
    parallel: trans.__('Parallel coordinates'),
    scatter: trans.__('Scatter'),
    compare: trans.__('Compare')
  };
  const onKeyDown = (event: React.KeyboardEvent): void => {
    const offset = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (offset !== undefined) {
      const next = TABS[(TABS.indexOf(tab) + offset + TABS.length) % TABS.length] ?? tab;
      setTab(next);
      document.getElementById(`${id}-${next}`)?.focus();
      event.preventDefault();
    }
  };
  const current = { ...props, selected, direction: directionOf };
  return (
    <div className="axon-Selection">
      <div className="axon-Selection-tabs">
        <div role="tablist" aria-label={trans.__('Selected runs')} onKeyDown={onKeyDown}>
          {TABS.map(name => (
            <button
              key={name}
              id={`${id}-${name}`}
              type="button"
              role="tab"
              aria-selected={name === tab}
              aria-controls={`${id}-content`}
              tabIndex={name === tab ? 0 : -1}
              onClick={() => setTab(name)}
            >
              {labels[name]}
            </button>
          ))}
        </div>
        <span>{trans._n('%1 run selected', '%1 runs selected', selected.length)}</span>
      </div>
      <div
        id={`${id}-content`}
        className="axon-Selection-content"
        role="tabpanel"
        aria-labelledby={`${id}-${tab}`}
        tabIndex={-1}
      >
        {tab === 'curves' && <Curves {...current} />}
        {tab === 'parallel' && <RunsChart {...current} Chart={ParallelCoordinates} />}
        {tab === 'scatter' && <RunsChart {...current} Chart={Scatter} />}
        {tab === 'compare' && <Comparison {...current} />}
      </div>
    </div>
  );
}

function Curves({
  selected,
  colours,
  metric,
  series: loader,
  trans,
  themeChanged
}: ISelectionProps): React.ReactElement {
  const runs = React.useMemo(() => selected.slice(0, MAX_CURVES), [selected]);
  const metrics = React.useMemo(() => metricsOf(runs, metric), [runs, metric]);
  const [chosen, setChosen] = React.useState<IChartSettings>({
    metrics: [],
    axis: 'step',
    smoothing: 0,
    log: false
  });
  // Metrics that none of these runs has are kept, for when others are selected.
  const present = chosen.metrics.filter(name => metrics.includes(name));
  const settings = {
    ...chosen,
    metrics: present.length > 0 ? present : metricsToDraw(metrics, metrics[0], METRICS)
  };
  const { series, isLoaded, error } = useSeries(loader, runs, settings.metrics);
  const [focused, setFocused] = React.useState<string | undefined>(undefined);
  const [node, setNode] = React.useState<HTMLElement | null>(null);
  const height = curvesHeight(useMeasure(node), settings.metrics.length);
  const page = usePage();
  const [chosenGrouping, setGrouping] = React.useState<string | undefined>(undefined);
  const grouping = chosenGrouping ?? page.settings.table.group;
  const column = toColumn(grouping);
  const groups =
    column === undefined
      ? runs.map((run): ICurveGroup => {
          return { id: run.id, label: run.name, colour: colours.get(run.id) ?? 0, runs: [run] };
        })
      : curveGroups(page, runs, column, colours);
  const toCurve = useCurves();
  const toMean = useMeans();
  const axis = settings.axis === 'time' ? 'time' : 'step';
  const charts = settings.metrics.map((name): IMetricChart => ({
    metric: name,
    isGrouped: column !== undefined,
    curves: groups.flatMap(({ id, label, colour, runs }) => {
      const [first, ...others] = runs.flatMap(run => {
        const found = series[run.id]?.[name];
        return found === undefined || found.step.length === 0
          ? []
          : toCurve(found, axis, Date.parse(run.started_at));
      });
      const isFocused = id === focused;
      return first === undefined
        ? []
        : { runId: id, label, colour, isFocused, ...toMean([first, ...others]) };
    })
  }));
  if (metrics.length === 0) {
    return <p className="axon-Hint">{trans.__('The selected runs have no metrics.')}</p>;
  }
  return (
    <div className="axon-Selection-chart">
      <ChartControls
        settings={settings}
        metrics={metrics}
        axes={['step', 'time']}
        onChange={setChosen}
        trans={trans}
      >
        <DimensionSelect
          label={trans.__('mean of')}
          value={column === undefined ? '' : grouping}
          options={groupOptions(page, trans.__('each run'))}
          onChange={setGrouping}
        />
      </ChartControls>
      {selected.length > MAX_CURVES && (
        <p className="axon-Hint">
          {trans.__('Only the first %1 of the selected runs are drawn.', MAX_CURVES)}
        </p>
      )}
      {error !== undefined && (
        <p className="axon-Hint" role="alert">
          {error}
        </p>
      )}
      <ul
        className="axon-RunLegend"
        aria-label={column === undefined ? trans.__('Runs') : trans.__('Groups')}
      >
        {groups.map(({ id, label, colour, runs }) => (
          <li
            key={id}
            title={runs.length > 1 ? spreadTitle(runs.length, trans) : undefined}
            onPointerEnter={() => setFocused(id)}
            onPointerLeave={() => setFocused(undefined)}
          >
            <Swatch colour={colour} />
            {label}
            {column !== undefined && ` (${trans._n('%1 run', '%1 runs', runs.length)})`}
          </li>
        ))}
      </ul>
      <div ref={setNode} className="axon-Selection-curves">
        {isLoaded ? (
          <MetricCharts
            charts={charts}
            axis={chartAxis(trans, axis)}
            smoothing={settings.smoothing}
            log={settings.log}
            height={height}
            minWidth={CURVES_WIDTH}
            trans={trans}
            themeChanged={themeChanged}
          />
        ) : (
          <p className="axon-Hint" role="status">
            {trans.__('Loading curves…')}
          </p>
        )}
      </div>
    </div>
  );
}

/** Load these metrics of these runs while they are drawn. */
function useSeries(
  loader: SeriesLoader,
  runs: readonly IRunRow[],
  metrics: readonly string[]
): SeriesLoader {
  useSignal(loader.changed);
  const wanted = useEqual(metrics);
  React.useEffect(() => {
    loader.want(
      runs.map(({ id }) => id),
      wanted
    );
  }, [loader, runs, wanted]);
  React.useEffect(() => () => loader.want([], []), [loader]);
  return loader;
}

/** Return the height of charts that share the room in rows. */
function curvesHeight({ width, height }: IMeasure, count: number): number {
  const perRow = Math.max(1, Math.floor((width + GAP.x) / (CURVES_WIDTH + GAP.x)));
  const rowCount = Math.ceil(count / perRow);
  return Math.max(CURVES_HEIGHT, Math.floor((height + GAP.y) / rowCount) - GAP.y - TITLE_HEIGHT);
}

/** A chart of the selected runs, or of all if only one is selected or the user wants it. */
function RunsChart({
  Chart,
  ...props
}: ISelectionProps & { Chart: typeof Scatter }): React.ReactElement {
  const { selected, runs, colours, metric, direction, onSelect, trans, themeChanged } = props;
  const [isAll, setAll] = React.useState(selected.length < 2);
  const [node, setNode] = React.useState<HTMLElement | null>(null);
  const { height } = useMeasure(node);
  const all = useEqual(runs);
  const shown = React.useMemo(
    () => (isAll ? all : selected).slice(0, MAX_RUNS),
    [isAll, all, selected]
  );
  return (
    <div ref={setNode} className="axon-Selection-chart">
      <Chart
        runs={shown}
        colours={colours}
        metric={metric}
        directionOf={direction}
        onSelect={onSelect}
        height={Math.max(MIN_HEIGHT, height - CONTROLS_HEIGHT)}
        trans={trans}
        themeChanged={themeChanged}
      >
        <label>
          <input type="checkbox" checked={isAll} onChange={event => setAll(event.target.checked)} />
          {trans.__('all %1 runs of the table', runs.length)}
        </label>
      </Chart>
    </div>
  );
}

function Comparison(props: ISelectionProps): React.ReactElement {
  const { selected, colours, client, direction, onOpen, trans } = props;
  const runs = React.useMemo(() => selected.slice(0, MAX_COMPARED), [selected]);
  if (runs.length < 2) {
    return <p className="axon-Hint">{trans.__('Select another run to compare this one with.')}</p>;
  }
  return (
    <>
      {selected.length > MAX_COMPARED && (
        <p className="axon-Hint">
          {trans.__('Only the first %1 of the selected runs are compared.', MAX_COMPARED)}
        </p>
      )}
      <RunComparison
        runs={runs}
        colours={colours}
        directionOf={direction}
        client={client}
        onOpen={onOpen}
        trans={trans}
      />
    </>
  );
}

/** Return the names of runs, with those of their notebooks where several have the same name. */
function distinctNames(
  runs: readonly IRunRow[],
  notebookName: (id: string) => string | undefined
): string[] {
  const counts = new Map<string, number>();
  for (const { name } of runs) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return runs.map(({ name, notebook_id }) => {
    const notebook = (counts.get(name) ?? 0) > 1 ? notebookName(notebook_id) : undefined;
    return (notebook === undefined ? name : `${notebook} · ${name}`).replaceAll('\n', ' ');
  });
}

/** Return the metrics of runs, that by which runs are compared first. */
function metricsOf(runs: readonly IRunRow[], metric: string | undefined): string[] {
  const counts = new Map<string, number>();
  for (const run of runs) {
    for (const name of Object.keys(run.metrics)) {
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  return [...counts.keys()].sort(
    (a, b) =>
      Number(b === metric) - Number(a === metric) ||
      Number(isSystem(a)) - Number(isSystem(b)) ||
      (counts.get(b) ?? 0) - (counts.get(a) ?? 0)
  );
}

/** Return a function that converts series to points, and returns the same ones for the same series. */
function useCurves(): typeof toPoints {
  const [known] = React.useState(
    () => new WeakMap<ILoggedSeries, Partial<Record<'step' | 'time', IPoints>>>()
  );
  return React.useCallback(
    (series, axis, startedAt) => {
      const points = known.get(series) ?? {};
      known.set(series, points);
      points[axis] ??= toPoints(series, axis, startedAt);
      return points[axis];
    },
    [known]
  );
}

/** Return a function that returns the mean of curves, the same one for the same curves. */
function useMeans(): (curves: readonly [IPoints, ...IPoints[]]) => IMean {
  const [known] = React.useState(() => new WeakMap<IPoints, readonly IMean[]>());
  return React.useCallback(
    curves => {
      const means = known.get(curves[0]) ?? [];
      const before = means.find(({ runs }) => keepEqual(runs, curves) === runs);
      const mean = before ?? meanOf(curves);
      if (before === undefined) {
        known.set(curves[0], [mean, ...means].slice(0, MAX_MEANS));
      }
      return mean;
    },
    [known]
  );
}

/** Return the directions of metrics as a function that only changes with them. */
function useDirections(
  selected: readonly IRunRow[],
  runs: readonly IRunRow[],
  direction: Direction
): Direction {
  const metrics = React.useMemo(
    () => [...new Set([...selected, ...runs].flatMap(run => Object.keys(run.metrics)))],
    [selected, runs]
  );
  const key = metrics.map(metric => direction(metric) ?? '').join();
  return React.useMemo(() => {
    const directions = key.split(',');
    const known = new Map(metrics.map((metric, index) => [metric, directions[index]]));
    return metric => (known.get(metric) || undefined) as 'min' | 'max' | undefined;
  }, [metrics, key]);
}
