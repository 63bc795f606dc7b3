/** What people can do, by button, menu, palette or key. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Clipboard, Dialog, InputDialog, Notification, showDialog } from '@jupyterlab/apputils';
import { NotebookActions } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';
import { copyIcon, downloadIcon, notebookIcon } from '@jupyterlab/ui-components';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import type { Widget } from '@lumino/widgets';
import { Menu } from '@lumino/widgets';

import type { Front } from './front.ts';
import { compareIcon, pinIcon, trainingIcon } from './icons.ts';
import { CommandIDs, PANEL } from './ids.ts';
import type { RecordModel } from './model.ts';
import { hasState, restoreLine, withImport } from './pure/python.ts';
import type { IRow } from './pure/rows.ts';
import { showView } from './views.ts';
import type { IDiff } from './widgets/diff.tsx';
import { DiffView } from './widgets/diff.tsx';
import type { IVersionViewOptions } from './widgets/version.ts';
import { VersionView } from './widgets/version.ts';
import { runWord, timeInFull } from './widgets/words.ts';

export interface ICommandsOptions {
  app: JupyterFrontEnd;
  front: Front;
  trans: TranslationBundle;
  versionView: IVersionViewOptions;
}

type Args = ReadonlyPartialJSONObject;

/** Add the commands to the application's. */
export function addCommands({ app, front, trans, versionView }: ICommandsOptions): void {
  const { commands, shell } = app;

  /** Do it for the notebook in front; what goes wrong is told, and stops nothing else. */
  const withModel =
    (work: (model: RecordModel, args: Args) => Promise<void> | void) =>
    async (args: Args): Promise<void> => {
      const { model } = front;
      if (model === undefined) {
        return;
      }
      try {
        await work(model, args);
      } catch (error) {
        Notification.error(told(error, trans), { autoClose: 8000 });
      }
    };
  const hasRecord = (): boolean => front.model?.summary !== undefined;
  const chosen = (args: Args): string[] => {
    const ids = args['ids'];
    return Array.isArray(ids) ? ids.map(String) : [...(front.model?.checkpoints.selected ?? [])];
  };
  const chosenRows = (args: Args): IRow[] =>
    chosen(args).flatMap(id => front.model?.checkpoints.row(id) ?? []);
  const hasChosen = (args: Args): boolean => chosenRows(args).length > 0;
  const chosenCount = (args: Args): number => Math.max(1, chosenRows(args).length);
  const chosenOne = (args: Args): IRow | undefined =>
    chosen(args).length === 1 ? chosenRows(args)[0] : undefined;

  const sourcesInFront = (): string[] =>
    front.panel?.content.widgets.map(({ model }) => model.sharedModel.getSource()) ?? [];
  const restoring = (args: Args): string | undefined => {
    const detail = chosenOne(args)?.detail;
    return detail === undefined ? undefined : restoreLine(detail, sourcesInFront());
  };
  const aboutRestoring = (args: Args): string =>
    chosenRows(args).length > 1
      ? trans.__('One checkpoint at a time')
      : chosenOne(args)?.detail?.pruned_at !== undefined
        ? trans.__('Its state was pruned')
        : restoring(args) === undefined
          ? trans.__('No state of a model is stored with it')
          : '';

  const show = (content: Widget, title: string, caption?: string): void => {
    showView(shell, content, trans, title, caption);
  };

  const showDiff = (model: RecordModel, diff: IDiff): void => {
    const title = trans.__('%1 → %2', diff.before, diff.after);
    const caption = trans.__('%1: %2', model.summary?.name ?? '', title);
    show(new DiffView(diff, trans), title, caption);
  };

  commands.addCommand(CommandIDs.toggle, {
    label: trans.__('Training Panel'),
    caption: trans.__('Show or hide the training record of the notebook in front'),
    icon: args => (args['toolbar'] === true ? trainingIcon : undefined),
    isToggleable: true,
    isToggled: () => isShown(shell),
    execute: () => {
      if (isShown(shell)) {
        (shell as IWithSides).collapseRight?.();
      } else {
        shell.activateById(PANEL);
      }
    }
  });

  commands.addCommand(CommandIDs.refresh, {
    label: trans.__('Refresh the Training Panel'),
    isEnabled: () => front.model !== undefined,
    execute: withModel(model => {
      model.checkpoints.distrust();
      model.refresh(true);
    })
  });

  commands.addCommand(CommandIDs.record, {
    label: trans.__('Save Notebook and Start Recording'),
    isEnabled: () => front.model !== undefined && !hasRecord(),
    execute: withModel(async model => {
      await front.panel?.context.save();
      await model.record();
    })
  });

  commands.addCommand(CommandIDs.goToCell, {
    label: trans.__('Go to Cell'),
    isVisible: () => false,
    execute: withModel(async (_model, args) => {
      const { panel } = front;
      const index =
        panel?.content.widgets.findIndex(({ model }) => model.id === args['cell']) ?? -1;
      if (panel === null || index < 0) {
        throw new Error(trans.__('That cell is not in the notebook any more.'));
      }
      shell.activateById(panel.id);
      panel.content.activeCellIndex = index;
      panel.content.deselectAll();
      await panel.content.scrollToItem(index, 'center');
      panel.content.activate();
    })
  });

  const openVersion = async (model: RecordModel, version: unknown): Promise<void> => {
    const id = model.summary?.id;
    if (id === undefined || typeof version !== 'string') {
      return;
    }
    const found = await model.client.version(id, version);
    const title = trans.__('%1 of %2', model.summary?.name ?? '', timeInFull(found.created_at));
    show(new VersionView(found, versionView), title);
  };

  commands.addCommand(CommandIDs.openVersion, {
    label: trans.__('Open Version'),
    isVisible: () => false,
    execute: withModel((model, args) => openVersion(model, args['version']))
  });

  commands.addCommand(CommandIDs.moreVersions, {
    label: trans.__('Show Older Versions'),
    isVisible: () => false,
    execute: withModel(model => model.moreVersions())
  });

  commands.addCommand(CommandIDs.openNotebook, {
    label: trans.__('Open the Notebook Version'),
    caption: trans.__('The notebook as it was when the checkpoint was made, to be read'),
    icon: notebookIcon,
    isEnabled: args => chosenOne(args)?.detail?.version_id !== undefined,
    execute: withModel((model, args) => openVersion(model, chosenOne(args)?.detail?.version_id))
  });

  commands.addCommand(CommandIDs.compareVersions, {
    label: trans.__('Compare Versions'),
    isVisible: () => false,
    execute: withModel(async (model, args) => {
      const id = model.summary?.id;
      const { from, to } = args;
      if (id === undefined || typeof from !== 'string' || typeof to !== 'string') {
        return;
      }
      const name = async (version: string): Promise<string> => {
        if (version === model.summary?.version_id) {
          return trans.__('now');
        }
        const listed = model.versions.find(other => other.id === version);
        return timeInFull((listed ?? (await model.client.version(id, version))).created_at);
      };
      const changes = await model.client.diff(id, from, to);
      showDiff(model, { before: await name(from), after: await name(to), changes });
    })
  });

  commands.addCommand(CommandIDs.compareCheckpoints, {
    label: trans.__('Compare Two Checkpoints'),
    icon: compareIcon,
    isEnabled: args => chosenRows(args).length === 2,
    execute: withModel(async (model, args) => {
      const [before, after] = chosenRows(args).sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1));
      if (before !== undefined && after !== undefined) {
        showDiff(model, await checkpointDiff(model, before, after, trans));
      }
    })
  });

  commands.addCommand(CommandIDs.insertRestore, {
    label: trans.__('Insert Restore Code'),
    caption: aboutRestoring,
    icon: trainingIcon,
    isEnabled: args => restoring(args) !== undefined && front.panel !== null,
    execute: withModel(async (_model, args) => {
      const line = restoring(args);
      const notebook = front.panel?.content;
      if (line === undefined || notebook === undefined) {
        return;
      }
      const sources = sourcesInFront();
      NotebookActions.insertBelow(notebook);
      notebook.activeCell?.model.sharedModel.setSource(withImport(line, sources));
      await NotebookActions.focusActiveCell(notebook);
    })
  });

  commands.addCommand(CommandIDs.copyRestore, {
    label: trans.__('Copy Restore Code'),
    caption: aboutRestoring,
    icon: copyIcon,
    isEnabled: args => restoring(args) !== undefined,
    execute: args => {
      const line = restoring(args);
      if (line !== undefined) {
        Clipboard.copyToSystem(line);
      }
    }
  });

  for (const [command, part, label] of [
    [CommandIDs.downloadModel, 'model', trans.__('Download the Model’s State')],
    [CommandIDs.downloadOptimizer, 'optimizer', trans.__('Download the Optimizer’s State')]
  ] as const) {
    commands.addCommand(command, {
      label,
      icon: downloadIcon,
      isEnabled: args => {
        const detail = chosenOne(args)?.detail;
        return detail !== undefined && hasState(detail, part);
      },
      execute: withModel((model, args) => {
        const row = chosenOne(args);
        if (row !== undefined && model.summary !== undefined) {
          download(model.client.stateUrl(model.summary.id, row.id, part));
        }
      })
    });
  }

  commands.addCommand(CommandIDs.togglePin, {
    label: args =>
      areAllPinned(chosenRows(args))
        ? trans._n('Unpin Checkpoint', 'Unpin %1 Checkpoints', chosenCount(args))
        : trans._n('Pin Checkpoint', 'Pin %1 Checkpoints', chosenCount(args)),
    caption: trans.__('A pinned checkpoint is never pruned'),
    icon: pinIcon,
    isEnabled: hasChosen,
    execute: withModel(async (model, args) => {
      const rows = chosenRows(args);
      const pinned = !areAllPinned(rows);
      if (rows.length <= FEW || (await isMeant(rows.length, pinned, trans))) {
        await model.checkpoints.update(
          rows.map(row => row.id),
          { pinned }
        );
      }
    })
  });

  commands.addCommand(CommandIDs.editTags, {
    label: args => trans._n('Tag Checkpoint…', 'Tag %1 Checkpoints…', chosenCount(args)),
    isEnabled: hasChosen,
    execute: withModel(async (model, args) => {
      const rows = chosenRows(args);
      const tags = [...new Set(rows.flatMap(row => row.detail?.tags ?? []))];
      const answer = await InputDialog.getText({
        title: trans._n(
          'Tags of the checkpoint of %2',
          'Tags of %1 checkpoints',
          rows.length,
          firstOf(model, rows, trans)
        ),
        label: trans.__('Separated by commas:'),
        text: tags.join(', ')
      });
      if (answer.button.accept && answer.value !== null) {
        const given = answer.value.split(',').map(tag => tag.trim());
        await model.checkpoints.update(
          rows.map(row => row.id),
          { tags: [...new Set(given.filter(tag => tag !== ''))] }
        );
      }
    })
  });

  commands.addCommand(CommandIDs.deleteCheckpoints, {
    label: args => trans._n('Delete Checkpoint…', 'Delete %1 Checkpoints…', chosenCount(args)),
    isEnabled: hasChosen,
    execute: withModel(async (model, args) => {
      const rows = chosenRows(args);
      const pinned = rows.filter(row => row.detail?.pinned === true).length;
      const question = trans._n(
        'The checkpoint and its state files are permanently deleted.',
        '%1 checkpoints and their state files are permanently deleted.',
        rows.length
      );
      const answer = await showDialog({
        title: trans._n(
          'Delete the checkpoint of %2?',
          'Delete %1 checkpoints?',
          rows.length,
          firstOf(model, rows, trans)
        ),
        body:
          pinned === 0
            ? question
            : `${question} ${trans._n('One of them is pinned.', '%1 of them are pinned.', pinned)}`,
        buttons: [
          Dialog.cancelButton({ label: trans.__('Cancel') }),
          Dialog.warnButton({ label: trans.__('Delete') })
        ],
        defaultButton: 0
      });
      if (answer.button.accept) {
        await model.checkpoints.remove(rows.map(row => row.id));
      }
    })
  });

  commands.addCommand(CommandIDs.checkpointMenu, {
    label: trans.__('Checkpoint Menu'),
    isVisible: () => false,
    execute: args => {
      const menu = new Menu({ commands });
      const chosenIds = { ids: chosen(args) };
      for (const command of [
        CommandIDs.insertRestore,
        CommandIDs.copyRestore,
        CommandIDs.openNotebook
      ]) {
        menu.addItem({ command, args: chosenIds });
      }
      menu.addItem({ type: 'separator' });
      for (const command of [CommandIDs.togglePin, CommandIDs.editTags]) {
        menu.addItem({ command, args: chosenIds });
      }
      menu.addItem({ command: CommandIDs.compareCheckpoints, args: chosenIds });
      menu.addItem({ type: 'separator' });
      for (const command of [CommandIDs.downloadModel, CommandIDs.downloadOptimizer]) {
        menu.addItem({ command, args: chosenIds });
      }
      menu.addItem({ type: 'separator' });
      menu.addItem({ command: CommandIDs.deleteCheckpoints, args: chosenIds });
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
    }
  });
}

interface IWithSides {
  collapseRight?: () => void;
}

function isShown(shell: JupyterFrontEnd.IShell): boolean {
  for (const widget of shell.widgets('right')) {
    if (widget.id === PANEL) {
      return widget.isVisible;
    }
  }
  return false;
}

/** Checkpoints that are pinned without a question. */
const FEW = 50;

async function isMeant(count: number, pinned: boolean, trans: TranslationBundle): Promise<boolean> {
  const answer = await showDialog({
    title: pinned
      ? trans.__('Pin %1 checkpoints?', count)
      : trans.__('Unpin %1 checkpoints?', count),
    buttons: [
      Dialog.cancelButton({ label: trans.__('Cancel') }),
      Dialog.okButton({ label: pinned ? trans.__('Pin') : trans.__('Unpin') })
    ]
  });
  return answer.button.accept;
}

function told(error: unknown, trans: TranslationBundle): string {
  if (error instanceof AggregateError) {
    const { length } = error.errors;
    return trans._n(
      '%1 checkpoint could not be changed: %2',
      '%1 checkpoints could not be changed: %2',
      length,
      told(error.errors[0], trans)
    );
  }
  return error instanceof Error ? error.message : String(error);
}

function areAllPinned(rows: readonly IRow[]): boolean {
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

/** What the first of some checkpoints is called. */
function firstOf(model: RecordModel, [row]: readonly IRow[], trans: TranslationBundle): string {
  const { order } = model.checkpoints;
  return row === undefined
    ? ''
    : trans.__('%1, epoch %2, step %3', runWord(trans, order, row.runId), row.epoch, row.step);
}

async function checkpointDiff(
  model: RecordModel,
  before: IRow,
  after: IRow,
  trans: TranslationBundle
): Promise<IDiff> {
  const name = (row: IRow): string => firstOf(model, [row], trans);
  const found = await model.client.checkpointDiff(model.summary?.id ?? '', before.id, after.id);
  const { environment } = found;
  return {
    before: name(before),
    after: name(after),
    changes: found.sources,
    isExecuted: found.executed,
    metrics: found.metrics,
    environment:
      environment === undefined ? undefined : [...environment.values, ...environment.packages]
  };
}
