/** One chart of curves. uPlot draws axes and grid; the curves, which have different x, are drawn here. */

import uPlot from 'uplot';

import type { IPoints, IRange } from '../pure/curve.ts';
import {
  countPoints,
  extentOf,
  isDrawable,
  lowerBound,
  nearestIndex,
  padRange,
  trace,
  valueAt,
  valueRange
} from '../pure/curve.ts';
import type { ISpread } from '../pure/means.ts';
import { bandPolygons, bordersOf } from '../pure/means.ts';
import { DURATION_STEPS, formatDuration } from '../pure/duration.ts';
import { formatTick } from '../pure/metrics.ts';
import { logTicks } from '../pure/scales.ts';
import { prepareCanvas } from './canvas.tsx';
import type { IPalette } from './colours.ts';
import { colourIndex, dashesOf, readPalette } from './colours.ts';
import type { ChartGroup } from './group.ts';

/** Smallest distance of points in pixels at which they are marked by dots. */
const DOT_DISTANCE = 14;
/** Distance in pixels within which a curve is at the cursor. */
const PROXIMITY = 32;
/** Opacity of bands. */
const BAND_ALPHA = 0.2;
/** Parts of the visible range by which a key zooms or moves. */
const ZOOM_STEP = 0.5;
const MOVE_STEP = 0.2;

/** A curve as it is drawn: smoothed, with its values beside it. */
export interface IDrawnCurve extends IPoints {
  runId: string;
  /** Index of the colour of the run. */
  colour: number;
  /** The values themselves if `y` is smoothed. */
  raw?: readonly (number | null)[];
  /** If it is the mean of several runs, for its band. */
  spread?: ISpread;
}

export interface IPlotOptions {
  kind: 'number' | 'duration';
  log: boolean;
}

/** A chart in an element. Create another one to change its options, as uPlot cannot. */
export class Plot {
  readonly #node: HTMLElement;
  readonly #group: ChartGroup;
  readonly #options: IPlotOptions;
  readonly #palette: IPalette;
  readonly #plot: uPlot;
  readonly #lines = createCanvas();
  readonly #overlay = createCanvas();
  #curves: readonly IDrawnCurve[] = [];
  /** The range of its own points. */
  #extent: IRange = { min: 0, max: 1 };

  constructor(node: HTMLElement, group: ChartGroup, options: IPlotOptions) {
    this.#node = node;
    this.#group = group;
    this.#options = options;
    this.#palette = readPalette(node);
    this.#plot = new uPlot(
      this.#plotOptions(),
      [
        [0, 1],
        [null, null]
      ],
      node
    );
    this.#plot.over.prepend(this.#lines, this.#overlay);
    this.#applyRange();
    group.rangeChanged.connect(this.#applyRange, this);
    group.cursorChanged.connect(this.#drawCursor, this);
  }

  dispose(): void {
    this.#group.rangeChanged.disconnect(this.#applyRange, this);
    this.#group.cursorChanged.disconnect(this.#drawCursor, this);
    if (this.#group.cursor?.source === this) {
      this.#group.setCursor(undefined);
    }
    this.#plot.destroy();
  }

  draw(curves: readonly IDrawnCurve[]): void {
    this.#curves = curves;
    const { min, max } = extentOf(curves) ?? { min: 0, max: 1 };
    this.#extent = min < max ? { min, max } : { min: min - 1, max: max + 1 };
    this.#applyRange();
  }

  resize(width: number, height: number): void {
    if (width !== this.#plot.width || height !== this.#plot.height) {
      this.#plot.setSize({ width, height });
    }
  }

  /** The visible range of x: that of all charts if they are zoomed, else that of its own points. */
  get #range(): IRange {
    return this.#group.range ?? this.#extent;
  }

  /**
   * Handle a key. Arrows move the cursor along a curve and from curve to curve, and with Shift the visible range;
   * + and - zoom, 0 and Escape show all.
   *
   * Returns whether the key is used.
   */
  handleKey(key: string, shift: boolean): boolean {
    switch (key) {
      case 'ArrowLeft':
      case 'ArrowRight': {
        const sign = key === 'ArrowRight' ? 1 : -1;
        if (shift) {
          const { min, max } = this.#range;
          const offset = sign * (max - min) * MOVE_STEP;
          if (this.#group.isZoomed) {
            this.#group.zoom({ min: min + offset, max: max + offset });
          }
        } else {
          this.#moveCursor(sign);
        }
        return true;
      }
      case 'ArrowUp':
      case 'ArrowDown':
        this.#changeCurve(key === 'ArrowUp' ? 1 : -1);
        return true;
      case 'Home':
      case 'End':
        this.#group.setCursor(undefined);
        this.#moveCursor(key === 'Home' ? 1 : -1);
        return true;
      case '+':
      case '=':
        this.#zoom(ZOOM_STEP);
        return true;
      case '-':
        this.#zoom(1 / ZOOM_STEP);
        return true;
      case '0':
      case 'Escape': {
        const isUsed = key === '0' || this.#group.isZoomed;
        this.#group.zoom(undefined);
        return isUsed;
      }
      default:
        return false;
    }
  }

  #zoom(factor: number): void {
    const { min, max } = this.#range;
    const at = this.#group.cursor?.x;
    const middle = at !== undefined && at >= min && at <= max ? at : (min + max) / 2;
    const next = {
      min: middle - (middle - min) * factor,
      max: middle + (max - middle) * factor
    };
    const { min: first, max: last } = this.#extent;
    this.#group.zoom(next.min <= first && next.max >= last ? undefined : next);
  }

  /** Move the cursor to the next or the previous point of its curve, or to the first or the last one. */
  #moveCursor(sign: 1 | -1): void {
    const { cursor, emphasised } = this.#group;
    const range = this.#range;
    const { log } = this.#options;
    const curve = this.#curves.find(({ runId }) => runId === emphasised) ?? this.#curves[0];
    if (curve === undefined) {
      return;
    }
    const { x, y, runId } = curve;
    let index = sign === 1 ? lowerBound(x, range.min) : lowerBound(x, range.max + Number.EPSILON);
    if (cursor !== undefined) {
      index = lowerBound(x, cursor.x) + (x[lowerBound(x, cursor.x)] === cursor.x ? sign : 0);
    }
    index = Math.min(index, x.length - (sign === -1 && cursor === undefined ? 1 : 0));
    while (index in x && !isDrawable(y[index], log)) {
      index += sign;
    }
    const at = x[index];
    if (at !== undefined && at >= range.min && at <= range.max) {
      this.#group.setCursor({ x: at, runId, source: this });
    }
  }

  /** Move the cursor to the curve above or below. */
  #changeCurve(sign: 1 | -1): void {
    const { cursor, emphasised } = this.#group;
    const range = this.#range;
    const at = cursor?.x ?? range.max;
    const ordered = this.valuesAt(at).sort((a, b) => sign * (a.value - b.value));
    const current = ordered.findIndex(({ curve }) => curve.runId === emphasised);
    const next = ordered[current + 1];
    if (next !== undefined) {
      this.#group.setCursor({ x: at, runId: next.curve.runId, source: this });
    }
  }

  /** Return the curves that have a value at a position, with the point next to it. */
  valuesAt(at: number): { curve: IDrawnCurve; index: number; value: number }[] {
    const { min, max } = this.#range;
    const tolerance = ((max - min) / Math.max(this.#plot.over.clientWidth, 1)) * 8;
    return this.#curves.flatMap(curve => {
      const index = nearestIndex(curve, at, this.#options.log, tolerance);
      const value = index === undefined ? undefined : curve.y[index];
      return index === undefined || value === undefined || value === null
        ? []
        : { curve, index, value };
    });
  }

  /** Remove the cursor if the pointer has set it. */
  readonly #onPointerLeave = (): void => {
    if (this.#group.cursor?.source === this && !this.#node.matches(':focus-visible')) {
      this.#group.setCursor(undefined);
    }
  };

  /** Set the cursor to the point of the curve next to the pointer. */
  readonly #onPointerMove = (event: PointerEvent): void => {
    const frame = this.#plot.over.getBoundingClientRect();
    const [left, top] = [event.clientX - frame.left, event.clientY - frame.top];
    const at = this.#plot.posToVal(left, 'x');
    let nearest: IDrawnCurve | undefined;
    let distance = Infinity;
    for (const { curve, value } of this.valuesAt(at)) {
      const line = valueAt(curve, at, this.#options.log) ?? value;
      const offset = Math.abs(this.#plot.valToPos(line, 'y') - top);
      if (offset < distance) {
        nearest = curve;
        distance = offset;
      }
    }
    const index = nearest && nearestIndex(nearest, at, this.#options.log, Infinity);
    const x = index === undefined ? undefined : nearest?.x[index];
    this.#group.setCursor(
      x === undefined
        ? undefined
        : { x, runId: distance <= PROXIMITY ? nearest?.runId : undefined, source: this }
    );
  };

  #applyRange(): void {
    const range = this.#range;
    const { log } = this.#options;
    const drawn = this.#curves.flatMap(curve => [
      curve,
      ...(curve.raw === undefined ? [] : [{ x: curve.x, y: curve.raw }]),
      ...(curve.spread === undefined ? [] : bordersOf(curve, curve.spread, log))
    ]);
    const values = valueRange(drawn, range, log) ?? { min: log ? 0.1 : 0, max: 1 };
    this.#plot.batch(() => {
      this.#plot.setScale('x', range);
      this.#plot.setScale('y', padRange(values, log));
    });
  }

  readonly #drawLines = (): void => {
    const context = this.#prepare(this.#lines);
    const range = this.#range;
    context.lineJoin = 'round';
    for (const curve of this.#curves) {
      this.#drawBand(context, curve, range);
    }
    for (const curve of this.#curves) {
      if (curve.raw !== undefined) {
        context.globalAlpha = 0.25;
        this.#drawCurve(context, { ...curve, y: curve.raw }, range, 1);
        context.globalAlpha = 1;
      }
      this.#drawCurve(context, curve, range, 1.5);
    }
    this.#drawCursor();
  };

  #drawBand(context: CanvasRenderingContext2D, curve: IDrawnCurve, range: IRange): void {
    if (curve.spread === undefined) {
      return;
    }
    const path = new Path2D();
    const polygons = bandPolygons(
      curve,
      curve.spread,
      range,
      this.#plot.scales['y']?.min ?? 0,
      this.#options.log,
      value => this.#plot.valToPos(value, 'x'),
      value => this.#plot.valToPos(value, 'y')
    );
    for (const polygon of polygons) {
      polygon.forEach(([x, y], index) => (index === 0 ? path.moveTo(x, y) : path.lineTo(x, y)));
    }
    context.globalAlpha = BAND_ALPHA;
    context.fillStyle = this.#colourOf(curve);
    context.fill(path);
    context.globalAlpha = 1;
  }

  #colourOf({ colour }: IDrawnCurve): string {
    return this.#palette.runs[colourIndex(colour)] ?? this.#palette.text;
  }

  #drawCurve(
    context: CanvasRenderingContext2D,
    curve: IDrawnCurve,
    range: IRange,
    width: number
  ): void {
    const path = new Path2D();
    const dots = new Path2D();
    const addDot = (x: number, y: number, radius: number): void => {
      dots.moveTo(x + radius, y);
      dots.arc(x, y, radius, 0, 2 * Math.PI);
    };
    const toX = (value: number): number => this.#plot.valToPos(value, 'x');
    const toY = (value: number): number => this.#plot.valToPos(value, 'y');
    const { log } = this.#options;
    trace(curve, range, log, toX, toY, {
      moveTo: (x, y) => path.moveTo(x, y),
      lineTo: (x, y) => path.lineTo(x, y),
      dot: (x, y) => addDot(x, y, width + 0.5)
    });
    const count = countPoints(curve, range);
    if (count * DOT_DISTANCE <= this.#plot.over.clientWidth) {
      curve.x.forEach((x, index) => {
        const value = curve.y[index];
        if (x >= range.min && x <= range.max && isDrawable(value, log)) {
          addDot(toX(x), toY(value), width + 0.5);
        }
      });
    }
    const colour = this.#colourOf(curve);
    context.strokeStyle = colour;
    context.fillStyle = colour;
    context.lineWidth = width;
    context.setLineDash([...dashesOf(curve.colour)]);
    context.stroke(path);
    context.fill(dots);
  }

  /** Draw the cursor and the emphasised curve. */
  #drawCursor(): void {
    const context = this.#prepare(this.#overlay);
    const { cursor, emphasised } = this.#group;
    const range = this.#range;
    const height = this.#plot.over.clientHeight;
    const focused = this.#curves.find(({ runId }) => runId === emphasised);
    this.#lines.classList.toggle(
      'axon-mod-faint',
      focused !== undefined && this.#curves.length > 1
    );
    if (focused !== undefined) {
      this.#drawBand(context, focused, range);
      this.#drawCurve(context, focused, range, 2.5);
    }
    if (cursor === undefined) {
      return;
    }
    const left = Math.round(this.#plot.valToPos(cursor.x, 'x')) + 0.5;
    context.strokeStyle = this.#palette.text;
    context.lineWidth = 1;
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(left, 0);
    context.lineTo(left, height);
    context.stroke();
    for (const { curve, index, value } of this.valuesAt(cursor.x)) {
      context.beginPath();
      context.fillStyle = this.#colourOf(curve);
      context.arc(
        this.#plot.valToPos(curve.x[index] ?? cursor.x, 'x'),
        this.#plot.valToPos(value, 'y'),
        curve === focused ? 4 : 2.5,
        0,
        2 * Math.PI
      );
      context.fill();
    }
  }

  #prepare(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
    const { clientWidth, clientHeight } = this.#plot.over;
    return prepareCanvas(canvas, clientWidth, clientHeight);
  }

  #plotOptions(): uPlot.Options {
    const { kind, log } = this.#options;
    const { text, grid, font } = this.#palette;
    const axis: uPlot.Axis = {
      stroke: text,
      grid: { stroke: grid, width: 1 },
      ticks: { stroke: grid, width: 1, size: 4 },
      font: `11px ${font}`
    };
    const isDuration = kind === 'duration';
    return {
      width: this.#node.clientWidth || 300,
      height: this.#node.clientHeight,
      padding: [6, 20, 0, 0],
      legend: { show: false },
      cursor: {
        x: false,
        y: false,
        points: { show: false },
        drag: { x: true, y: false, setScale: false, dist: 4 }
      },
      scales: {
        x: { time: false, auto: false },
        y: { auto: false, distr: log ? LOGARITHMIC : LINEAR }
      },
      axes: [
        {
          ...axis,
          size: 24,
          space: 56,
          incrs: isDuration ? [...DURATION_STEPS] : INTEGER_STEPS,
          values: (_plot, ticks) => ticks.map(isDuration ? formatDuration : formatTick)
        },
        {
          ...axis,
          // As wide as its longest label.
          size: (_plot, labels: string[] | null) =>
            14 + 6.2 * Math.max(3, ...(labels ?? []).map(label => label.length)),
          space: 28,
          ...(log && {
            splits: (plot, _axis, min, max) =>
              logTicks(min, max, Math.max(2, Math.floor(plot.over.clientHeight / 24))),
            filter: (_plot, splits) => splits
          }),
          values: (_plot, ticks: (number | null)[]) =>
            ticks.map(tick => (tick === null ? '' : formatTick(tick)))
        }
      ],
      series: [{}, { show: true, points: { show: false } }],
      hooks: {
        draw: [this.#drawLines],
        setSelect: [
          plot => {
            const { left, width } = plot.select;
            if (width > 0) {
              this.#group.zoom({
                min: plot.posToVal(left, 'x'),
                max: plot.posToVal(left + width, 'x')
              });
              plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            }
          }
        ],
        ready: [
          plot => {
            plot.over.addEventListener('dblclick', () => this.#group.zoom(undefined));
            plot.over.addEventListener('pointermove', this.#onPointerMove);
            plot.over.addEventListener('pointerleave', this.#onPointerLeave);
          }
        ]
      }
    };
  }
}

function createCanvas(): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  canvas.className = 'axon-MetricChart-canvas';
  return canvas;
}

// uPlot declares these enumerations only as types.
/* eslint-disable @typescript-eslint/no-unsafe-enum-assignment */
const LINEAR = 1 as uPlot.Scale.Distr.Linear;
const LOGARITHMIC = 3 as uPlot.Scale.Distr.Logarithmic;
/* eslint-enable @typescript-eslint/no-unsafe-enum-assignment */

/** Distances of ticks on the axis of epochs or steps, which are integers. */
const INTEGER_STEPS = Array.from({ length: 12 }, (_, power) =>
  [1, 2, 5].map(n => n * 10 ** power)
).flat();
