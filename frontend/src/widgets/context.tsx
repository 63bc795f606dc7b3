/** The connection of the panel's React components to the current notebook. */

import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { ISignal } from '@lumino/signaling';
import * as React from 'react';

import { formatTime, formatTimeAgo } from '../labels.ts';
import type { RecordModel } from '../model.ts';
import { keepEqual } from '../pure/equal.ts';
import type { PanelSettings } from '../settings.ts';

/** Milliseconds between two updates of relative times. */
const TICK = 10_000;

export interface IPanelContext {
  model: RecordModel;
  trans: TranslationBundle;
  commands: CommandRegistry;
  settings: PanelSettings;
  themeChanged: ISignal<unknown, unknown> | undefined;
}

const PanelContext = React.createContext<IPanelContext | undefined>(undefined);

/** Return the panel's context; the component is rendered again when the model has changed. */
export function usePanel(): IPanelContext {
  const context = React.useContext(PanelContext);
  if (context === undefined) {
    throw new Error('This component must be rendered in a PanelWidget.');
  }
  useSignal(context.model.changed);
  return context;
}

/** Render the component again when a signal is emitted; returns how often that has happened. */
export function useSignal(signal: ISignal<unknown, unknown> | undefined): number {
  const [count, increment] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    signal?.connect(increment);
    return () => void signal?.disconnect(increment);
  }, [signal]);
  return count;
}

/** Return the same list as before while its items are the same. */
export function useEqual<T>(items: readonly T[]): readonly T[] {
  const [kept, setKept] = React.useState(items);
  const next = keepEqual(kept, items);
  if (next !== kept) {
    setKept(next);
  }
  return next;
}

/** Return a text that depends on the time; the component is rendered again when the text has changed. */
export function useTimedText(read: () => string): string {
  const text = read();
  const latest = React.useRef({ read, text });
  const [, render] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    latest.current = { read, text };
  });
  React.useEffect(() => {
    const timer = setInterval(() => {
      if (latest.current.read() !== latest.current.text) {
        render();
      }
    }, TICK);
    return () => clearInterval(timer);
  }, []);
  return text;
}

/** How long ago a time was, with the time itself as its tooltip. */
export function TimeAgo({
  time,
  trans
}: {
  time: string;
  trans: TranslationBundle;
}): React.ReactElement {
  return <span title={formatTime(time)}>{useTimedText(() => formatTimeAgo(trans, time))}</span>;
}

/** A widget that renders a component for the current notebook. */
export class PanelWidget extends ReactWidget {
  readonly #component: React.ComponentType;
  #context: IPanelContext | undefined;
  #key = 0;

  constructor(component: React.ComponentType) {
    super();
    this.#component = component;
  }

  /** The context of the current notebook; undefined renders nothing. */
  set context(context: IPanelContext | undefined) {
    if (context?.model !== this.#context?.model) {
      this.#key += 1; // resets the state of the components
    }
    this.#context = context;
    this.update();
  }

  protected override render(): React.ReactElement | null {
    if (this.#context === undefined) {
      return null;
    }
    const Component = this.#component;
    return (
      <PanelContext.Provider value={this.#context}>
        <Component key={this.#key} />
      </PanelContext.Provider>
    );
  }
}
