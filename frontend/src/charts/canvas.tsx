/** Canvases that follow the size of their frame, the theme and high contrast. */

import type { ISignal } from '@lumino/signaling';
import * as React from 'react';

import { useSignal } from '../widgets/context.tsx';
import type { IPalette } from './colours.ts';
import { readPalette } from './colours.ts';

/** Set the size of a canvas in CSS pixels and return its empty context. */
export function prepareCanvas(
  canvas: HTMLCanvasElement,
  width: number,
  height: number
): CanvasRenderingContext2D {
  const ratio = devicePixelRatio;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext('2d');
  if (context === null) {
    throw new Error('The browser has no canvas.');
  }
  context.scale(ratio, ratio);
  return context;
}

export interface ICanvasProps {
  width: number;
  height: number;
  /** Draws everything. Keep the function while nothing changes. */
  draw: (context: CanvasRenderingContext2D, palette: IPalette) => void;
  themeChanged: ISignal<unknown, unknown> | undefined;
}

export function Canvas({ width, height, draw, themeChanged }: ICanvasProps): React.ReactElement {
  const node = React.useRef<HTMLCanvasElement>(null);
  const theme = useSignal(themeChanged);
  const contrast = useMedia('(forced-colors: active)');
  React.useEffect(() => {
    const canvas = node.current;
    if (canvas !== null && width > 0) {
      draw(prepareCanvas(canvas, width, height), readPalette(canvas));
    }
  }, [width, height, draw, theme, contrast]);
  return <canvas ref={node} className="axon-Canvas" aria-hidden="true" />;
}

/** Return whether a media query matches. */
export function useMedia(query: string): boolean {
  const [media] = React.useState(() => matchMedia(query));
  return React.useSyncExternalStore(
    React.useCallback(
      listener => {
        media.addEventListener('change', listener);
        return () => media.removeEventListener('change', listener);
      },
      [media]
    ),
    () => media.matches
  );
}
