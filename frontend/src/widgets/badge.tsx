/** The button in a notebook's toolbar: opens the panel, and shows how the training stands. */

import type { NotebookPanel } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget, ToolbarButtonComponent } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import { Poll } from '@lumino/polling';
import { Signal } from '@lumino/signaling';
import * as React from 'react';

import type { Front } from '../front.ts';
import { trainingIcon } from '../icons.ts';
import { CommandIDs } from '../ids.ts';
import type { RecordModel } from '../model.ts';
import { useSignal } from './context.ts';
import { statusWord } from './words.ts';

/** Milliseconds between two looks at how the training stands, while the kernel is at work. */
const INTERVAL = 5000;
/** Milliseconds from a change of the kernel's to a look. */
const MOMENT = 1000;

/** Asks for the record once the notebook is there to be worked with, and again while its kernel is at work. */
export class StatusButton extends ReactWidget {
  readonly #commands: CommandRegistry;
  readonly #trans: TranslationBundle;
  readonly #panel: NotebookPanel;
  #poll: Poll | undefined;
  #model: RecordModel | undefined;

  constructor(
    panel: NotebookPanel,
    front: Front,
    commands: CommandRegistry,
    trans: TranslationBundle
  ) {
    super();
    this.#commands = commands;
    this.#trans = trans;
    this.#panel = panel;
    void panel.revealed.then(() => {
      whenIdle(() => {
        if (!panel.isDisposed) {
          this.#follow(front.modelOf(panel));
        }
      });
    });
  }

  override dispose(): void {
    Signal.disconnectReceiver(this);
    this.#poll?.dispose();
    super.dispose();
  }

  #follow(model: RecordModel | undefined): void {
    if (model === undefined || this.isDisposed) {
      return;
    }
    this.#model = model;
    this.#poll = new Poll({
      name: 'jupyter-axon-notebooks:status',
      factory: async () => {
        model.refresh();
        if (this.#panel.sessionContext.session?.kernel?.status !== 'busy') {
          await this.#poll?.stop();
        }
      },
      frequency: { interval: INTERVAL, backoff: false },
      standby: 'when-hidden',
      auto: false
    });
    this.#panel.sessionContext.statusChanged.connect(this.#lookSoon, this);
    this.#panel.context.fileChanged.connect(this.#lookSoon, this);
    model.refresh();
    this.update();
  }

  /** Look a moment after the kernel begins or ends its work, and after a save: many cells are quick. */
  #lookSoon(): void {
    void this.#poll?.schedule({ phase: 'started', interval: MOMENT });
  }

  protected override render(): React.ReactElement {
    return <Status model={this.#model} commands={this.#commands} trans={this.#trans} />;
  }
}

function whenIdle(work: () => void): void {
  if ('requestIdleCallback' in window) {
    window.requestIdleCallback(work, { timeout: 2000 });
  } else {
    setTimeout(work);
  }
}

interface IStatusProps {
  model: RecordModel | undefined;
  commands: CommandRegistry;
  trans: TranslationBundle;
}

function Status({ model, commands, trans }: IStatusProps): React.ReactElement {
  useSignal(model?.changed);
  const status = model?.summary?.status;
  const label =
    status === undefined
      ? trans.__('Training')
      : trans.__('Training: %1', statusWord(trans, status));
  return (
    <span className="axon-Status axon-StatusButton" data-status={status}>
      <ToolbarButtonComponent
        icon={trainingIcon}
        tooltip={label}
        onClick={() => void commands.execute(CommandIDs.toggle)}
      />
      {status !== undefined && <span className="axon-Status-dot" aria-hidden="true" />}
    </span>
  );
}
