/** Curves on a canvas, drawn by uPlot in the theme's colours. */

import uPlot from 'uplot';

import type { Axis, ICurves } from '../pure/curves.ts';
import { formatNumber } from '../pure/metrics.ts';

/** Colours of runs there are; further runs begin anew. */
const COLOURS = 8;
/** Points are drawn as dots up to so many. */
const MOST_DOTS = 60;
/** Of the range that is shown, how much a key zooms or moves by. */
const ZOOM = 0.5;
const MOVE = 0.2;

export interface IChartOptions {
  axis: Axis;
  log: boolean;
  /** Runs in order; their places give them their colours. */
  runs: readonly string[];
  runName: (runId: string) => string;
  /** The cursor is at a point, or has left. */
  onCursor: (cursor: ICursor | undefined) => void;
  onZoom: (isZoomed: boolean) => void;
}

/** Where the cursor is, and the value of each run there. */
export interface ICursor {
  x: number;
  values: ReadonlyMap<string, number>;
}

/** The place of a run's colour, as `--axon-run-<place>` and `data-run` in the style sheet have it. */
export function colourPlace(place: number): number {
  return place % COLOURS;
}

/** A chart in a node; made anew when its options change, since uPlot fixes them when it is made. */
export class Chart {
  readonly #plot: uPlot;
  readonly #node: HTMLElement;
  readonly #shown: readonly string[];
  readonly #options: IChartOptions;
  #isZoomed = false;

  constructor(node: HTMLElement, curves: ICurves, height: number, options: IChartOptions) {
    this.#node = node;
    this.#options = options;
    this.#shown = options.runs.filter(run => curves.y.has(run));
    this.#plot = new uPlot(this.#settings(curves, height), this.#data(curves), node);
  }

  dispose(): void {
    this.#plot.destroy();
  }

  /** Whether new data of these runs fit into this chart. */
  fits(curves: ICurves): boolean {
    const shown = this.#options.runs.filter(run => curves.y.has(run));
    return shown.length === this.#shown.length && shown.every((run, i) => run === this.#shown[i]);
  }

  /** Draw new data; what is zoomed into stays. */
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
    this.#noteZoom(false);
  }

  #noteZoom(isZoomed: boolean): void {
    this.#isZoomed = isZoomed;
    this.#options.onZoom(isZoomed);
  }

  /** What a key does, if it does anything: arrows move the cursor, + and - zoom, shifted arrows move, 0 shows all. */
  key(key: string, shift: boolean): boolean {
    switch (key) {
      case 'ArrowLeft':
      case 'ArrowRight': {
        const sign = key === 'ArrowRight' ? 1 : -1;
        if (shift) {
          this.#shift(sign * MOVE);
        } else {
          this.#step(sign);
        }
        return true;
      }
      case '+':
      case '=':
        this.#zoom(ZOOM);
        return true;
      case '-':
        this.#zoom(1 / ZOOM);
        return true;
      case 'Escape':
        if (!this.#isZoomed) {
          return false;
        }
        this.resetZoom();
        return true;
      case '0':
        this.resetZoom();
        return true;
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

  #shift(by: number): void {
    const [min, max] = this.#range();
    const far = (max - min) * by;
    this.#setRange(min + far, max + far);
  }

  #setRange(min: number, max: number): void {
    const [x] = this.#plot.data;
    const least = x[0] ?? 0;
    const most = x.at(-1) ?? 0;
    const range = { min: Math.max(least, min), max: Math.min(most, max) };
    if (range.max > range.min) {
      this.#plot.setScale('x', range);
      this.#noteZoom(range.min > least || range.max < most);
    }
  }

  /** Move the cursor to the next point. */
  #step(by: number): void {
    const [x] = this.#plot.data;
    const [min, max] = this.#range();
    const before = this.#plot.cursor.idx;
    const start = by > 0 ? x.findIndex(at => at >= min) : x.findLastIndex(at => at <= max);
    const index = before === null || before === undefined ? start : before + by;
    const at = x[index];
    if (at !== undefined && at >= min && at <= max) {
      this.#plot.setCursor({
        left: this.#plot.valToPos(at, 'x'),
        top: this.#plot.over.clientHeight / 2
      });
    }
  }

  #data(curves: ICurves): uPlot.AlignedData {
    return [curves.x, ...this.#shown.map(run => curves.y.get(run) ?? [])];
  }

  #settings(curves: ICurves, height: number): uPlot.Options {
    const style = getComputedStyle(this.#node);
    const colour = (name: string): string => style.getPropertyValue(name).trim();
    const font = `11px ${colour('--jp-ui-font-family') || 'sans-serif'}`;
    const axis: uPlot.Axis = {
      stroke: colour('--jp-ui-font-color2'),
      grid: { stroke: colour('--jp-border-color2'), width: 1 },
      ticks: { stroke: colour('--jp-border-color2'), width: 1, size: 4 },
      font
    };
    const dots = curves.x.length <= MOST_DOTS;
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
        // One point alone is in the middle.
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
          incrs: WHOLE
        },
        {
          ...axis,
          // As wide as its labels: small numbers are long.
          size: (_plot, labels: string[] | null) =>
            18 + 6.2 * Math.max(3, ...(labels ?? []).map(label => label.length)),
          space: 28,
          values: (_plot, ticks: (number | null)[]) =>
            ticks.map(tick => (tick === null ? '' : formatNumber(Number(tick.toPrecision(6)))))
        }
      ],
      series: [
        {},
        ...this.#shown.map(run => ({
          label: this.#options.runName(run),
          stroke: colour(`--axon-run-${colourPlace(this.#options.runs.indexOf(run))}`),
          width: 1.5,
          spanGaps: false,
          points: {
            show: dots,
            size: 4,
            fill: colour(`--axon-run-${colourPlace(this.#options.runs.indexOf(run))}`)
          }
        }))
      ],
      hooks: {
        setCursor: [this.#tell],
        setSelect: [
          plot => {
            if (plot.select.width > 0) {
              this.#noteZoom(true);
            }
          }
        ],
        ready: [
          plot => {
            plot.over.addEventListener('dblclick', () => {
              this.#noteZoom(false);
            });
          }
        ]
      }
    };
  }

  readonly #tell = (plot: uPlot): void => {
    const index = plot.cursor.idx;
    const x = index === null || index === undefined ? undefined : plot.data[0][index];
    if (index === null || index === undefined || x === undefined) {
      this.#options.onCursor(undefined);
      return;
    }
    const values = new Map<string, number>();
    this.#shown.forEach((run, place) => {
      const value = plot.data[place + 1]?.[index];
      if (value !== null && value !== undefined) {
        values.set(run, value);
      }
    });
    this.#options.onCursor({ x, values });
  };
}

// uPlot declares its enumerations for the compiler only; its module has none.
/* eslint-disable @typescript-eslint/no-unsafe-enum-assignment */
const LINEAR = 1 as uPlot.Scale.Distr.Linear;
const LOGARITHMIC = 3 as uPlot.Scale.Distr.Logarithmic;
/* eslint-enable @typescript-eslint/no-unsafe-enum-assignment */

/** What epochs and steps can be apart on the axis: they are whole. */
const WHOLE = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map(n => n * 10 ** power)).flat();
