/** The room that an element has, and that its texts need. */

import * as React from 'react';

export interface IMeasure {
  /** The width in pixels without a scroll bar; 0 until the element is laid out. */
  width: number;
  height: number;
  /** The font of its texts, for a canvas. */
  font: string;
}

const UNKNOWN: IMeasure = { width: 0, height: 0, font: '' };

/** Return the room in an element; the component is rendered again when that has changed. */
export function useMeasure(node: HTMLElement | null): IMeasure {
  const [measure, setMeasure] = React.useState(UNKNOWN);
  React.useLayoutEffect(() => {
    if (node === null) {
      return;
    }
    const update = (): void => {
      const { clientWidth: width, clientHeight: height } = node;
      const { fontFamily, fontSize } = getComputedStyle(node);
      const font = `${fontSize} ${fontFamily}`;
      if (width > 0) {
        setMeasure(last =>
          last.width === width && last.height === height && last.font === font
            ? last
            : { width, height, font }
        );
      }
    };
    update();
    const observer = new ResizeObserver(update);
    observer.observe(node);
    return () => observer.disconnect();
  }, [node]);
  return measure;
}

let context: CanvasRenderingContext2D | null | undefined;

/** Return the width of a text in pixels. */
export function textWidth(text: string, font: string): number {
  context ??= document.createElement('canvas').getContext('2d');
  if (context === null) {
    return text.length * 8;
  }
  context.font = font;
  return context.measureText(text).width;
}
