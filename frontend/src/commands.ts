/** The commands of buttons, menus, palette and keys. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Clipboard, Dialog, InputDialog, Notification, showDialog } from '@jupyterlab/apputils';
import { NotebookActions } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { LabIcon } from '@jupyterlab/ui-components';
import {
  copyIcon,
  deleteIcon,
  downloadIcon,
  editIcon,
  historyIcon,
  notebookIcon,
  refreshIcon,
  saveIcon
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import type { Widget } from '@lumino/widgets';
import { Menu } from '@lumino/widgets';

import { compareIcon, pinIcon, trainingIcon } from './icons.ts';
import { CommandIDs, PANEL_ID } from './ids.ts';
import { formatTime, runLabel } from './labels.ts';
import type { RecordModel } from './model.ts';
import { hasState, restoreLine, withImport } from './pure/python.ts';
import type { ICheckpointRow } from './pure/rows.ts';
import type { RecordModelRegistry } from './registry.ts';
import { showView } from './views.ts';
import type { IDiff } from './widgets/diff.tsx';
import { createDiffView } from './widgets/diff.tsx';
import type { IVersionViewOptions } from './widgets/version.ts';
import { VersionView } from './widgets/version.ts';

/** Milliseconds for which an error message is shown. */
const NOTIFICATION_TIME = 8000;
/** Largest number of checkpoints that are pinned without confirmation. */
const PIN_WITHOUT_CONFIRMATION = 50;

/** Commands of the palette. */
export const PALETTE_COMMANDS = [
  CommandIDs.toggle,
  CommandIDs.refresh,
  CommandIDs.record,
  CommandIDs.compareCheckpoints,
  CommandIDs.togglePin,
  CommandIDs.editTags,
  CommandIDs.deleteCheckpoints,
  CommandIDs.insertRestore,
  CommandIDs.copyRestore,
  CommandIDs.openNotebook
];

/** Items of the menu of a checkpoint; an empty string is a separator. */
const MENU_COMMANDS = [
  CommandIDs.insertRestore,
  CommandIDs.copyRestore,
  CommandIDs.openNotebook,
  '',
  CommandIDs.togglePin,
  CommandIDs.editTags,
  CommandIDs.compareCheckpoints,
  '',
  CommandIDs.downloadModel,
  CommandIDs.downloadOptimizer,
  '',
  CommandIDs.deleteCheckpoints
];

export interface ICommandsOptions {
  app: JupyterFrontEnd;
  registry: RecordModelRegistry;
  trans: TranslationBundle;
  versionView: IVersionViewOptions;
}

type Args = ReadonlyPartialJSONObject;

export function addCommands({ app, registry, trans, versionView }: ICommandsOptions): void {
  const { commands, shell } = app;

  /** Add a command for the current notebook; errors are shown as notifications. */
  const add = (
    id: string,
    icon: LabIcon,
    label: CommandRegistry.ICommandOptions['label'] & {},
    caption: CommandRegistry.ICommandOptions['caption'] & {},
    execute: (model: RecordModel, args: Args) => Promise<void> | void,
    options: Partial<CommandRegistry.ICommandOptions> = {}
  ): void => {
    commands.addCommand(id, {
      ...options,
      label,
      caption,
      icon,
      execute: async args => {
        try {
          if (registry.current !== undefined) {
            await execute(registry.current, args);
          }
        } catch (error) {
          Notification.error(errorMessage(error, trans), { autoClose: NOTIFICATION_TIME });
        }
      }
    });
  };
  /** For commands that need arguments and are no use in the palette. */
  const internal = { isVisible: () => false };

  const targetIds = (args: Args): string[] => {
    const ids = args['ids'];
    const selected = registry.current?.checkpoints.selected ?? [];
    return Array.isArray(ids) ? ids.map(String) : [...selected];
  };
  const targets = (args: Args): ICheckpointRow[] =>
    targetIds(args).flatMap(id => registry.current?.checkpoints.row(id) ?? []);
  const targetCount = (args: Args): number => Math.max(1, targets(args).length);
  const singleTarget = (args: Args): ICheckpointRow | undefined =>
    targetIds(args).length === 1 ? targets(args)[0] : undefined;
  const forTargets = { isEnabled: (args: Args) => targets(args).length > 0 };

  const cellSources = (): string[] =>
    registry.panel?.content.widgets.map(({ model }) => model.sharedModel.getSource()) ?? [];
  const restoreCode = (args: Args): string | undefined => {
    const detail = singleTarget(args)?.detail;
    return detail === undefined ? undefined : restoreLine(detail, cellSources());
  };
  const restoreCaption =
    (caption: string) =>
    (args: Args): string => {
      if (targets(args).length > 1) {
        return trans.__('Only one checkpoint can be restored at a time');
      }
      if (singleTarget(args)?.detail?.pruned_at !== undefined) {
        return trans.__('The state files of the checkpoint were pruned');
      }
      return restoreCode(args) === undefined
        ? trans.__('The checkpoint has no state file of a model')
        : caption;
    };
  const whenRestorable = { isEnabled: (args: Args) => restoreCode(args) !== undefined };

  const show = (content: Widget, title: string, caption?: string): void =>
    showView(shell, content, trans, title, caption);
  const showDiff = (model: RecordModel, diff: IDiff): void => {
    const title = trans.__('%1 → %2', diff.before, diff.after);
    const caption = trans.__('%1: %2', model.record?.name ?? '', title);
    show(createDiffView(diff, trans), title, caption);
  };
  const showVersion = async (model: RecordModel, id: unknown): Promise<void> => {
    if (model.record === undefined || typeof id !== 'string') {
      return;
    }
    const version = await model.client.version(model.record.id, id);
    const title = trans.__('%1 of %2', model.record.name, formatTime(version.created_at));
    show(new VersionView(version, versionView), title);
  };
  const positionLabel = (model: RecordModel, [row]: readonly ICheckpointRow[]): string => {
    if (row === undefined) {
      return '';
    }
    const run = runLabel(trans, model.checkpoints.runs, row.runId);
    return trans.__('%1, epoch %2, step %3', run, row.epoch, row.step);
  };

  commands.addCommand(CommandIDs.toggle, {
    label: trans.__('Training Panel'),
    caption: trans.__('Show or hide the training record of the current notebook'),
    // In menus, an icon would replace the check mark.
    icon: args => (args['toolbar'] === true ? trainingIcon : undefined),
    isToggleable: true,
    isToggled: () => isPanelVisible(shell),
    execute: () => {
      if (isPanelVisible(shell)) {
        (shell as { collapseRight?: () => void }).collapseRight?.();
      } else {
        shell.activateById(PANEL_ID);
      }
    }
  });

  add(
    CommandIDs.refresh,
    refreshIcon,
    trans.__('Refresh the Training Panel'),
    trans.__('Load the training record of the current notebook again'),
    model => model.reload(),
    { isEnabled: () => registry.current !== undefined }
  );

  add(
    CommandIDs.record,
    saveIcon,
    trans.__('Save Notebook and Start Recording'),
    trans.__('Save the current notebook and create its training record'),
    async model => {
      await registry.panel?.context.save();
      await model.create();
    },
    {
      isEnabled: () => registry.current !== undefined && registry.current.record === undefined
    }
  );

  add(
    CommandIDs.goToCell,
    notebookIcon,
    trans.__('Go to Cell'),
    trans.__('Scroll to a cell of the current notebook and activate it'),
    async (_model, args) => {
      const { panel } = registry;
      const index =
        panel?.content.widgets.findIndex(({ model }) => model.id === args['cell']) ?? -1;
      if (panel === null || index < 0) {
        throw new Error(trans.__('The cell is no longer in the notebook.'));
      }
      shell.activateById(panel.id);
      panel.content.activeCellIndex = index;
      panel.content.deselectAll();
      await panel.content.scrollToItem(index, 'center');
      panel.content.activate();
    },
    internal
  );

  add(
    CommandIDs.openVersion,
    historyIcon,
    trans.__('Open Version'),
    trans.__('Open a version of the notebook, read-only'),
    (model, args) => showVersion(model, args['version']),
    internal
  );

  add(
    CommandIDs.moreVersions,
    historyIcon,
    trans.__('Show Older Versions'),
    trans.__('Load older versions of the notebook'),
    model => model.loadMoreVersions(),
    internal
  );

  add(
    CommandIDs.openNotebook,
    notebookIcon,
    trans.__('Open the Notebook Version'),
    trans.__('Open the notebook as it was when the checkpoint was created, read-only'),
    (model, args) => showVersion(model, singleTarget(args)?.detail?.version_id),
    { isEnabled: args => singleTarget(args)?.detail?.version_id !== undefined }
  );

  add(
    CommandIDs.compareVersions,
    compareIcon,
    trans.__('Compare Versions'),
    trans.__('Show the changes between two versions of the notebook'),
    async (model, { from, to }) => {
      const id = model.record?.id;
      if (id === undefined || typeof from !== 'string' || typeof to !== 'string') {
        return;
      }
      const label = async (version: string): Promise<string> => {
        if (version === model.record?.version_id) {
          return trans.__('now');
        }
        const loaded = model.versions.find(other => other.id === version);
        return formatTime((loaded ?? (await model.client.version(id, version))).created_at);
      };
      const changes = await model.client.diff(id, from, to);
      showDiff(model, { before: await label(from), after: await label(to), changes });
    },
    internal
  );

  add(
    CommandIDs.compareCheckpoints,
    compareIcon,
    trans.__('Compare Two Checkpoints'),
    trans.__('Show the differences in code, metrics and environment of two checkpoints'),
    async (model, args) => {
      const [before, after] = targets(args).sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1));
      if (model.record === undefined || before === undefined || after === undefined) {
        return;
      }
      const diff = await model.client.checkpointDiff(model.record.id, before.id, after.id);
      const { environment, executed, metrics, sources } = diff;
      showDiff(model, {
        before: positionLabel(model, [before]),
        after: positionLabel(model, [after]),
        changes: sources,
        isExecuted: executed,
        metrics,
        environment: environment && [...environment.values, ...environment.packages]
      });
    },
    { isEnabled: args => targets(args).length === 2 }
  );

  add(
    CommandIDs.insertRestore,
    trainingIcon,
    trans.__('Insert Restore Code'),
    restoreCaption(trans.__('Insert a cell that restores the checkpoint')),
    async (_model, args) => {
      const line = restoreCode(args);
      const notebook = registry.panel?.content;
      if (line === undefined || notebook === undefined) {
        return;
      }
      const sources = cellSources();
      NotebookActions.insertBelow(notebook);
      notebook.activeCell?.model.sharedModel.setSource(withImport(line, sources));
      await NotebookActions.focusActiveCell(notebook);
    },
    whenRestorable
  );

  add(
    CommandIDs.copyRestore,
    copyIcon,
    trans.__('Copy Restore Code'),
    restoreCaption(trans.__('Copy the code that restores the checkpoint')),
    (_model, args) => {
      const line = restoreCode(args);
      if (line !== undefined) {
        Clipboard.copyToSystem(line);
      }
    },
    whenRestorable
  );

  for (const [command, part, label] of [
    [CommandIDs.downloadModel, 'model', trans.__('Download the Model’s State')],
    [CommandIDs.downloadOptimizer, 'optimizer', trans.__('Download the Optimizer’s State')]
  ] as const) {
    add(
      command,
      downloadIcon,
      label,
      trans.__('Download a state file of the checkpoint'),
      (model, args) => {
        const row = singleTarget(args);
        if (row !== undefined && model.record !== undefined) {
          download(model.client.stateUrl(model.record.id, row.id, part));
        }
      },
      {
        isEnabled: args => {
          const detail = singleTarget(args)?.detail;
          return detail !== undefined && hasState(detail, part);
        }
      }
    );
  }

  add(
    CommandIDs.togglePin,
    pinIcon,
    args =>
      areAllPinned(targets(args))
        ? trans._n('Unpin Checkpoint', 'Unpin %1 Checkpoints', targetCount(args))
        : trans._n('Pin Checkpoint', 'Pin %1 Checkpoints', targetCount(args)),
    trans.__('Protect checkpoints from pruning'),
    async (model, args) => {
      const rows = targets(args);
      const pinned = !areAllPinned(rows);
      if (
        rows.length <= PIN_WITHOUT_CONFIRMATION ||
        (await confirmPin(rows.length, pinned, trans))
      ) {
        await model.checkpoints.update(rows, { pinned });
      }
    },
    forTargets
  );

  add(
    CommandIDs.editTags,
    editIcon,
    args => trans._n('Tag Checkpoint…', 'Tag %1 Checkpoints…', targetCount(args)),
    trans.__('Edit the tags of checkpoints'),
    async (model, args) => {
      const rows = targets(args);
      const tags = [...new Set(rows.flatMap(row => row.detail?.tags ?? []))];
      const answer = await InputDialog.getText({
        title: trans._n(
          'Tags of the checkpoint of %2',
          'Tags of %1 checkpoints',
          rows.length,
          positionLabel(model, rows)
        ),
        label: trans.__('Separated by commas:'),
        text: tags.join(', ')
      });
      if (answer.button.accept && answer.value !== null) {
        const tags = answer.value.split(',').map(tag => tag.trim());
        const distinct = [...new Set(tags.filter(tag => tag !== ''))];
        await model.checkpoints.update(rows, { tags: distinct });
      }
    },
    forTargets
  );

  add(
    CommandIDs.deleteCheckpoints,
    deleteIcon,
    args => trans._n('Delete Checkpoint…', 'Delete %1 Checkpoints…', targetCount(args)),
    trans.__('Delete checkpoints and their state files'),
    async (model, args) => {
      const rows = targets(args);
      const pinned = rows.filter(row => row.detail?.pinned === true).length;
      const question = trans._n(
        'The checkpoint and its state files are permanently deleted.',
        '%1 checkpoints and their state files are permanently deleted.',
        rows.length
      );
      const warning =
        pinned === 0 ? '' : trans._n('One of them is pinned.', '%1 of them are pinned.', pinned);
      const answer = await showDialog({
        title: trans._n(
          'Delete the checkpoint of %2?',
          'Delete %1 checkpoints?',
          rows.length,
          positionLabel(model, rows)
        ),
        body: `${question} ${warning}`.trimEnd(),
        buttons: [
          Dialog.cancelButton({ label: trans.__('Cancel') }),
          Dialog.warnButton({ label: trans.__('Delete') })
        ],
        defaultButton: 0
      });
      if (answer.button.accept) {
        await model.checkpoints.delete(rows);
      }
    },
    forTargets
  );

  add(
    CommandIDs.checkpointMenu,
    trainingIcon,
    trans.__('Checkpoint Menu'),
    trans.__('Open the menu of a checkpoint'),
    (_model, args) => {
      const menu = new Menu({ commands });
      for (const command of MENU_COMMANDS) {
        menu.addItem(
          command === '' ? { type: 'separator' } : { command, args: { ids: targetIds(args) } }
        );
      }
      const focused = document.activeElement;
      menu.aboutToClose.connect(() => {
        requestAnimationFrame(() => {
          menu.dispose();
          if (document.activeElement === document.body && focused instanceof HTMLElement) {
            focused.focus();
          }
        });
      });
      menu.open(Number(args['x']), Number(args['y']));
    },
    internal
  );
}

function isPanelVisible(shell: JupyterFrontEnd.IShell): boolean {
  return [...shell.widgets('right')].some(({ id, isVisible }) => id === PANEL_ID && isVisible);
}

async function confirmPin(
  rows: number,
  pinned: boolean,
  trans: TranslationBundle
): Promise<boolean> {
  const title = pinned
    ? trans.__('Pin %1 checkpoints?', rows)
    : trans.__('Unpin %1 checkpoints?', rows);
  const { button } = await showDialog({ title });
  return button.accept;
}

function errorMessage(error: unknown, trans: TranslationBundle): string {
  if (error instanceof AggregateError) {
    const { length } = error.errors;
    return trans._n(
      '%1 checkpoint could not be changed: %2',
      '%1 checkpoints could not be changed: %2',
      length,
      errorMessage(error.errors[0], trans)
    );
  }
  return error instanceof Error ? error.message : String(error);
}

function areAllPinned(rows: readonly ICheckpointRow[]): boolean {
  return rows.length > 0 && rows.every(row => row.detail?.pinned === true);
}

function download(url: string): void {
  const link = document.createElement('a');
  link.href = url;
  link.download = '';
  document.body.append(link);
  link.click();
  link.remove();
}
