/** The commands for checkpoints, which act on the selected ones or on those that the argument `ids` names. */

import { Clipboard, Dialog, showDialog } from '@jupyterlab/apputils';
import { NotebookActions } from '@jupyterlab/notebook';
import {
  copyIcon,
  deleteIcon,
  downloadIcon,
  editIcon,
  notebookIcon
} from '@jupyterlab/ui-components';
import { Widget } from '@lumino/widgets';

import { compareIcon, pinIcon, trainingIcon } from '../icons.ts';
import { CommandIDs } from '../ids.ts';
import { checkpointsLabel, runLabel } from '../labels.ts';
import type { RecordModel } from '../model.ts';
import { direction } from '../pure/direction.ts';
import { formatBytes } from '../pure/metrics.ts';
import { hasState, restoreLine, withImport } from '../pure/python.ts';
import type { ICheckpointRow } from '../pure/rows.ts';
import { changeTags } from '../pure/tags.ts';
import { createDiffView } from '../widgets/diff.tsx';
import { openMenu } from '../widgets/menu.ts';
import { askTags } from '../widgets/tags.tsx';
import type { Args, CommandContext } from './context.ts';
import { codeOf, rowsLabel, showVersion } from './versions.ts';

/** Largest number of checkpoints that are pinned without confirmation. */
const PIN_WITHOUT_CONFIRMATION = 50;
/** Largest number of runs that a dialog names. */
const NAMED_RUNS = 8;

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

export function addCheckpointCommands(context: CommandContext): void {
  const { app, registry, trans } = context;
  const { commands } = app;

  const targetIds = (model: RecordModel, { ids }: Args): string[] =>
    Array.isArray(ids) ? ids.map(String) : [...model.checkpoints.selected];
  const targets = (model: RecordModel, args: Args): ICheckpointRow[] =>
    targetIds(model, args).flatMap(id => model.checkpoints.row(id) ?? []);
  const currentTargets = (args: Args): ICheckpointRow[] =>
    registry.current === undefined ? [] : targets(registry.current, args);
  const targetCount = (args: Args): number => Math.max(1, currentTargets(args).length);

  const whyNone = (model: RecordModel, args: Args): string | undefined =>
    targets(model, args).length === 0 ? trans.__('no checkpoint is selected') : undefined;
  const whyNotOne = (model: RecordModel, args: Args): string | undefined =>
    targets(model, args).length > 1
      ? trans.__('only one checkpoint at a time')
      : whyNone(model, args);

  const cellSources = (): string[] =>
    registry.panel?.content.widgets.map(({ model }) => model.sharedModel.getSource()) ?? [];
  const restoreCode = (model: RecordModel, args: Args): string | undefined => {
    const [row] = targets(model, args);
    return row?.detail === undefined ? undefined : restoreLine(row.detail, cellSources());
  };
  const whyNoState =
    (part: 'model' | 'optimizer') =>
    (model: RecordModel, args: Args): string | undefined => {
      const reason = whyNotOne(model, args);
      const detail = targets(model, args)[0]?.detail;
      if (reason !== undefined || (detail !== undefined && hasState(detail, part))) {
        return reason;
      }
      return detail?.pruned_at === undefined
        ? trans.__('it was not saved')
        : trans.__('it was pruned');
    };

  context.addForNotebook(CommandIDs.openNotebook, {
    icon: notebookIcon,
    label: trans.__('Open the Notebook Version'),
    caption: trans.__('Open the notebook as it was when the checkpoint was created, read-only'),
    execute: async (model, args) => {
      const rows = targets(model, args);
      const version = rows[0]?.detail?.version_id;
      if (model.record !== undefined && version !== undefined) {
        const source = codeOf(context, rowsLabel(context, model, rows));
        await showVersion(context, model.record.id, version, source);
      }
    },
    whyNot: (model, args) =>
      whyNotOne(model, args) ??
      (targets(model, args)[0]?.detail?.version_id === undefined
        ? trans.__('it was not saved')
        : undefined)
  });

  context.addForNotebook(CommandIDs.compareCheckpoints, {
    icon: compareIcon,
    label: trans.__('Compare Two Checkpoints'),
    caption: trans.__('Show the differences in code, metrics and environment of two checkpoints'),
    execute: async (model, args) => {
      const [before, after] = targets(model, args).sort((a, b) =>
        a.createdAt < b.createdAt ? -1 : 1
      );
      if (model.record === undefined || before === undefined || after === undefined) {
        return;
      }
      const diff = await model.client.checkpointDiff(model.record.id, before.id, after.id);
      const { environment, executed, metrics, sources } = diff;
      const labels = {
        before: rowsLabel(context, model, [before]),
        after: rowsLabel(context, model, [after])
      };
      const view = createDiffView(
        {
          ...labels,
          changes: sources,
          isExecuted: executed,
          metrics,
          environment: environment && [...environment.values, ...environment.packages],
          directionOf: metric => {
            const { ranking } = model.checkpoints;
            return ranking?.metric === metric
              ? ranking.minimize
                ? 'min'
                : 'max'
              : direction(metric);
          }
        },
        trans,
        context.highlight
      );
      const title = trans.__('%1 → %2', labels.before, labels.after);
      const caption = trans.__('%1: %2', model.record.name, title);
      context.show(view, `diff-${before.id}-${after.id}`, title, caption);
    },
    whyNot: (model, args) =>
      targets(model, args).length === 2 ? undefined : trans.__('select two checkpoints')
  });

  context.addForNotebook(CommandIDs.insertRestore, {
    icon: trainingIcon,
    label: trans.__('Insert Restore Code'),
    caption: trans.__('Insert a cell that restores the checkpoint'),
    execute: async (model, args) => {
      const line = restoreCode(model, args);
      const panel = registry.panel;
      if (line === undefined || panel === null) {
        return;
      }
      const sources = cellSources();
      NotebookActions.insertBelow(panel.content);
      panel.content.activeCell?.model.sharedModel.setSource(withImport(line, sources));
      app.shell.activateById(panel.id);
      await NotebookActions.focusActiveCell(panel.content);
    },
    whyNot: whyNoState('model')
  });

  context.addForNotebook(CommandIDs.copyRestore, {
    icon: copyIcon,
    label: trans.__('Copy Restore Code'),
    caption: trans.__('Copy the code that restores the checkpoint'),
    execute: (model, args) => {
      const line = restoreCode(model, args);
      if (line !== undefined) {
        Clipboard.copyToSystem(line);
      }
    },
    whyNot: whyNoState('model')
  });

  for (const [command, part, label] of [
    [CommandIDs.downloadModel, 'model', trans.__('Download the Model’s State')],
    [CommandIDs.downloadOptimizer, 'optimizer', trans.__('Download the Optimizer’s State')]
  ] as const) {
    context.addForNotebook(command, {
      icon: downloadIcon,
      label,
      caption: trans.__('Download a state file of the checkpoint'),
      execute: (model, args) => {
        const [row] = targets(model, args);
        if (row !== undefined && model.record !== undefined) {
          download(model.client.stateUrl(model.record.id, row.id, part));
        }
      },
      whyNot: whyNoState(part)
    });
  }

  context.addForNotebook(CommandIDs.togglePin, {
    icon: pinIcon,
    label: args =>
      areAllPinned(currentTargets(args))
        ? trans._n('Unpin Checkpoint', 'Unpin %1 Checkpoints', targetCount(args))
        : trans._n('Pin Checkpoint', 'Pin %1 Checkpoints', targetCount(args)),
    caption: trans.__('Protect checkpoints from pruning'),
    execute: async (model, args) => {
      const rows = targets(model, args);
      const pinned = !areAllPinned(rows);
      if (rows.length <= PIN_WITHOUT_CONFIRMATION || (await confirmPin(context, rows, pinned))) {
        await model.checkpoints.update(rows, () => ({ pinned }));
      }
    },
    whyNot: whyNone
  });

  context.addForNotebook(CommandIDs.editTags, {
    icon: editIcon,
    label: args => trans._n('Tag Checkpoint…', 'Tag %1 Checkpoints…', targetCount(args)),
    caption: trans.__('Add tags to checkpoints and remove tags from them'),
    execute: async (model, args) => {
      const rows = targets(model, args);
      const title = trans._n(
        'Tags of %2',
        'Tags of %1 checkpoints',
        rows.length,
        rowsLabel(context, model, rows)
      );
      const tagsOf = (row: ICheckpointRow): readonly string[] => row.detail?.tags ?? [];
      const change = await askTags(title, rows.map(tagsOf), trans);
      if (change !== undefined) {
        await model.checkpoints.update(rows, row => {
          const tags = changeTags(tagsOf(row), change);
          return tags === undefined ? undefined : { tags };
        });
      }
    },
    whyNot: whyNone
  });

  context.addForNotebook(CommandIDs.deleteCheckpoints, {
    icon: deleteIcon,
    label: args => trans._n('Delete Checkpoint…', 'Delete %1 Checkpoints…', targetCount(args)),
    caption: trans.__('Delete checkpoints and their state files'),
    execute: async (model, args) => {
      const rows = await confirmDeletion(context, model, targets(model, args));
      if (rows.length > 0) {
        await model.checkpoints.delete(rows);
      }
    },
    whyNot: whyNone
  });

  context.addForNotebook(CommandIDs.checkpointMenu, {
    icon: trainingIcon,
    label: trans.__('Checkpoint Menu'),
    caption: trans.__('Open the menu of a checkpoint'),
    execute: (model, args) => {
      const ids = targetIds(model, args);
      const items = MENU_COMMANDS.map(command => ({ command, args: { ids } }));
      openMenu(commands, items, Number(args['x']), Number(args['y']));
    },
    isInternal: true
  });
}

async function confirmPin(
  { trans }: CommandContext,
  { length }: readonly ICheckpointRow[],
  pinned: boolean
): Promise<boolean> {
  const title = pinned
    ? trans.__('Pin %1 checkpoints?', length)
    : trans.__('Unpin %1 checkpoints?', length);
  const { button } = await showDialog({ title });
  return button.accept;
}

/** Ask whether to delete checkpoints; returns those to delete. Pinned ones need a confirmation of their own. */
async function confirmDeletion(
  context: CommandContext,
  model: RecordModel,
  rows: readonly ICheckpointRow[]
): Promise<readonly ICheckpointRow[]> {
  const { trans } = context;
  const pinned = rows.filter(({ detail }) => detail?.pinned === true);
  const body = new Widget();
  body.addClass('axon-Lines');
  body.node.textContent = describeDeletion(context, model, rows).join('\n');
  const { button, isChecked } = await showDialog({
    title: trans._n('Delete the checkpoint?', 'Delete %1 checkpoints?', rows.length),
    body,
    checkbox:
      pinned.length === 0
        ? null
        : {
            label: trans._n(
              'Also delete the pinned checkpoint',
              'Also delete the %1 pinned checkpoints',
              pinned.length
            ),
            caption: trans.__('Pinned checkpoints are otherwise kept'),
            checked: false
          },
    buttons: [
      Dialog.cancelButton({ label: trans.__('Cancel') }),
      Dialog.warnButton({ label: trans.__('Delete') })
    ],
    defaultButton: 0
  });
  if (!button.accept) {
    return [];
  }
  if (isChecked !== true && pinned.length === rows.length) {
    context.showInfo(
      trans.__('Nothing was deleted: pinned checkpoints are deleted only if the box is ticked.')
    );
  }
  return isChecked === true ? rows : rows.filter(row => !pinned.includes(row));
}

/** Return lines that say what is deleted. */
function describeDeletion(
  { trans }: CommandContext,
  model: RecordModel,
  rows: readonly ICheckpointRow[]
): string[] {
  const { best, hiddenSelectedCount: hidden, ranking, runOrder, runs } = model.checkpoints;
  const byRun = runOrder
    .map(id => ({ id, rows: rows.filter(({ runId }) => runId === id) }))
    .filter(({ rows }) => rows.length > 0);
  const size = rows.reduce(
    (sum, { detail }) => sum + Object.values(detail?.sizes ?? {}).reduce((a, b) => a + b, 0),
    0
  );
  const isBest = rows.some(({ id }) => id === best);
  return [
    ...byRun
      .slice(0, NAMED_RUNS)
      .map(({ id, rows }) => `• ${checkpointsLabel(trans, runLabel(trans, runs, id), rows)}`),
    byRun.length > NAMED_RUNS ? `• ${trans.__('%1 more runs', byRun.length - NAMED_RUNS)}` : '',
    hidden > 0
      ? trans._n(
          '%1 selected checkpoint that the filter hides is kept.',
          '%1 selected checkpoints that the filter hides are kept.',
          hidden
        )
      : '',
    isBest ? trans.__('The best by %1 is among them.', ranking?.metric ?? '') : '',
    size === 0
      ? trans.__('This cannot be undone.')
      : trans.__('State files of %1 are deleted too. This cannot be undone.', formatBytes(size))
  ].filter(Boolean);
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
