/** The Training Runs page; loaded when it is opened for the first time. */

import type { IThemeManager } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { IDisposable } from '@lumino/disposable';
import type { Message } from '@lumino/messaging';
import type { Widget } from '@lumino/widgets';
import { SplitPanel } from '@lumino/widgets';
import * as React from 'react';

import type { AxonClient } from '../api.ts';
import type { Highlighter } from '../highlight.ts';
import { toCsv } from '../pure/runs.ts';
import type { PanelSettings } from '../settings.ts';
import { HighlighterContext } from '../widgets/diff.tsx';
import { addBorderKeys } from './borders.ts';
import { columnLabel } from './chooser.tsx';
import { canSort, columnValue } from './columns.tsx';
import type { IPageContext } from './context.ts';
import { PageContext, usePage } from './context.ts';
import { RunDetails } from './details.tsx';
import { RunsModel } from './model.ts';
import { Selection } from './selection.tsx';
import type { RunsSettings } from './settings.ts';
import { RunTable, shownColumns } from './table.tsx';
import { RunsToolbar } from './toolbar.tsx';

export { addRunCommands, RUN_PALETTE_COMMANDS } from './commands.ts';

/** Width in pixels of the borders between the areas, which can be dragged. */
const BORDER = 4;

export interface IRunsPageOptions {
  client: AxonClient;
  panelSettings: PanelSettings;
  settings: RunsSettings;
  commands: CommandRegistry;
  trans: TranslationBundle;
  themeManager: IThemeManager | null;
  highlight: Highlighter;
}

/**
 * The table of all runs, below it what is shown of the selected ones, and the details of one run at the right.
 *
 * It polls the server only while it is visible.
 */
export class RunsPage extends SplitPanel {
  readonly model: RunsModel;
  readonly #context: IPageContext;
  readonly #highlight: Highlighter;
  readonly #left: SplitPanel;
  readonly #selection: PageWidget;
  readonly #details: PageWidget;
  #detailsId: string | undefined;
  #watch: IDisposable | undefined;

  constructor(options: IRunsPageOptions) {
    super({ orientation: 'horizontal', spacing: BORDER });
    const { client, panelSettings, settings, commands, trans, themeManager, highlight } = options;
    this.model = new RunsModel(client, panelSettings);
    this.#context = {
      model: this.model,
      settings,
      trans,
      commands,
      themeChanged: themeManager?.themeChanged
    };
    this.#highlight = highlight;
    this.addClass('axon-Runs');
    const table = this.#create(TableArea, 'axon-Runs-table');
    this.#selection = this.#create(SelectionArea, 'axon-Runs-selection');
    this.#details = this.#create(RunDetails, 'axon-Runs-details');
    this.#selection.hide();
    this.#details.hide();
    this.#left = new SplitPanel({ orientation: 'vertical', spacing: BORDER });
    this.#left.addWidget(table);
    this.#left.addWidget(this.#selection);
    this.addWidget(this.#left);
    this.addWidget(this.#details);
    const saveHeight = (): void => {
      void settings.update({ selectionShare: lastShare(this.#left) });
    };
    const saveWidth = (): void => void settings.update({ detailsShare: lastShare(this) });
    this.#left.handleMoved.connect(saveHeight);
    this.handleMoved.connect(saveWidth);
    addBorderKeys(this.#left, trans.__('Border above the selected runs'), saveHeight);
    addBorderKeys(this, trans.__('Border beside the details'), saveWidth);
    settings.changed.connect(this.#onSettingsChanged, this);
    this.#onSettingsChanged();
    this.model.changed.connect(this.#onModelChanged, this);
  }

  override dispose(): void {
    this.#context.settings.changed.disconnect(this.#onSettingsChanged, this);
    this.#unwatch();
    this.model.dispose();
    super.dispose();
  }

  /**
   * Return the visible columns of the runs that the filter selects, and their ids, as CSV in the order of the table.
   *
   * Columns that are loaded only for the visible rows are left out.
   */
  csv(): string {
    const { model, trans } = this.#context;
    const columns = shownColumns(this.#context).filter(canSort);
    const runs = model.shown.length === 0 ? [] : model.ordered;
    return toCsv([
      [...columns.map(column => columnLabel(column, trans)), trans.__('run id')],
      ...runs.map(run => [...columns.map(column => columnValue(column, run, model)), run.run_id])
    ]);
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.#watchIfVisible();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.#watchIfVisible();
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
    this.#focusTable();
  }

  #create(component: React.ComponentType, name: string): PageWidget {
    const widget = new PageWidget(component, this.#context, this.#highlight);
    widget.addClass(name);
    return widget;
  }

  #watchIfVisible(): void {
    if (this.isVisible) {
      this.#watch ??= this.model.runs.watch();
    }
  }

  #unwatch(): void {
    this.#watch?.dispose();
    this.#watch = undefined;
  }

  #focusTable(): void {
    this.node.querySelector<HTMLElement>('.axon-Runs-grid')?.focus();
  }

  #onSettingsChanged(): void {
    this.model.setBaseline(this.#context.settings.table.baseline);
  }

  #onModelChanged(): void {
    const { visibleSelection, details } = this.model;
    const { selectionShare, detailsShare } = this.#context.settings.table;
    show(this.#left, this.#selection, visibleSelection.length > 0, selectionShare);
    show(this, this.#details, details !== undefined, detailsShare);
    if (details?.id !== this.#detailsId) {
      const hadFocus = this.#details.node.contains(document.activeElement);
      this.#detailsId = details?.id;
      if (details === undefined && hadFocus) {
        this.#focusTable();
      }
    }
  }
}

/** Return the share of the second widget of a panel. */
function lastShare(panel: SplitPanel): number {
  return Math.round(1000 * (panel.relativeSizes()[1] ?? 0)) / 1000;
}

/** Show or hide the second widget of a panel, with its share of the room. */
function show(panel: SplitPanel, widget: Widget, isShown: boolean, share: number): void {
  if (isShown && widget.isHidden) {
    widget.show();
    panel.setRelativeSizes([1 - share, share]);
  } else if (!isShown) {
    widget.hide();
  }
}

/** A widget that renders a component in the page's context. */
class PageWidget extends ReactWidget {
  readonly #component: React.ComponentType;
  readonly #context: IPageContext;
  readonly #highlight: Highlighter;

  constructor(component: React.ComponentType, context: IPageContext, highlight: Highlighter) {
    super();
    this.#component = component;
    this.#context = context;
    this.#highlight = highlight;
  }

  protected override render(): React.ReactElement {
    const Component = this.#component;
    return (
      <PageContext.Provider value={this.#context}>
        <HighlighterContext.Provider value={this.#highlight}>
          <Component />
        </HighlighterContext.Provider>
      </PageContext.Provider>
    );
  }
}

function TableArea(): React.ReactElement {
  const { model, trans } = usePage();
  return (
    <div className="axon-Runs-area">
      <RunsToolbar />
      {!model.runs.isLoaded ? null : model.shown.length > 0 ? (
        <RunTable />
      ) : (
        <p className="axon-Hint">
          {model.where === ''
            ? trans.__('No runs yet. Runs are recorded when a notebook trains.')
            : trans.__('No run matches this filter.')}
        </p>
      )}
    </div>
  );
}

function SelectionArea(): React.ReactElement | null {
  const { model, trans, themeChanged } = usePage();
  if (model.visibleSelection.length === 0) {
    return null;
  }
  return (
    <Selection
      selected={model.visibleSelection}
      runs={model.shown}
      colours={model.selected}
      metric={model.ranking?.metric}
      client={model.background}
      series={model.series}
      trans={trans}
      themeChanged={themeChanged}
      notebookName={id => model.notebook(id)?.name}
      direction={metric => model.direction(metric)}
      onSelect={ids => model.select(ids)}
      onOpen={id => model.showDetails(id)}
    />
  );
}
