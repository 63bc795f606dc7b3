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

import type { Front } from '../front.ts';
import { trainingIcon } from '../icons.ts';
import { DOMAIN, PANEL } from '../ids.ts';
import type { RecordModel } from '../model.ts';
import { Cells } from './cells.tsx';
import { Curves } from './curves.tsx';
import { Header } from './header.tsx';
import { PanelPart } from './part.tsx';
import { RecordForm } from './record.tsx';
import { Sections } from './sections.ts';
import { CheckpointTable } from './table.tsx';
import { Versions } from './versions.tsx';

/** The room that each section has at first when it is open, as parts of the whole. */
const PARTS = [1.9, 2.7, 2.6, 2, 2];
/** Sections from here on are closed at first. */
const FIRST_CLOSED = 3;

export interface IPanelOptions {
  front: Front;
  commands: CommandRegistry;
  translator: ITranslator;
  themes: IThemeManager | null;
}

/** Shows the notebook in front, and watches it as long as it is shown itself. */
export class TrainingPanel extends SidePanel {
  readonly #options: IPanelOptions;
  readonly #trans: TranslationBundle;
  readonly #parts: PanelPart[] = [];
  readonly #resized = new ResizeObserver(() => {
    // The header grows and shrinks with what it has to say, which the sections below are not told.
    MessageLoop.postMessage(this.content, Widget.ResizeMessage.UnknownSize);
  });
  #model: RecordModel | undefined;
  #watch: IDisposable | undefined;

  constructor(options: IPanelOptions) {
    const content = new Sections(PARTS);
    super({ translator: options.translator, content });
    this.#options = options;
    this.#trans = options.translator.load(DOMAIN);
    this.id = PANEL;
    this.addClass('axon-Panel');
    this.title.icon = trainingIcon;
    this.title.caption = this.#trans.__('Training: record, curves and checkpoints of the notebook');
    this.node.tabIndex = -1;
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', this.#trans.__('Training'));

    const header = new PanelPart(Header);
    this.#parts.push(header);
    this.header.addWidget(header);
    const sections: [React.ComponentType, string, string][] = [
      [RecordForm, 'record', this.#trans.__('Record')],
      [Curves, 'curves', this.#trans.__('Curves')],
      [CheckpointTable, 'checkpoints', this.#trans.__('Checkpoints')],
      [Cells, 'cells', this.#trans.__('Cells')],
      [Versions, 'versions', this.#trans.__('Versions')]
    ];
    for (const [component, name, title] of sections) {
      const part = new PanelPart(component);
      part.title.label = title;
      part.addClass('axon-Section');
      part.node.dataset['section'] = name;
      this.#parts.push(part);
      this.addWidget(part);
    }
    for (let index = FIRST_CLOSED; index < PARTS.length; index += 1) {
      content.collapse(index);
    }
    options.front.changed.connect(this.#follow, this);
  }

  /** Let the keyboard begin here. */
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
    this.#resized.observe(this.content.node);
    this.#follow();
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.#rest();
  }

  protected override onBeforeDetach(message: Message): void {
    this.#rest();
    this.#resized.disconnect();
    super.onBeforeDetach(message);
  }

  #rest(): void {
    this.#model?.changed.disconnect(this.#arrange, this);
    this.#watch?.dispose();
    this.#watch = undefined;
    this.#model = undefined;
  }

  #follow(): void {
    const { front, commands, themes } = this.#options;
    const model = this.isVisible ? front.model : undefined;
    if (!this.isVisible || (model !== undefined && model === this.#model)) {
      return;
    }
    this.#rest();
    this.#model = model;
    model?.changed.connect(this.#arrange, this);
    this.#watch = model?.watch();
    this.toggleClass('axon-mod-none', model === undefined);
    this.#arrange();
    this.node.dataset['none'] = this.#trans.__('Open a notebook to see its training record here.');
    for (const part of this.#parts) {
      part.context =
        model === undefined
          ? undefined
          : {
              model,
              commands,
              trans: this.#trans,
              ...(themes === null ? {} : { themeChanged: themes.themeChanged })
            };
    }
  }

  /** Sections are of a record; where there is none, there is nothing to be in them. */
  #arrange(): void {
    const { isLoaded, summary, trouble } = this.#model ?? {};
    const isKnown = isLoaded === true || trouble !== undefined;
    this.toggleClass('axon-mod-unrecorded', isKnown && summary === undefined);
  }
}
