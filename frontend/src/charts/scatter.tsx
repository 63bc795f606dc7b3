/** Runs as points: a configuration value or a metric against another one. */

import type { TranslationBundle } from '@jupyterlab/translation';
import type { ISignal } from '@lumino/signaling';
import * as React from 'react';

import type { IAxis, IRunValues } from '../pure/dimensions.ts';
import { dimensionsOf, toAxis } from '../pure/dimensions.ts';
import type { Direction } from '../pure/direction.ts';
import { useMeasure } from '../widgets/measure.ts';
import { Canvas } from './canvas.tsx';
import type { IPalette } from './colours.ts';
import { colourIndex, rampStep } from './colours.ts';
import { ColourScale, DimensionSelect, RunReadout, ValuesTable } from './readout.tsx';

const MARGIN = { top: 10, right: 16, bottom: 26, left: 64 };
const RADIUS = 4;
/** Number of points from which on they are smaller. */
const MANY = 1000;
/** Distance in pixels within which a point is at the pointer. */
const PROXIMITY = 20;

export interface IRunsChartProps {
  /** At most 10,000. */
  runs: readonly IRunValues[];
  /** The indices of the colours of runs; others have that of the theme. */
  colours: ReadonlyMap<string, number>;
  /** The metric by which runs are compared. */
  metric: string | undefined;
  directionOf: Direction;
  /** Called with the runs that the user selects. */
  onSelect: (runIds: readonly string[]) => void;
  height?: number;
  /** Further controls. */
  children?: React.ReactNode;
  trans: TranslationBundle;
  themeChanged: ISignal<unknown, unknown> | undefined;
}

interface IPoint {
  index: number;
  left: number;
  top: number;
}

export function Scatter({
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
  const [choice, setChoice] = React.useState<Partial<Record<'x' | 'y' | 'colour', string>>>({});
  const [hovered, setHovered] = React.useState<number | undefined>(undefined);
  const [node, setNode] = React.useState<HTMLElement | null>(null);
  const { width } = useMeasure(node);

  const find = (id: string | undefined): (typeof dimensions)[number] | undefined =>
    dimensions.find(dimension => dimension.id === id);
  const y = find(choice.y) ?? find(`metrics.${metric ?? ''}`) ?? dimensions.at(-1);
  const x = find(choice.x) ?? dimensions.find(dimension => dimension !== y) ?? y;
  const colour = find(choice.colour);
  const axisOf = (dimension: typeof x): IAxis | undefined =>
    dimension && toAxis(runs, dimension, directionOf);
  const [xId, yId, colourId] = [x?.id, y?.id, colour?.id];
  const axes = React.useMemo(
    () => ({ x: axisOf(x), y: axisOf(y), colour: axisOf(colour) }),
    // `axisOf` and the dimensions depend on these.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [runs, xId, yId, colourId, directionOf]
  );
  const points = React.useMemo(
    () => (axes.x && axes.y ? placePoints(axes.x, axes.y, width, height) : []),
    [axes, width, height]
  );
  const draw = React.useCallback(
    (context: CanvasRenderingContext2D, palette: IPalette) =>
      drawPoints(context, palette, points, runs, colours, axes.colour),
    [points, runs, colours, axes]
  );
  const shown = React.useMemo(
    () => [axes.x, axes.y, axes.colour].filter(axis => axis !== undefined),
    [axes]
  );
  if (axes.x === undefined || axes.y === undefined) {
    return <p className="axon-Hint">{trans.__('The runs have no values to compare.')}</p>;
  }
  const current = points.find(({ index }) => index === hovered);
  const missing = runs.length - points.length;
  const options = dimensions.map(({ id, label }) => ({ value: id, label }));
  return (
    <div className="axon-RunsChart">
      <div className="axon-ChartControls" role="group" aria-label={trans.__('Axes')}>
        <DimensionSelect
          label={trans.__('x')}
          value={axes.x.id}
          options={options}
          onChange={x => setChoice({ ...choice, x })}
        />
        <DimensionSelect
          label={trans.__('y')}
          value={axes.y.id}
          options={options}
          onChange={y => setChoice({ ...choice, y })}
        />
        <DimensionSelect
          label={trans.__('color')}
          value={axes.colour?.id ?? ''}
          options={[{ value: '', label: trans.__('run') }, ...options]}
          onChange={colour => setChoice({ ...choice, colour })}
        />
        {axes.colour !== undefined && <ColourScale axis={axes.colour} trans={trans} />}
        {children}
      </div>
      <RunReadout runs={runs} axes={shown} index={hovered}>
        {missing > 0 &&
          trans._n(
            '%1 run has no value on one of the axes and is not drawn.',
            '%1 runs have no value on one of the axes and are not drawn.',
            missing
          )}
      </RunReadout>
      <div
        ref={setNode}
        className="axon-RunsChart-frame"
        style={{ height }}
        role="img"
        tabIndex={0}
        aria-label={trans.__(
          '%1 by %2, %3 runs. Left and right move to the next run by %2, up and down by %1, Enter selects it.',
          axes.y.label,
          axes.x.label,
          points.length
        )}
        onPointerMove={event => {
          const { left, top } = event.currentTarget.getBoundingClientRect();
          setHovered(nearest(points, event.clientX - left, event.clientY - top));
        }}
        onPointerLeave={() => setHovered(undefined)}
        onBlur={() => setHovered(undefined)}
        onClick={() => {
          const run = runs[hovered ?? -1];
          if (run !== undefined) {
            onSelect([run.id]);
          }
        }}
        onKeyDown={event => {
          const run = runs[hovered ?? -1];
          if (event.ctrlKey || event.metaKey || event.altKey) {
            return;
          }
          if (event.key === 'Enter' || event.key === ' ') {
            if (run !== undefined) {
              onSelect([run.id]);
            }
          } else if (event.key.startsWith('Arrow')) {
            setHovered(neighbour(points, current, event.key));
          } else {
            return;
          }
          event.preventDefault();
          event.stopPropagation();
        }}
      >
        <ScatterAxes x={axes.x} y={axes.y} width={width} height={height} current={current} />
        <Canvas width={width} height={height} draw={draw} themeChanged={themeChanged} />
      </div>
      <ValuesTable
        caption={trans.__('%1 by %2', axes.y.label, axes.x.label)}
        runs={runs}
        axes={shown}
        trans={trans}
      />
    </div>
  );
}

const ScatterAxes = React.memo(function ScatterAxes({
  x,
  y,
  width,
  height,
  current
}: {
  x: IAxis;
  y: IAxis;
  width: number;
  height: number;
  current: IPoint | undefined;
}): React.ReactElement {
  const bottom = height - MARGIN.bottom;
  return (
    <svg width={width} height={height} aria-hidden="true">
      {x.scale.ticks(Math.floor(width / 90)).map(({ position, label }) => {
        const left = toLeft(position, width);
        return (
          <g key={label} transform={`translate(${left} 0)`}>
            <line y1={MARGIN.top} y2={bottom} className="axon-RunsChart-grid" />
            <text y={bottom + 16} textAnchor="middle">
              {shorten(label)}
            </text>
          </g>
        );
      })}
      {y.scale.ticks(Math.floor(height / 36)).map(({ position, label }) => {
        const top = toTop(position, height);
        return (
          <g key={label} transform={`translate(0 ${top})`}>
            <line
              x1={MARGIN.left - 8}
              x2={width - MARGIN.right + 8}
              className="axon-RunsChart-grid"
            />
            <text x={MARGIN.left - 12} dy="0.32em" textAnchor="end">
              {shorten(label, 9)}
            </text>
          </g>
        );
      })}
      {current !== undefined && (
        <circle
          className="axon-RunsChart-current"
          cx={current.left}
          cy={current.top}
          r={RADIUS + 4}
        />
      )}
    </svg>
  );
});

function toLeft(position: number, width: number): number {
  return MARGIN.left + position * (width - MARGIN.left - MARGIN.right);
}

function toTop(position: number, height: number): number {
  return height - MARGIN.bottom - 6 - position * (height - MARGIN.top - MARGIN.bottom - 6);
}

function placePoints(x: IAxis, y: IAxis, width: number, height: number): IPoint[] {
  return x.values.flatMap((value, index) => {
    const left = x.scale.position(value);
    const top = y.scale.position(y.values[index]);
    return left === undefined || top === undefined
      ? []
      : { index, left: toLeft(left, width), top: toTop(top, height) };
  });
}

function drawPoints(
  context: CanvasRenderingContext2D,
  palette: IPalette,
  points: readonly IPoint[],
  runs: readonly IRunValues[],
  colours: ReadonlyMap<string, number>,
  axis: IAxis | undefined
): void {
  const radius = points.length > MANY ? RADIUS - 1.5 : RADIUS;
  const byColour = new Map<string, IPoint[]>();
  const isMixed = colours.size > 0 && colours.size < runs.length;
  for (const point of points) {
    const index = colours.get(runs[point.index]?.id ?? '');
    const position = axis?.scale.position(axis.values[point.index]);
    const own = index === undefined ? palette.text : palette.runs[colourIndex(index)];
    const ramp = position === undefined ? palette.grid : palette.ramp[rampStep(position)];
    const colour = (axis === undefined ? own : ramp) ?? palette.text;
    const found = byColour.get(colour);
    if (found === undefined) {
      byColour.set(colour, [point]);
    } else {
      found.push(point);
    }
  }
  for (const [colour, some] of byColour) {
    const path = new Path2D();
    for (const { left, top } of some) {
      path.moveTo(left + radius, top);
      path.arc(left, top, radius, 0, 2 * Math.PI);
    }
    context.globalAlpha = points.length > MANY ? 0.6 : 0.85;
    context.fillStyle = colour;
    context.fill(path);
  }
  if (isMixed) {
    // A ring around those that are selected.
    context.globalAlpha = 1;
    context.strokeStyle = palette.text;
    context.lineWidth = 1.5;
    for (const { index, left, top } of points) {
      if (colours.has(runs[index]?.id ?? '')) {
        context.beginPath();
        context.arc(left, top, radius + 2.5, 0, 2 * Math.PI);
        context.stroke();
      }
    }
  }
}

function nearest(points: readonly IPoint[], x: number, y: number): number | undefined {
  let found: number | undefined;
  let distance = PROXIMITY;
  for (const { index, left, top } of points) {
    const candidate = Math.hypot(left - x, top - y);
    if (candidate < distance) {
      found = index;
      distance = candidate;
    }
  }
  return found;
}

/** Return the run to which an arrow key moves. */
function neighbour(
  points: readonly IPoint[],
  current: IPoint | undefined,
  key: string
): number | undefined {
  const isForward = key === 'ArrowRight' || key === 'ArrowUp';
  const isX = key === 'ArrowRight' || key === 'ArrowLeft';
  const ordered = [...points].sort(
    (a, b) => (isX ? a.left - b.left : b.top - a.top) || a.index - b.index
  );
  const at = ordered.findIndex(({ index }) => index === current?.index);
  if (at === -1) {
    return ordered.at(isForward ? 0 : -1)?.index;
  }
  return (ordered[at + (isForward ? 1 : -1)] ?? ordered[at])?.index;
}

export function shorten(text: string, length = 12): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}
