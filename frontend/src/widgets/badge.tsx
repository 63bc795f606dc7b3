/** The button in a notebook's toolbar: opens the panel, and shows how the training stands. */

import type { NotebookPanel } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget, ToolbarButtonComponent } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import * as React from 'react';

import type { Front } from '../front.ts';
import { trainingIcon } from '../icons.ts';
import { CommandIDs } from '../ids.ts';
import type { RecordModel } from '../model.ts';
import { useSignal } from './context.ts';
import { statusWord } from './words.ts';

/** Asks for the record once the notebook is there to be worked with, and has nothing more to do. */
export class StatusButton extends ReactWidget {
  readonly #commands: CommandRegistry;
  readonly #trans: TranslationBundle;
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
    void panel.revealed.then(() => {
      whenIdle(() => {
        if (!panel.isDisposed) {
          this.#model = front.modelOf(panel);
          this.#model?.refresh();
          this.update();
        }
      });
    });
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
