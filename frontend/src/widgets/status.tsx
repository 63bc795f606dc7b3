/** The status of the training as seen in the toolbar of a notebook, its header and its cells. */

import type { NotebookPanel } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget, ToolbarButtonComponent } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import { Poll } from '@lumino/polling';
import { Signal } from '@lumino/signaling';
import * as React from 'react';

import { trainingIcon } from '../icons.ts';
import { CommandIDs } from '../ids.ts';
import { statusLabel } from '../labels.ts';
import type { RecordModel } from '../model.ts';
import type { CellStatus, NotebookStatus } from '../records.ts';
import type { RecordModelRegistry } from '../registry.ts';
import { useSignal } from './context.tsx';

/** Milliseconds between two requests while the kernel is busy. */
const INTERVAL = 5000;
/** Milliseconds from a change of the kernel's status to a request; many cells take less. */
const DELAY = 1000;

/** A toolbar button that shows the status of the training and opens the panel. */
export class StatusButton extends ReactWidget {
  readonly #commands: CommandRegistry;
  readonly #trans: TranslationBundle;
  readonly #panel: NotebookPanel;
  #poll: Poll | undefined;
  #model: RecordModel | undefined;

  constructor(
    panel: NotebookPanel,
    registry: RecordModelRegistry,
    commands: CommandRegistry,
    trans: TranslationBundle
  ) {
    super();
    this.#commands = commands;
    this.#trans = trans;
    this.#panel = panel;
    void panel.revealed.then(() => {
      // Must not slow down the opening of the notebook.
      requestIdle(() => {
        if (!panel.isDisposed && !this.isDisposed) {
          this.#follow(registry.get(panel));
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
    if (model === undefined) {
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
    this.#panel.sessionContext.statusChanged.connect(this.#scheduleRefresh, this);
    this.#panel.context.fileChanged.connect(this.#scheduleRefresh, this);
    model.refresh();
    this.update();
  }

  #scheduleRefresh(): void {
    void this.#poll?.schedule({ phase: 'started', interval: DELAY });
  }

  protected override render(): React.ReactElement {
    return <Status model={this.#model} commands={this.#commands} trans={this.#trans} />;
  }
}

function requestIdle(callback: () => void): void {
  if ('requestIdleCallback' in window) {
    window.requestIdleCallback(callback, { timeout: 2000 });
  } else {
    setTimeout(callback); // Safari
  }
}

interface IStatusButtonProps {
  model: RecordModel | undefined;
  commands: CommandRegistry;
  trans: TranslationBundle;
}

function Status({ model, commands, trans }: IStatusButtonProps): React.ReactElement {
  useSignal(model?.changed);
  const status = model?.record?.status;
  const label =
    status === undefined
      ? trans.__('Training')
      : trans.__('Training: %1', statusLabel(trans, status));
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

interface IStatusProps {
  status: NotebookStatus | CellStatus;
  trans: TranslationBundle;
}

/** A dot and the name of a status. */
export function StatusBadge({ status, trans }: IStatusProps): React.ReactElement {
  return (
    <span className="axon-Status" data-status={status}>
      <span className="axon-Status-dot" aria-hidden="true" />
      {statusLabel(trans, status)}
    </span>
  );
}

/** A dot with the name of a status as its tooltip. */
export function StatusDot({ status, trans }: IStatusProps): React.ReactElement {
  const label = statusLabel(trans, status);
  return (
    <span className="axon-Status" data-status={status} role="img" aria-label={label} title={label}>
      <span className="axon-Status-dot" />
    </span>
  );
}
