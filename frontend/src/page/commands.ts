/** The commands of the Training Runs page; added when the page is opened for the first time. */

import { Clipboard, Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { LabIcon } from '@jupyterlab/ui-components';
import {
  copyIcon,
  deleteIcon,
  downloadIcon,
  editIcon,
  infoIcon,
  linkIcon,
  listIcon,
  notebookIcon,
  refreshIcon,
  undoIcon
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';

import { IS_PALETTE } from '../commands/context.ts';
import { pinIcon } from '../icons.ts';
import { CommandIDs, RunCommandIDs } from '../ids.ts';
import { changeTags } from '../pure/tags.ts';
import type { IRunRow } from '../records.ts';
import type { IMenuItem } from '../widgets/menu.ts';
import { openMenu } from '../widgets/menu.ts';
import { askTags } from '../widgets/tags.tsx';
import { askDelete, askNotes, deletedRuns } from './dialogs.tsx';
import type { RunsModel } from './model.ts';
import type { RunsSettings } from './settings.ts';

/** Milliseconds for which an error message is shown. */
const NOTIFICATION_TIME = 8000;

/** Commands of the palette. */
export const RUN_PALETTE_COMMANDS = [
  RunCommandIDs.refresh,
  RunCommandIDs.exportCsv,
  RunCommandIDs.editTags,
  RunCommandIDs.editNotes,
  RunCommandIDs.archive,
  RunCommandIDs.unarchive,
  RunCommandIDs.delete
];

/** Items of the menu of a run; an empty string is a separator. */
const MENU_COMMANDS = [
  RunCommandIDs.showDetails,
  RunCommandIDs.openNotebook,
  CommandIDs.openRunVersion,
  RunCommandIDs.toggleBaseline,
  RunCommandIDs.copyLink,
  RunCommandIDs.copyId,
  '',
  RunCommandIDs.editTags,
  RunCommandIDs.editNotes,
  RunCommandIDs.archive,
  RunCommandIDs.unarchive,
  '',
  RunCommandIDs.delete
];

export interface IRunCommandsOptions {
  commands: CommandRegistry;
  trans: TranslationBundle;
  settings: RunsSettings;
  /** Returns the model of the page; undefined if it is not open. */
  model: () => RunsModel | undefined;
  /** Returns the visible columns and the runs in the order of the table as CSV. */
  csv: () => string;
  runUrl: (id: string) => string;
}

type Args = ReadonlyPartialJSONObject;

export function addRunCommands(options: IRunCommandsOptions): void {
  const { commands, trans, settings, csv, runUrl } = options;

  /** Return the runs that a command is for. */
  const targets = (args: Args): readonly IRunRow[] => {
    const model = options.model();
    const { ids } = args;
    return Array.isArray(ids)
      ? ids.flatMap(id => model?.run(String(id)) ?? [])
      : (model?.visibleSelection ?? []);
  };
  /** Return the run that a command for one run is for: that of the row whose menu was opened, or the only one. */
  const single = (args: Args): IRunRow | undefined => {
    const { run } = args;
    if (typeof run === 'string') {
      return options.model()?.run(run);
    }
    const runs = targets(args);
    return runs.length === 1 ? runs[0] : undefined;
  };
  const count = (args: Args): number => Math.max(1, targets(args).length);

  const add = (
    id: string,
    icon: LabIcon,
    label: CommandRegistry.ICommandOptions['label'] & {},
    caption: string,
    execute: (model: RunsModel, args: Args) => Promise<void> | void,
    more: Partial<CommandRegistry.ICommandOptions> = {}
  ): void => {
    const {
      isEnabled = () => options.model() !== undefined,
      isVisible = () => true,
      ...others
    } = more;
    commands.addCommand(id, {
      ...others,
      isEnabled,
      // The palette offers what can be done now. A menu shows the rest too.
      isVisible: args => isVisible(args) && (args[IS_PALETTE] !== true || isEnabled(args)),
      label,
      caption,
      icon,
      execute: async args => {
        const model = options.model();
        try {
          if (model !== undefined) {
            await execute(model, args);
          }
        } catch (error) {
          Notification.error(errorMessage(error, trans), { autoClose: NOTIFICATION_TIME });
        }
      }
    });
  };
  const forSome = { isEnabled: (args: Args) => targets(args).length > 0 };
  const forOne = { isEnabled: (args: Args) => single(args) !== undefined };

  add(
    RunCommandIDs.refresh,
    refreshIcon,
    trans.__('Refresh the Training Runs'),
    trans.__('Load the training runs again'),
    model => model.runs.reload()
  );

  add(
    RunCommandIDs.exportCsv,
    downloadIcon,
    trans.__('Save the Training Runs as CSV'),
    trans.__(
      'Save the visible columns and the ids of the runs that the filter selects, except code and reproducible, as a CSV file'
    ),
    () => download(csv(), 'runs.csv')
  );

  add(
    RunCommandIDs.showDetails,
    infoIcon,
    trans.__('Show Details'),
    trans.__('Show the configuration, the metrics and the notes of a run'),
    (model, args) => model.showDetails(single(args)?.id),
    forOne
  );

  add(
    RunCommandIDs.openNotebook,
    notebookIcon,
    trans.__('Open the Notebook and its Panel'),
    trans.__('Open the notebook of a run, with its checkpoints in the training panel'),
    async (model, args) => {
      const path = model.notebook(single(args)?.notebook_id ?? '')?.path;
      if (path === undefined) {
        throw new Error(trans.__('The notebook of the run is not on this server.'));
      }
      await commands.execute('docmanager:open', { path });
      if (!commands.isToggled(CommandIDs.toggle)) {
        await commands.execute(CommandIDs.toggle);
      }
    },
    {
      isEnabled: args =>
        options.model()?.notebook(single(args)?.notebook_id ?? '')?.path !== undefined
    }
  );

  const isBaseline = (args: Args): boolean => single(args)?.id === settings.table.baseline;
  add(
    RunCommandIDs.toggleBaseline,
    pinIcon,
    args => (isBaseline(args) ? trans.__('Use No Baseline') : trans.__('Use as Baseline')),
    trans.__('Keep a run at the top of the table, and compare the others with it'),
    (_model, args) =>
      settings.update({ baseline: isBaseline(args) ? '' : (single(args)?.id ?? '') }),
    forOne
  );

  add(
    RunCommandIDs.copyLink,
    linkIcon,
    trans.__('Copy Link to Run'),
    trans.__('Copy a URL that shows the run in this page'),
    (_model, args) => Clipboard.copyToSystem(runUrl(single(args)?.id ?? '')),
    forOne
  );

  add(
    RunCommandIDs.copyId,
    copyIcon,
    trans.__('Copy Run ID'),
    trans.__('Copy the id of the run, for axon.runs, the command line and REST'),
    (_model, args) => Clipboard.copyToSystem(single(args)?.run_id ?? ''),
    forOne
  );

  add(
    RunCommandIDs.editTags,
    editIcon,
    args => trans._n('Tag Run…', 'Tag %1 Runs…', count(args)),
    trans.__('Add and remove tags of runs'),
    async (model, args) => {
      const runs = targets(args);
      const change = await askTags(
        trans._n('Tags of %2', 'Tags of %1 runs', runs.length, runs[0]?.name ?? ''),
        runs.map(run => run.tags),
        trans
      );
      if (change !== undefined) {
        await model.runs.update(runs, run => {
          const tags = changeTags(run.tags, change);
          return tags === undefined ? undefined : { tags };
        });
      }
    },
    forSome
  );

  add(
    RunCommandIDs.editNotes,
    editIcon,
    args => trans._n('Edit Notes of Run…', 'Edit Notes of %1 Runs…', count(args)),
    trans.__('Change the notes of runs'),
    async (model, args) => {
      const runs = targets(args);
      const notes = await askNotes(runs, trans);
      if (notes !== undefined) {
        await model.runs.update(runs, run => (notes === (run.notes ?? '') ? undefined : { notes }));
      }
    },
    forSome
  );

  for (const [id, icon, archived] of [
    [RunCommandIDs.archive, listIcon, true],
    [RunCommandIDs.unarchive, undoIcon, false]
  ] as const) {
    const isTarget = (run: IRunRow): boolean => (run.archived === true) !== archived;
    add(
      id,
      icon,
      args => {
        const runs = Math.max(1, targets(args).filter(isTarget).length);
        return archived
          ? trans._n('Archive Run', 'Archive %1 Runs', runs)
          : trans._n('Unarchive Run', 'Unarchive %1 Runs', runs);
      },
      archived
        ? trans.__('Hide runs unless a filter names archived; nothing is deleted')
        : trans.__('Show archived runs again'),
      (model, args) => model.runs.update(targets(args).filter(isTarget), () => ({ archived })),
      {
        isEnabled: args => targets(args).some(isTarget),
        isVisible: args => targets(args).some(isTarget)
      }
    );
  }

  add(
    RunCommandIDs.delete,
    deleteIcon,
    args => trans._n('Delete Run…', 'Delete %1 Runs…', count(args)),
    trans.__('Delete runs with their checkpoints'),
    async (model, args) => {
      const all = targets(args);
      const runs = all.filter(run => run.status !== 'running');
      if (runs.length === 0) {
        throw new Error(
          trans._n(
            '%2 is running; stop it first.',
            '%1 runs are running; stop them first.',
            all.length,
            all[0]?.name ?? ''
          )
        );
      }
      const name = (run: IRunRow): string => model.notebook(run.notebook_id)?.name ?? '';
      const answer = await askDelete(runs, all.length - runs.length, name, trans);
      if (answer !== undefined) {
        const { withPinned } = answer;
        const deleted = deletedRuns(runs, withPinned);
        await model.runs.delete(deleted, withPinned);
        if (deleted.length === 0) {
          Notification.info(trans.__('Nothing was deleted: pinned checkpoints stay.'), {
            autoClose: NOTIFICATION_TIME
          });
        }
      }
    },
    forSome
  );

  add(
    RunCommandIDs.menu,
    listIcon,
    trans.__('Menu of a Run'),
    trans.__('Open the menu of runs'),
    (_model, args) =>
      openMenu(
        commands,
        menuItems(targets(args), single(args)),
        Number(args['x']),
        Number(args['y'])
      ),
    { isVisible: () => false }
  );
}

/** Return the items of the menu of runs; `run` is the one whose menu it is. */
function menuItems(runs: readonly IRunRow[], run: IRunRow | undefined): IMenuItem[] {
  const ids = runs.map(({ id }) => id);
  const args = run === undefined ? { ids } : { ids, run: run.id };
  return MENU_COMMANDS.flatMap((command): IMenuItem[] =>
    command !== CommandIDs.openRunVersion
      ? [{ command, args }]
      : run !== undefined
        ? [{ command, args: { notebook: run.notebook_id, run: run.run_id } }]
        : []
  );
}

function errorMessage(error: unknown, trans: TranslationBundle): string {
  if (error instanceof AggregateError) {
    return trans._n(
      '%1 run could not be changed: %2',
      '%1 runs could not be changed: %2',
      error.errors.length,
      errorMessage(error.errors[0], trans)
    );
  }
  return error instanceof Error ? error.message : String(error);
}

function download(text: string, name: string): void {
  // The byte order mark tells spreadsheets that the text is UTF-8.
  const url = URL.createObjectURL(new Blob(['\uFEFF', text], { type: 'text/csv' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}
