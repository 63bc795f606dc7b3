/** What every part of the panel is given. */

import type { TranslationBundle } from '@jupyterlab/translation';
import type { CommandRegistry } from '@lumino/commands';
import type { ISignal } from '@lumino/signaling';
import { createContext, useContext, useEffect, useReducer } from 'react';

import type { RecordModel } from '../model.ts';

export interface IPanelContext {
  model: RecordModel;
  trans: TranslationBundle;
  commands: CommandRegistry;
  /** Emitted when colours have to be read again. */
  themeChanged?: ISignal<unknown, unknown>;
}

/** Provided by whatever shows a part of the panel; see `PanelPart`. */
export const PanelContext = createContext<IPanelContext | undefined>(undefined);

/** The panel's context; the component is drawn anew when the model changes. */
export function usePanel(): IPanelContext {
  const context = useContext(PanelContext);
  if (context === undefined) {
    throw new Error('shown outside of a panel');
  }
  useSignal(context.model.changed);
  return context;
}

/** Draw the component anew when a signal is emitted. */
export function useSignal(signal: ISignal<unknown, unknown> | undefined): number {
  const [times, again] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    signal?.connect(again);
    return () => {
      signal?.disconnect(again);
    };
  }, [signal]);
  return times;
}
