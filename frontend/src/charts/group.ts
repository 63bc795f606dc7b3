/** What several charts share: the visible range, the cursor and the emphasised run. */

import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { IRange } from '../pure/curve.ts';

export interface ICursor {
  x: number;
  /** The run next to the pointer. */
  runId: string | undefined;
  /** The chart that has the pointer or the focus. */
  source: object;
}

export class ChartGroup {
  readonly #rangeChanged = new Signal<this, void>(this);
  readonly #cursorChanged = new Signal<this, void>(this);
  #extent: IRange = { min: 0, max: 1 };
  #zoom: IRange | undefined;
  #cursor: ICursor | undefined;
  #highlight: string | undefined;

  get rangeChanged(): ISignal<this, void> {
    return this.#rangeChanged;
  }

  /** Emitted when the cursor or the emphasised run has changed. */
  get cursorChanged(): ISignal<this, void> {
    return this.#cursorChanged;
  }

  /** The range of x that all charts show; undefined while each shows all of its own points. */
  get range(): IRange | undefined {
    return this.#zoom;
  }

  get isZoomed(): boolean {
    return this.#zoom !== undefined;
  }

  get cursor(): ICursor | undefined {
    return this.#cursor;
  }

  /** The run that is emphasised: that at the cursor, else one from outside of the charts. */
  get emphasised(): string | undefined {
    return this.#cursor?.runId ?? this.#highlight;
  }

  /** Set the range of the points of all charts; the zoom remains. */
  setExtent(extent: IRange): void {
    this.#extent = extent;
  }

  /** Show a range, within the extent; all points if it has none. */
  zoom(range: IRange | undefined): void {
    const { min, max } = this.#extent;
    const limited = range && { min: Math.max(range.min, min), max: Math.min(range.max, max) };
    const isAll = limited === undefined || (limited.min <= min && limited.max >= max);
    if (limited !== undefined && !(limited.min < limited.max)) {
      return;
    }
    const zoom = isAll ? undefined : limited;
    if (zoom?.min !== this.#zoom?.min || zoom?.max !== this.#zoom?.max) {
      this.#zoom = zoom;
      this.#rangeChanged.emit();
    }
  }

  setCursor(cursor: ICursor | undefined): void {
    const current = this.#cursor;
    if (
      cursor?.x !== current?.x ||
      cursor?.runId !== current?.runId ||
      cursor?.source !== current?.source
    ) {
      this.#cursor = cursor;
      this.#cursorChanged.emit();
    }
  }

  /** Emphasise a run from outside of the charts, for example a row of a table. */
  highlight(runId: string | undefined): void {
    if (runId !== this.#highlight) {
      this.#highlight = runId;
      this.#cursorChanged.emit();
    }
  }
}
