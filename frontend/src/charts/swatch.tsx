/** The mark of a run in legends: a piece of its line. */

import * as React from 'react';

import { colourIndex, dashesOf } from './colours.ts';

export function Swatch({ colour }: { colour: number }): React.ReactElement {
  return (
    <svg
      className="axon-Swatch"
      data-run={colourIndex(colour)}
      width={18}
      height={8}
      aria-hidden="true"
    >
      <line x1={0} x2={18} y1={4} y2={4} strokeDasharray={dashesOf(colour).join(' ')} />
    </svg>
  );
}
