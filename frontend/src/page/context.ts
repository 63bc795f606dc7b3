/** The connection of the page's React components to its model. */

import type { TranslationBundle } from '@jupyterlab/translation';
import type { CommandRegistry } from '@lumino/commands';
import type { ISignal } from '@lumino/signaling';
import * as React from 'react';

import { useSignal } from '../widgets/context.tsx';
import type { RunsModel } from './model.ts';
import type { RunsSettings } from './settings.ts';

export interface IPageContext {
  model: RunsModel;
  settings: RunsSettings;
  trans: TranslationBundle;
  commands: CommandRegistry;
  themeChanged: ISignal<unknown, unknown> | undefined;
}

export const PageContext = React.createContext<IPageContext | undefined>(undefined);

/** Return the page's context; the component is rendered again when the model or the settings have changed. */
export function usePage(): IPageContext {
  const context = React.useContext(PageContext);
  if (context === undefined) {
    throw new Error('This component must be rendered in the Training Runs page.');
  }
  useSignal(context.model.changed);
  useSignal(context.settings.changed);
  return context;
}
