/** What the commands have in common: how they are added, how they report errors, and the current notebook. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { LabIcon } from '@jupyterlab/ui-components';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import type { Widget } from '@lumino/widgets';

import type { AxonClient } from '../api.ts';
import type { Highlighter } from '../highlight.ts';
import type { RecordModel } from '../model.ts';
import type { RecordModelRegistry } from '../registry.ts';
import { showView } from '../views.ts';
import type { IVersionViewOptions } from '../widgets/version.tsx';

/** Milliseconds for which a notification is shown. */
const NOTIFICATION_TIME = 8000;

/** The argument by which JupyterLab's commands recognize the palette. */
export const IS_PALETTE = 'isPalette';

export type Args = ReadonlyPartialJSONObject;

export interface ICommandsOptions {
  app: JupyterFrontEnd;
  registry: RecordModelRegistry;
  client: AxonClient;
  trans: TranslationBundle;
  versionView: IVersionViewOptions;
  highlight: Highlighter;
}

/** A command; its texts may depend on the arguments. */
export interface ICommand {
  icon: LabIcon;
  label: string | ((args: Args) => string);
  caption: string;
  execute: (args: Args) => Promise<void> | void;
  isEnabled?: (args: Args) => boolean;
  /** Whether the command needs arguments and is no use in the palette. */
  isInternal?: boolean;
}

/** A command for the current notebook; disabled without one. */
export interface INotebookCommand extends Omit<ICommand, 'execute' | 'isEnabled'> {
  execute: (model: RecordModel, args: Args) => Promise<void> | void;
  /** Return why the command cannot be executed; undefined if it can. */
  whyNot?: (model: RecordModel, args: Args) => string | undefined;
}

/** Adds commands. */
export class CommandContext {
  readonly app: JupyterFrontEnd;
  readonly registry: RecordModelRegistry;
  readonly client: AxonClient;
  readonly trans: TranslationBundle;
  readonly versionView: IVersionViewOptions;
  readonly highlight: Highlighter;
  readonly #ids: string[] = [];
  #model: RecordModel | undefined;

  constructor({ app, registry, client, trans, versionView, highlight }: ICommandsOptions) {
    this.app = app;
    this.registry = registry;
    this.client = client;
    this.trans = trans;
    this.versionView = versionView;
    this.highlight = highlight;
    registry.currentChanged.connect(this.#follow, this);
    this.#follow();
  }

  /** Add a command, of which errors are shown as notifications. */
  add(id: string, command: ICommand): void {
    const { icon, label, caption, execute, isEnabled = () => true, isInternal = false } = command;
    this.#ids.push(id);
    this.app.commands.addCommand(id, {
      icon,
      label,
      caption,
      isEnabled,
      // The palette offers what can be done now. A menu shows the rest too, with the reason.
      isVisible: args => !isInternal && (args[IS_PALETTE] !== true || isEnabled(args)),
      execute: async args => {
        try {
          await execute(args);
        } catch (error) {
          this.showError(error);
        }
      }
    });
  }

  /** Add a command for the current notebook. While it is disabled, its label says why. */
  addForNotebook(
    id: string,
    { label, execute, whyNot = () => undefined, ...command }: INotebookCommand
  ): void {
    const { registry, trans } = this;
    const text = (args: Args): string => (typeof label === 'string' ? label : label(args));
    this.add(id, {
      ...command,
      label: args => {
        const reason = registry.current && whyNot(registry.current, args);
        return reason === undefined ? text(args) : trans.__('%1 (%2)', text(args), reason);
      },
      isEnabled: args =>
        registry.current !== undefined && whyNot(registry.current, args) === undefined,
      execute: async args => {
        if (registry.current !== undefined) {
          await execute(registry.current, args);
        }
      }
    });
  }

  showError(error: unknown): void {
    Notification.error(errorMessage(this.trans, error), { autoClose: NOTIFICATION_TIME });
  }

  showInfo(message: string): void {
    Notification.info(message, { autoClose: NOTIFICATION_TIME });
  }

  /** Show a widget; it takes the place of one that has the same key. */
  show(content: Widget, key: string, title: string, caption?: string): void {
    showView(this.app.shell, content, { trans: this.trans, key, title, caption });
  }

  /** Tell the palette and menus about every change of the current record. */
  #follow(): void {
    const { current } = this.registry;
    if (current !== this.#model) {
      this.#model?.changed.disconnect(this.#notify, this);
      this.#model = current;
      current?.changed.connect(this.#notify, this);
      this.#notify();
    }
  }

  #notify(): void {
    for (const id of this.#ids) {
      this.app.commands.notifyCommandChanged(id);
    }
  }
}

function errorMessage(trans: TranslationBundle, error: unknown): string {
  if (error instanceof AggregateError) {
    const { length } = error.errors;
    return trans._n(
      '%1 checkpoint could not be changed: %2',
      '%1 checkpoints could not be changed: %2',
      length,
      errorMessage(trans, error.errors[0])
    );
  }
  return error instanceof Error ? error.message : String(error);
}
