/** A part of the panel: a widget that shows a component for whichever notebook is in front. */

import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { IPanelContext } from './context.ts';
import { PanelContext } from './context.ts';

export class PanelPart extends ReactWidget {
  readonly #component: React.ComponentType;
  #context: IPanelContext | undefined;
  #key = 0;

  constructor(component: React.ComponentType, context?: IPanelContext) {
    super();
    this.#component = component;
    this.#context = context;
  }

  /** The notebook to show; none where none is in front. */
  set context(context: IPanelContext | undefined) {
    if (context?.model !== this.#context?.model) {
      this.#key += 1; // what was typed and chosen was for another notebook
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
