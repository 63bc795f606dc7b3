/** The Training Runs page; loaded when it is opened for the first time. */

import type { IThemeManager } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { IDisposable } from '@lumino/disposable';
import type { Message } from '@lumino/messaging';
import { SplitPanel } from '@lumino/widgets';
import * as React from 'react';

import type { AxonClient } from '../api.ts';
import type { PanelSettings } from '../settings.ts';
import type { IPageContext } from './context.ts';
import { PageContext, usePage } from './context.ts';
import { RunsModel } from './model.ts';
import { Selection } from './selection.tsx';
import type { RunsSettings } from './settings.ts';
import { RunTable } from './table.tsx';

export interface IRunsPageOptions {
  client: AxonClient;
  panelSettings: PanelSettings;
  settings: RunsSettings;
  commands: CommandRegistry;
  trans: TranslationBundle;
  themeManager: IThemeManager | null;
}

/** The table of all runs above what is shown of the selected ones. It polls only while it is visible. */
export class RunsPage extends SplitPanel {
  readonly model: RunsModel;
  readonly #selection: PageWidget;
  #watch: IDisposable | undefined;
  /** Whether the selection was shown before; then the user's sizes apply. */
  #isDivided = false;

  constructor(options: IRunsPageOptions) {
    super({ orientation: 'vertical', spacing: 1 });
    const { client, panelSettings, settings, commands, trans, themeManager } = options;
    this.model = new RunsModel(client, panelSettings);
    const context: IPageContext = {
      model: this.model,
      settings,
      trans,
      commands,
      themeChanged: themeManager?.themeChanged
    };
    this.addClass('axon-Runs');
    const table = new PageWidget(TableArea, context);
    table.addClass('axon-Runs-table');
    this.#selection = new PageWidget(SelectionArea, context);
    this.#selection.addClass('axon-Runs-selection');
    this.#selection.hide();
    this.addWidget(table);
    this.addWidget(this.#selection);
    this.model.changed.connect(this.#onModelChanged, this);
  }

  override dispose(): void {
    this.#watch?.dispose();
    this.model.dispose();
    super.dispose();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.#watch ??= this.model.watch();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (this.isVisible) {
      this.#watch ??= this.model.watch();
    }
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.#unwatch();
  }

  protected override onBeforeDetach(message: Message): void {
    this.#unwatch();
    super.onBeforeDetach(message);
  }

  /** Focus the table. */
  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.node.querySelector<HTMLElement>('[role="grid"]')?.focus();
  }

  #unwatch(): void {
    this.#watch?.dispose();
    this.#watch = undefined;
  }

  #onModelChanged(): void {
    const isHidden = this.model.visibleSelection.length === 0;
    if (isHidden !== this.#selection.isHidden) {
      this.#selection.setHidden(isHidden);
      if (!isHidden && !this.#isDivided) {
        this.#isDivided = true;
        this.setRelativeSizes([1, 1]); // a hidden widget has no size
      }
    }
  }
}

/** A widget that renders a component in the page's context. */
class PageWidget extends ReactWidget {
  readonly #component: React.ComponentType;
  readonly #context: IPageContext;

  constructor(component: React.ComponentType, context: IPageContext) {
    super();
    this.#component = component;
    this.#context = context;
  }

  protected override render(): React.ReactElement {
    const Component = this.#component;
    return (
      <PageContext.Provider value={this.#context}>
        <Component />
      </PageContext.Provider>
    );
  }
}

function TableArea(): React.ReactElement {
  const { model, trans } = usePage();
  return (
    <div className="axon-Runs-area">
      {model.isLoaded ? (
        <RunTable />
      ) : (
        <p className="axon-Hint" role="status">
          {trans.__('Loading runs…')}
        </p>
      )}
    </div>
  );
}

function SelectionArea(): React.ReactElement {
  const { model, trans, themeChanged } = usePage();
  return (
    <Selection
      selected={model.visibleSelection}
      runs={model.shown}
      colours={model.selected}
      metric={model.ranking?.metric}
      client={model.client}
      trans={trans}
      themeChanged={themeChanged}
      notebookName={id => model.notebook(id)?.name}
      direction={metric => model.direction(metric)}
      onSelect={ids => model.select(ids)}
      onOpen={id => model.showDetails(id)}
    />
  );
}
