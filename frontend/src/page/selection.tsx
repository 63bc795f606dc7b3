/** The selected runs: curves, parallel coordinates, scatter, and comparison. */

import type { TranslationBundle } from '@jupyterlab/translation';
import type { ISignal } from '@lumino/signaling';
import * as React from 'react';

import type { AxonClient } from '../api.ts';
import type { IRunRow } from '../records.ts';

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
  trans: TranslationBundle;
  themeChanged: ISignal<unknown, unknown> | undefined;
  /** Returns whether lower or higher values of a metric are better; undefined if that is unknown. */
  direction: (metric: string) => 'min' | 'max' | undefined;
  /** Select these runs only. */
  onSelect: (ids: Iterable<string>) => void;
  /** Show the details of a run. */
  onOpen: (id: string) => void;
}

export function Selection({ selected, trans }: ISelectionProps): React.ReactElement {
  return (
    <p className="axon-Hint">
      {selected.length === 0
        ? trans.__('Select runs to compare them.')
        : trans._n('%1 run selected.', '%1 runs selected.', selected.length)}
    </p>
  );
}
