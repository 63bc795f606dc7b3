/** Parallel coordinates: each run is a line across axes of configuration and metrics. */

import { Button } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { IAxis, IBrush, IDimension, IRunValues } from '../pure/dimensions.ts';
import { brushed, dimensionsOf, toAxis } from '../pure/dimensions.ts';
import { useMeasure } from '../widgets/measure.ts';
import { Canvas } from './canvas.tsx';
import { Chooser } from './chooser.tsx';
import type { IPalette } from './colours.ts';
import { colourIndex, dashesOf, rampStep } from './colours.ts';
import { ColourScale, DimensionSelect, RunReadout, ValuesTable } from './readout.tsx';
import type { IRunsChartProps } from './scatter.tsx';
import { shorten } from './scatter.tsx';

const MARGIN = { top: 30, bottom: 30, side: 56 };
const MIN_AXIS_DISTANCE = 96;
/** Number of axes that are shown at first, of configuration and of metrics. */
const CONFIG_AXES = 5;
const METRIC_AXES = 2;
/** Distance in pixels within which a line is at the pointer. */
const PROXIMITY = 12;
/** Number of lines from which on they are fainter. */
const MANY = 200;
/** Width in pixels of the part of an axis that can be dragged. */
const BRUSH_WIDTH = 18;
/** The colour by the run itself. */
const BY_RUN = 'run';

export function ParallelCoordinates({
  runs,
  colours,
  metric,
  directionOf,
  onSelect,
  height = 320,
  children,
  trans,
  themeChanged
}: IRunsChartProps): React.ReactElement {
  const dimensions = React.useMemo(() => dimensionsOf(runs), [runs]);
  const [chosen, setChosen] = React.useState<readonly string[] | undefined>(undefined);
  const [colourChoice, setColour] = React.useState<string | undefined>(undefined);
  const [brushes, setBrushes] = React.useState<ReadonlyMap<string, IBrush>>(new Map());
  const [hovered, setHovered] = React.useState<number | undefined>(undefined);
  const [node, setNode] = React.useState<HTMLElement | null>(null);
  const { width: available } = useMeasure(node);

  const shown = React.useMemo(
    () => shownDimensions(dimensions, chosen, metric),
    [dimensions, chosen, metric]
  );
  const axes = React.useMemo(
    () => shown.map(dimension => toAxis(runs, dimension, directionOf)),
    [runs, shown, directionOf]
  );
  const colourId =
    colourChoice ?? (colours.size >= runs.length ? BY_RUN : `metrics.${metric ?? ''}`);
  const colourAxis = React.useMemo(() => {
    const dimension = dimensions.find(({ id }) => id === colourId);
    return dimension && toAxis(runs, dimension, directionOf);
  }, [runs, dimensions, colourId, directionOf]);
  const width = Math.max(
    available,
    2 * MARGIN.side + MIN_AXIS_DISTANCE * Math.max(axes.length - 1, 1)
  );
  const lines = React.useMemo(() => placeLines(axes, width, height), [axes, width, height]);
  const selected = React.useMemo(() => brushed(runs.length, axes, brushes), [runs, axes, brushes]);
  const draw = React.useCallback(
    (context: CanvasRenderingContext2D, palette: IPalette) =>
      drawLines(context, palette, { lines, selected, runs, colours, axis: colourAxis }),
    [lines, selected, runs, colours, colourAxis]
  );
  const drawAll = React.useCallback(
    (context: CanvasRenderingContext2D, palette: IPalette) => {
      context.globalAlpha = lines.length > MANY ? 0.3 : 0.6;
      context.strokeStyle = palette.grid;
      context.stroke(toPath(lines));
    },
    [lines]
  );
  const drawCurrent = React.useCallback(
    (context: CanvasRenderingContext2D, palette: IPalette) => {
      const line = lines[hovered ?? -1];
      if (line !== undefined) {
        context.lineWidth = 3;
        context.strokeStyle = palette.text;
        context.stroke(toPath([line]));
      }
    },
    [lines, hovered]
  );
  if (axes.length === 0) {
    return <p className="axon-Hint">{trans.__('The runs have no values to compare.')}</p>;
  }
  const isBrushed = axes.some(({ id }) => brushes.has(id));
  const setBrush = (id: string, brush: IBrush | undefined): void => {
    const changed = new Map(brushes);
    if (brush === undefined || (brush.low <= 0 && brush.high >= 1)) {
      changed.delete(id);
    } else {
      changed.set(id, brush);
    }
    setBrushes(changed);
  };
  const options = dimensions.map(({ id, label }) => ({ value: id, label }));
  return (
    <div className="axon-RunsChart">
      <div className="axon-ChartControls" role="group" aria-label={trans.__('Axes')}>
        <Chooser
          label={trans.__('Axes')}
          options={options}
          chosen={shown.map(({ id }) => id)}
          onChange={setChosen}
          trans={trans}
        />
        <DimensionSelect
          label={trans.__('color')}
          value={colourAxis?.id ?? BY_RUN}
          options={[{ value: BY_RUN, label: trans.__('run') }, ...options]}
          onChange={setColour}
        />
        {colourAxis !== undefined && <ColourScale axis={colourAxis} trans={trans} />}
        {children}
        {isBrushed && (
          <>
            <Button
              small
              disabled={selected.length === 0}
              onClick={() => onSelect(selected.flatMap(index => runs[index]?.id ?? []))}
            >
              {trans._n('Select %1 run', 'Select %1 runs', selected.length)}
            </Button>
            <Button minimal small onClick={() => setBrushes(new Map())}>
              {trans.__('Clear ranges')}
            </Button>
          </>
        )}
      </div>
      <RunReadout runs={runs} axes={axes} index={hovered}>
        {isBrushed
          ? trans._n('%1 run is in the ranges.', '%1 runs are in the ranges.', selected.length)
          : trans.__('Drag along an axis to keep the runs of a range.')}
      </RunReadout>
      <div
        ref={setNode}
        className="axon-RunsChart-frame axon-mod-scrolling"
        style={{ height }}
        role="group"
        tabIndex={0}
        aria-label={trans.__(
          'Parallel coordinates of %1 runs. Up and down move from run to run by %2, Enter selects one.',
          runs.length,
          axes.at(-1)?.label ?? ''
        )}
        onBlur={() => setHovered(undefined)}
        onKeyDown={event => {
          if (event.target !== event.currentTarget) {
            return; // the ranges
          }
          const run = runs[hovered ?? -1];
          if (event.key === 'Enter' && run !== undefined) {
            onSelect([run.id]);
          } else if (event.key === 'ArrowUp' || event.key === 'ArrowDown') {
            setHovered(neighbour(lines, selected, hovered, event.key === 'ArrowUp' ? -1 : 1));
          } else {
            return;
          }
          event.preventDefault();
          event.stopPropagation();
        }}
      >
        <div
          className="axon-RunsChart-plot"
          style={{ width }}
          onPointerMove={event => {
            const { left, top } = event.currentTarget.getBoundingClientRect();
            setHovered(
              event.buttons === 0
                ? nearest(lines, selected, event.clientX - left, event.clientY - top)
                : undefined
            );
          }}
          onPointerLeave={() => setHovered(undefined)}
        >
          {isBrushed && (
            <Canvas width={width} height={height} draw={drawAll} themeChanged={themeChanged} />
          )}
          <Canvas width={width} height={height} draw={draw} themeChanged={themeChanged} />
          <Canvas width={width} height={height} draw={drawCurrent} themeChanged={themeChanged} />
          <svg width={width} height={height} aria-hidden="true">
            {axes.map((axis, index) => (
              <ParallelAxis
                key={axis.id}
                axis={axis}
                left={axisLeft(index, axes.length, width)}
                height={height}
                missing={trans.__('none')}
                brush={brushes.get(axis.id)}
                onBrush={brush => setBrush(axis.id, brush)}
                onClick={() => {
                  const run = runs[hovered ?? -1];
                  if (run !== undefined) {
                    onSelect([run.id]);
                  }
                }}
              />
            ))}
          </svg>
        </div>
        <div className="axon-RunsChart-ranges">
          {axes.map(axis => (
            <BrushInputs
              key={axis.id}
              axis={axis}
              brush={brushes.get(axis.id) ?? ALL}
              onBrush={brush => setBrush(axis.id, brush)}
              labels={[
                trans.__('%1: lower end of the range', axis.label),
                trans.__('%1: upper end of the range', axis.label)
              ]}
            />
          ))}
        </div>
      </div>
      <ValuesTable caption={trans.__('Values of runs')} runs={runs} axes={axes} trans={trans} />
    </div>
  );
}

const ALL: IBrush = { low: 0, high: 1 };

/** Return the axes to show: those that were chosen, else the first configuration keys and metrics. */
function shownDimensions(
  dimensions: readonly IDimension[],
  chosen: readonly string[] | undefined,
  metric: string | undefined
): IDimension[] {
  if (chosen !== undefined) {
    return dimensions.filter(({ id }) => chosen.includes(id));
  }
  const config = dimensions.filter(({ kind }) => kind === 'config').slice(0, CONFIG_AXES);
  const metrics = dimensions.filter(({ kind }) => kind === 'metric');
  const others = metrics.filter(({ name }) => name !== metric).slice(0, METRIC_AXES - 1);
  return [...config, ...others, ...metrics.filter(({ name }) => name === metric)];
}

interface IParallelAxisProps {
  axis: IAxis;
  left: number;
  height: number;
  /** The label of the place of runs without a value. */
  missing: string;
  brush: IBrush | undefined;
  onBrush: (brush: IBrush | undefined) => void;
  onClick: () => void;
}

function ParallelAxis({
  axis,
  left,
  height,
  missing,
  brush,
  onBrush,
  onClick
}: IParallelAxisProps): React.ReactElement {
  const start = React.useRef<number | undefined>(undefined);
  const { top, bottom } = bounds(height);
  const toPosition = (event: React.PointerEvent<SVGRectElement>): number => {
    const y =
      event.clientY - (event.currentTarget.ownerSVGElement?.getBoundingClientRect().top ?? 0);
    return Math.min(1, Math.max(0, (bottom - y) / (bottom - top)));
  };
  return (
    <g transform={`translate(${left} 0)`}>
      <text className="axon-RunsChart-title" y={14} textAnchor="middle">
        <title>{axis.label}</title>
        {shorten(axis.label, 16)}
      </text>
      <line className="axon-RunsChart-axis" y1={top} y2={bottom} />
      {axis.scale.ticks(Math.floor(height / 50)).map(({ position, label }) => (
        <g key={label} transform={`translate(0 ${toTop(position, height)})`}>
          <line className="axon-RunsChart-axis" x2={-4} />
          <text className="axon-RunsChart-label" x={-7} dy="0.32em" textAnchor="end">
            {shorten(label, 8)}
          </text>
        </g>
      ))}
      {axis.values.some(value => axis.scale.position(value) === undefined) && (
        <text
          className="axon-RunsChart-label"
          x={-7}
          y={missingTop(height)}
          dy="0.32em"
          textAnchor="end"
        >
          {missing}
        </text>
      )}
      {brush !== undefined && (
        <rect
          className="axon-RunsChart-brush"
          x={-6}
          width={12}
          y={toTop(brush.high, height)}
          height={Math.max(2, (brush.high - brush.low) * (bottom - top))}
        />
      )}
      <rect
        className="axon-RunsChart-target"
        x={-BRUSH_WIDTH / 2}
        width={BRUSH_WIDTH}
        y={top - 6}
        height={bottom - top + 12}
        onPointerDown={event => {
          event.currentTarget.setPointerCapture(event.pointerId);
          start.current = toPosition(event);
        }}
        onPointerMove={event => {
          if (start.current !== undefined) {
            const end = toPosition(event);
            if (Math.abs(end - start.current) > 0.01) {
              onBrush({ low: Math.min(start.current, end), high: Math.max(start.current, end) });
            }
          }
        }}
        onPointerUp={event => {
          const end = toPosition(event);
          if (start.current !== undefined && Math.abs(end - start.current) <= 0.01) {
            if (brush === undefined) {
              onClick();
            } else {
              onBrush(undefined);
            }
          }
          start.current = undefined;
        }}
        onPointerCancel={() => {
          start.current = undefined;
        }}
      />
    </g>
  );
}

/** The range of an axis for the keyboard and screen readers. */
function BrushInputs({
  axis,
  brush,
  onBrush,
  labels
}: {
  axis: IAxis;
  brush: IBrush;
  onBrush: (brush: IBrush) => void;
  labels: readonly [string, string];
}): React.ReactElement {
  return (
    <>
      {(['low', 'high'] as const).map((end, index) => (
        <input
          key={end}
          type="range"
          min={0}
          max={1}
          step={0.02}
          value={brush[end]}
          aria-label={labels[index]}
          aria-valuetext={axis.scale.label(brush[end])}
          title={labels[index]}
          onChange={event => {
            const value = Number(event.target.value);
            onBrush(
              end === 'low'
                ? { low: Math.min(value, brush.high), high: brush.high }
                : { low: brush.low, high: Math.max(value, brush.low) }
            );
          }}
        />
      ))}
    </>
  );
}

function bounds(height: number): { top: number; bottom: number } {
  return { top: MARGIN.top, bottom: height - MARGIN.bottom };
}

function toTop(position: number, height: number): number {
  const { top, bottom } = bounds(height);
  return bottom - position * (bottom - top);
}

/** Return where runs without a value are, below the axes. */
function missingTop(height: number): number {
  return height - MARGIN.bottom / 2;
}

function axisLeft(index: number, count: number, width: number): number {
  return count === 1
    ? width / 2
    : MARGIN.side + (index / (count - 1)) * (width - 2 * MARGIN.side + 24);
}

/** The points of a line; below the axes where the run has no value. */
type Line = readonly { left: number; top: number }[];

function placeLines(axes: readonly IAxis[], width: number, height: number): Line[] {
  const lefts = axes.map((_, index) => axisLeft(index, axes.length, width));
  const missing = missingTop(height);
  return (axes[0]?.values ?? []).map((_, run) =>
    axes.map(({ scale, values }, index) => {
      const position = scale.position(values[run]);
      return {
        left: lefts[index] ?? 0,
        top: position === undefined ? missing : toTop(position, height)
      };
    })
  );
}

function toPath(lines: readonly Line[]): Path2D {
  const path = new Path2D();
  for (const line of lines) {
    line.forEach(({ left, top }, index) => {
      if (index === 0) {
        path.moveTo(left, top);
      } else {
        path.lineTo(left, top);
      }
    });
  }
  return path;
}

interface IDrawing {
  lines: readonly Line[];
  selected: readonly number[];
  runs: readonly IRunValues[];
  colours: ReadonlyMap<string, number>;
  axis: IAxis | undefined;
}

function drawLines(
  context: CanvasRenderingContext2D,
  palette: IPalette,
  { lines, selected, runs, colours, axis }: IDrawing
): void {
  context.lineJoin = 'round';
  const byStyle = new Map<string, { colour: string; dashes: readonly number[]; lines: Line[] }>();
  for (const index of selected) {
    const line = lines[index];
    const colour = colours.get(runs[index]?.id ?? '');
    const position = axis?.scale.position(axis.values[index]);
    const own =
      colour === undefined ? palette.text : (palette.runs[colourIndex(colour)] ?? palette.text);
    const ramp = position === undefined ? palette.grid : palette.ramp[rampStep(position)];
    const style = {
      colour: axis === undefined ? own : (ramp ?? palette.text),
      dashes: axis === undefined && colour !== undefined ? dashesOf(colour) : [],
      lines: line === undefined ? [] : [line]
    };
    const key = `${style.colour} ${style.dashes.join()}`;
    const found = byStyle.get(key);
    if (found === undefined) {
      byStyle.set(key, style);
    } else {
      found.lines.push(...style.lines);
    }
  }
  context.globalAlpha = selected.length > MANY ? 0.35 : 0.9;
  context.lineWidth = selected.length > MANY ? 1 : 1.5;
  for (const { colour, dashes, lines: some } of byStyle.values()) {
    context.strokeStyle = colour;
    context.setLineDash([...dashes]);
    context.stroke(toPath(some));
  }
}

/** Return the run whose line is at a position. */
function nearest(
  lines: readonly Line[],
  selected: readonly number[],
  x: number,
  y: number
): number | undefined {
  let found: number | undefined;
  let distance = PROXIMITY;
  for (const index of selected) {
    const line = lines[index] ?? [];
    const next = line.findIndex(({ left }) => left >= x);
    const [from, to] = [line[next - 1], line[next]];
    if (from === undefined || to === undefined) {
      continue;
    }
    const top = from.top + ((x - from.left) / (to.left - from.left)) * (to.top - from.top);
    if (Math.abs(top - y) < distance) {
      found = index;
      distance = Math.abs(top - y);
    }
  }
  return found;
}

/** Return the run above or below another one on the last axis. */
function neighbour(
  lines: readonly Line[],
  selected: readonly number[],
  current: number | undefined,
  offset: 1 | -1
): number | undefined {
  const topOf = (index: number): number => lines[index]?.at(-1)?.top ?? 0;
  const ordered = [...selected].sort((a, b) => topOf(a) - topOf(b) || a - b);
  const at = current === undefined ? -1 : ordered.indexOf(current);
  return at === -1 ? ordered.at(offset === 1 ? 0 : -1) : (ordered[at + offset] ?? ordered[at]);
}
