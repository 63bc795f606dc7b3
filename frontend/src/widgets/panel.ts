/** The panel in the side bar. */

import type { IThemeManager } from '@jupyterlab/apputils';
import type { ITranslator, TranslationBundle } from '@jupyterlab/translation';
import { SidePanel } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { IDisposable } from '@lumino/disposable';
import type { Message } from '@lumino/messaging';
import { MessageLoop } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';
import type * as React from 'react';

import { trainingIcon } from '../icons.ts';
import { PANEL_ID, TRANSLATION_DOMAIN } from '../ids.ts';
import type { RecordModel } from '../model.ts';
import type { RecordModelRegistry } from '../registry.ts';
import type { PanelSettings, SectionName, SectionState } from '../settings.ts';
import { SectionAccordion } from './accordion.ts';
import { Cells } from './cells.tsx';
import { PanelWidget } from './context.tsx';
import { Curves } from './curves.tsx';
import { Header } from './header.tsx';
import { RecordForm } from './record.tsx';
import { CheckpointTable } from './table.tsx';
import { Versions } from './versions.tsx';

export interface IPanelOptions {
  registry: RecordModelRegistry;
  settings: PanelSettings;
  commands: CommandRegistry;
  translator: ITranslator;
  themeManager: IThemeManager | null;
}

interface ISection {
  name: SectionName;
  widget: PanelWidget;
  /** The share of the height if all sections are open. */
  proportion: number;
  state: SectionState;
}

/** A side panel that shows the current notebook and watches its record while it is visible. */
export class TrainingPanel extends SidePanel {
  readonly #options: IPanelOptions;
  readonly #trans: TranslationBundle;
  readonly #accordion: SectionAccordion;
  readonly #headerWidget = new PanelWidget(Header);
  readonly #sections: ISection[];
  readonly #resizeObserver = new ResizeObserver(() => {
    // The height of the sections depends on that of the header, which changes with its content.
    MessageLoop.postMessage(this.content, Widget.ResizeMessage.UnknownSize);
  });
  #model: RecordModel | undefined;
  #watch: IDisposable | undefined;

  constructor(options: IPanelOptions) {
    const accordion = new SectionAccordion();
    super({ translator: options.translator, content: accordion });
    this.#options = options;
    this.#accordion = accordion;
    this.#trans = options.translator.load(TRANSLATION_DOMAIN);
    const trans = this.#trans;
    this.id = PANEL_ID;
    this.addClass('axon-Panel');
    this.title.icon = trainingIcon;
    this.title.caption = trans.__('Training: record, curves and checkpoints of the notebook');
    this.node.tabIndex = -1;
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', trans.__('Training'));
    this.node.dataset['emptyText'] = trans.__('Open a notebook to see its training record here.');
    this.header.addWidget(this.#headerWidget);
    this.#sections = [
      createSection(Curves, 'curves', trans.__('Curves'), 1),
      createSection(CheckpointTable, 'checkpoints', trans.__('Checkpoints'), 1),
      createSection(RecordForm, 'record', trans.__('Record'), 0.5),
      createSection(Cells, 'cells', trans.__('Cells'), 0.7),
      createSection(Versions, 'versions', trans.__('Versions'), 0.7)
    ];
    this.#applySettings();
    options.settings.changed.connect(this.#applySettings, this);
    options.registry.currentChanged.connect(this.#follow, this);
  }

  /** Focus the panel, for the keyboard. */
  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.node.focus();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.#follow();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.#resizeObserver.observe(this.content.node);
    this.#follow();
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.#unfollow();
  }

  protected override onBeforeDetach(message: Message): void {
    this.#unfollow();
    this.#resizeObserver.disconnect();
    super.onBeforeDetach(message);
  }

  /** Open, close or hide the sections whose setting has changed. */
  #applySettings(): void {
    const states = this.#options.settings.sections;
    let index = 0;
    for (const section of this.#sections) {
      const { name, widget, proportion } = section;
      const state = states[name];
      if (state !== section.state) {
        section.state = state;
        if (state === 'hidden') {
          widget.parent = null;
        } else {
          if (widget.parent === null) {
            this.#accordion.insertSection(index, widget, proportion);
          }
          this.#accordion[state === 'open' ? 'expand' : 'collapse'](index);
        }
      }
      index += state === 'hidden' ? 0 : 1;
    }
  }

  /** Open the section in which a checkpoint is shown. */
  #onRevealed(): void {
    const index = this.#accordion.widgets.findIndex(
      ({ node }) => node.dataset['section'] === 'checkpoints'
    );
    if (index >= 0) {
      this.#accordion.expand(index);
    }
  }

  #unfollow(): void {
    this.#model?.checkpoints.revealed.disconnect(this.#onRevealed, this);
    this.#model?.changed.disconnect(this.#onModelChanged, this);
    this.#watch?.dispose();
    this.#watch = undefined;
    this.#model = undefined;
  }

  #follow(): void {
    const { registry, settings, commands, themeManager } = this.#options;
    const model = registry.current;
    if (!this.isVisible || (model !== undefined && model === this.#model)) {
      return;
    }
    this.#unfollow();
    this.#model = model;
    model?.changed.connect(this.#onModelChanged, this);
    model?.checkpoints.revealed.connect(this.#onRevealed, this);
    this.#watch = model?.watch();
    this.toggleClass('axon-mod-empty', model === undefined);
    this.#onModelChanged();
    const context = model && {
      model,
      commands,
      settings,
      trans: this.#trans,
      themeChanged: themeManager?.themeChanged
    };
    for (const widget of [this.#headerWidget, ...this.#sections.map(({ widget }) => widget)]) {
      widget.context = context;
    }
  }

  /** Hide the sections if there is no record. */
  #onModelChanged(): void {
    const { isLoaded, record, problem } = this.#model ?? {};
    const isKnown = isLoaded === true || problem !== undefined;
    this.toggleClass('axon-mod-unrecorded', isKnown && record === undefined);
  }
}

function createSection(
  component: React.ComponentType,
  name: SectionName,
  title: string,
  proportion: number
): ISection {
  const widget = new PanelWidget(component);
  widget.title.label = title;
  widget.addClass('axon-Section');
  widget.node.dataset['section'] = name;
  return { name, widget, proportion, state: 'hidden' };
}
