/** A chart of curves, drawn by uPlot in the colours of the theme. */

import uPlot from 'uplot';

import type { Axis, ICurves } from '../pure/curves.ts';
import { formatNumber } from '../pure/metrics.ts';

/** Number of colours for runs. */
const COLOUR_COUNT = 8;
/** Largest number of points that are marked by dots. */
const MAX_DOTS = 60;
/** Parts of the visible range by which a key zooms or moves. */
const ZOOM_STEP = 0.5;
const MOVE_STEP = 0.2;

export interface IChartOptions {
  axis: Axis;
  log: boolean;
  /** Runs in order; their index gives them their colour. */
  runOrder: readonly string[];
  /** Called with undefined when the cursor leaves the chart. */
  onCursor: (cursor: ICursor | undefined) => void;
  onZoom: (isZoomed: boolean) => void;
}

/** The position of the cursor and the value of each run there. */
export interface ICursor {
  x: number;
  values: ReadonlyMap<string, number>;
}

/** Return the index of a run's colour in the style sheet (`--axon-run-<index>`, `data-run`). */
export function colourIndex(runIndex: number): number {
  return runIndex % COLOUR_COUNT;
}

/** A chart in an element. Create another one to change its options, as uPlot cannot. */
export class Chart {
  readonly #plot: uPlot;
  readonly #node: HTMLElement;
  readonly #runs: readonly string[];
  readonly #options: IChartOptions;
  #isZoomed = false;

  constructor(node: HTMLElement, curves: ICurves, height: number, options: IChartOptions) {
    this.#node = node;
    this.#options = options;
    this.#runs = options.runOrder.filter(run => curves.y.has(run));
    this.#plot = new uPlot(this.#plotOptions(curves, height), this.#data(curves), node);
  }

  dispose(): void {
    this.#plot.destroy();
  }

  /** Return whether the curves are those of the same runs. */
  hasRunsOf(curves: ICurves): boolean {
    return curves.y.size === this.#runs.length && this.#runs.every(run => curves.y.has(run));
  }

  /** Draw other curves of the same runs; the zoom remains. */
  draw(curves: ICurves): void {
    this.#plot.setData(this.#data(curves), !this.#isZoomed);
    if (this.#isZoomed) {
      this.#plot.redraw();
    }
  }

  resize(width: number, height: number): void {
    this.#plot.setSize({ width, height });
  }

  resetZoom(): void {
    const [x] = this.#plot.data;
    const min = x[0];
    const max = x.at(-1);
    if (min !== undefined && max !== undefined) {
      this.#plot.setScale('x', { min, max });
    }
    this.#setZoomed(false);
  }

  #setZoomed(isZoomed: boolean): void {
    this.#isZoomed = isZoomed;
    this.#options.onZoom(isZoomed);
  }

  /**
   * Handle a key: arrows move the cursor and with Shift the visible range, + and - zoom, 0 and Escape show all.
   *
   * Returns whether the key is used.
   */
  handleKey(key: string, shift: boolean): boolean {
    const sign = key === 'ArrowRight' ? 1 : -1;
    switch (key) {
      case 'ArrowLeft':
      case 'ArrowRight':
        if (shift) {
          this.#moveRange(sign * MOVE_STEP);
        } else {
          this.#moveCursor(sign);
        }
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
        const isUsed = key === '0' || this.#isZoomed;
        this.resetZoom();
        return isUsed;
      }
      default:
        return false;
    }
  }

  #range(): [number, number] {
    const { min, max } = this.#plot.scales['x'] ?? {};
    return [min ?? 0, max ?? 0];
  }

  #zoom(factor: number): void {
    const [min, max] = this.#range();
    const at = this.#plot.data[0][this.#plot.cursor.idx ?? -1];
    const middle = at !== undefined && at >= min && at <= max ? at : (min + max) / 2;
    this.#setRange(middle - (middle - min) * factor, middle + (max - middle) * factor);
  }

  #moveRange(factor: number): void {
    const [min, max] = this.#range();
    const offset = (max - min) * factor;
    this.#setRange(min + offset, max + offset);
  }

  #setRange(min: number, max: number): void {
    const [x] = this.#plot.data;
    const first = x[0] ?? 0;
    const last = x.at(-1) ?? 0;
    const range = { min: Math.max(first, min), max: Math.min(last, max) };
    if (range.max > range.min) {
      this.#plot.setScale('x', range);
      this.#setZoomed(range.min > first || range.max < last);
    }
  }

  /** Move the cursor to the next or the previous point. */
  #moveCursor(offset: number): void {
    const [x] = this.#plot.data;
    const [min, max] = this.#range();
    const current = this.#plot.cursor.idx;
    const start = offset > 0 ? x.findIndex(at => at >= min) : x.findLastIndex(at => at <= max);
    const index = current === null || current === undefined ? start : current + offset;
    const at = x[index];
    if (at !== undefined && at >= min && at <= max) {
      this.#plot.setCursor({
        left: this.#plot.valToPos(at, 'x'),
        top: this.#plot.over.clientHeight / 2
      });
    }
  }

  #data(curves: ICurves): uPlot.AlignedData {
    return [curves.x, ...this.#runs.map(run => curves.y.get(run) ?? [])];
  }

  #plotOptions(curves: ICurves, height: number): uPlot.Options {
    const style = getComputedStyle(this.#node);
    const colour = (name: string): string => style.getPropertyValue(name).trim();
    const font = `11px ${colour('--jp-ui-font-family') || 'sans-serif'}`;
    const axis: uPlot.Axis = {
      stroke: colour('--jp-ui-font-color2'),
      grid: { stroke: colour('--jp-border-color2'), width: 1 },
      ticks: { stroke: colour('--jp-border-color2'), width: 1, size: 4 },
      font
    };
    const hasDots = curves.x.length <= MAX_DOTS;
    return {
      width: this.#node.clientWidth || 300,
      height,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: {
        points: { size: 7 },
        drag: { x: true, y: false, setScale: true },
        focus: { prox: 24 }
      },
      focus: { alpha: 0.4 },
      scales: {
        // Centre a single point.
        x: {
          time: false,
          range: (_plot, min, max) => (min < max ? [min, max] : [min - 1, max + 1])
        },
        y: { distr: this.#options.log ? LOGARITHMIC : LINEAR }
      },
      axes: [
        {
          ...axis,
          size: 24,
          space: 48,
          incrs: INTEGER_STEPS
        },
        {
          ...axis,
          // As wide as its longest label.
          size: (_plot, labels: string[] | null) =>
            18 + 6.2 * Math.max(3, ...(labels ?? []).map(label => label.length)),
          space: 28,
          values: (_plot, ticks: (number | null)[]) =>
            ticks.map(tick => (tick === null ? '' : formatNumber(Number(tick.toPrecision(6)))))
        }
      ],
      series: [
        {},
        ...this.#runs.map(run => {
          const index = colourIndex(this.#options.runOrder.indexOf(run));
          const stroke = colour(`--axon-run-${index}`);
          return { stroke, width: 1.5, points: { show: hasDots, size: 4, fill: stroke } };
        })
      ],
      hooks: {
        setCursor: [this.#reportCursor],
        setSelect: [
          plot => {
            if (plot.select.width > 0) {
              this.#setZoomed(true);
            }
          }
        ],
        ready: [
          plot => {
            plot.over.addEventListener('dblclick', () => this.#setZoomed(false));
          }
        ]
      }
    };
  }

  readonly #reportCursor = (plot: uPlot): void => {
    const index = plot.cursor.idx;
    const x = index === null || index === undefined ? undefined : plot.data[0][index];
    if (index === null || index === undefined || x === undefined) {
      this.#options.onCursor(undefined);
      return;
    }
    const values = new Map<string, number>();
    this.#runs.forEach((run, runIndex) => {
      const value = plot.data[runIndex + 1]?.[index];
      if (value !== null && value !== undefined) {
        values.set(run, value);
      }
    });
    this.#options.onCursor({ x, values });
  };
}

// uPlot declares these enumerations only as types.
/* eslint-disable @typescript-eslint/no-unsafe-enum-assignment */
const LINEAR = 1 as uPlot.Scale.Distr.Linear;
const LOGARITHMIC = 3 as uPlot.Scale.Distr.Logarithmic;
/* eslint-enable @typescript-eslint/no-unsafe-enum-assignment */

/** Distances of ticks on the axis of epochs or steps, which are integers. */
const INTEGER_STEPS = Array.from({ length: 10 }, (_, power) =>
  [1, 2, 5].map(n => n * 10 ** power)
).flat();
