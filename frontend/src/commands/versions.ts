/** The commands for versions of notebooks. */

import { PathExt } from '@jupyterlab/coreutils';
import type { Contents } from '@jupyterlab/services';
import { ServerConnection } from '@jupyterlab/services';
import { historyIcon, notebookIcon, saveIcon } from '@jupyterlab/ui-components';

import { compareIcon } from '../icons.ts';
import { CommandIDs } from '../ids.ts';
import { checkpointsLabel, formatTime, runLabel } from '../labels.ts';
import type { RecordModel } from '../model.ts';
import { copyName } from '../pure/nbformat.ts';
import type { ICheckpointRow } from '../pure/rows.ts';
import { toRow } from '../pure/rows.ts';
import type { IVersionSummary } from '../records.ts';
import { createDiffView } from '../widgets/diff.tsx';
import { VersionView } from '../widgets/version.tsx';
import type { CommandContext } from './context.ts';

/** Number of versions in one request. */
const PAGE_SIZE = 100;

export function addVersionCommands(context: CommandContext): void {
  const { client, trans, registry } = context;

  context.addForNotebook(CommandIDs.openVersion, {
    icon: historyIcon,
    label: trans.__('Open Version'),
    caption: trans.__('Open a version of the notebook, read-only'),
    execute: async (model, { version }) => {
      if (model.record !== undefined && typeof version === 'string') {
        const rows = model.rows.filter(({ detail }) => detail?.version_id === version);
        await showVersion(
          context,
          model.record.id,
          version,
          rows.length === 0 ? '' : codeOf(context, rowsLabel(context, model, rows))
        );
      }
    },
    isInternal: true
  });

  context.addForNotebook(CommandIDs.moreVersions, {
    icon: historyIcon,
    label: trans.__('Show Older Versions'),
    caption: trans.__('Load older versions of the notebook'),
    execute: model => model.loadMoreVersions(),
    isInternal: true
  });

  context.add(CommandIDs.openRunVersion, {
    icon: notebookIcon,
    label: trans.__('Open the Notebook of a Run'),
    caption: trans.__('Open the notebook of a run at the version that ran, read-only'),
    execute: async ({ notebook, run }) => {
      if (typeof notebook === 'string' && typeof run === 'string') {
        await showVersionOfRun(context, notebook, run);
      }
    },
    isInternal: true
  });

  context.add(CommandIDs.restoreVersion, {
    icon: saveIcon,
    label: trans.__('Restore This Version as a Copy'),
    caption: trans.__('Save the version as a new notebook beside the present one and open it'),
    execute: async ({ notebook, version, time }) => {
      if (typeof notebook === 'string' && typeof version === 'string' && typeof time === 'string') {
        await restoreVersion(context, notebook, version, new Date(time));
      }
    },
    isInternal: true
  });

  context.add(CommandIDs.compareVersions, {
    icon: compareIcon,
    label: trans.__('Compare Versions'),
    caption: trans.__('Show the changes between two versions of the notebook'),
    execute: async args => {
      const { notebook: id = registry.current?.record?.id, from, to } = args;
      if (typeof id !== 'string' || typeof from !== 'string' || typeof to !== 'string') {
        return;
      }
      const { notebook } = await client.notebook(id);
      const label = async (version: string): Promise<string> =>
        version === notebook.version_id
          ? trans.__('now')
          : formatTime((await findVersion(context, id, version)).created_at);
      const [before, after] = [await label(from), await label(to)];
      const changes = await client.diff(id, from, to);
      const title = trans.__('%1 → %2', before, after);
      const caption = trans.__('%1: %2', notebook.name, title);
      const view = createDiffView({ before, after, changes }, trans, context.highlight);
      context.show(view, `diff-${from}-${to}`, title, caption);
    },
    isInternal: true
  });
}

/** Show a version; `source` is a sentence on what was created from it. */
export async function showVersion(
  context: CommandContext,
  notebookId: string,
  versionId: string,
  source: string
): Promise<void> {
  const { app, client, trans, versionView } = context;
  const [version, { notebook }] = await Promise.all([
    client.version(notebookId, versionId),
    client.notebook(notebookId)
  ]);
  const current = notebook.version_id ?? versionId;
  const changes = current === versionId ? [] : await client.diff(notebookId, versionId, current);
  const { commands } = app;
  const content = { notebook, version, source, changes, commands };
  const title = trans.__('%1 of %2', notebook.name, formatTime(version.created_at));
  context.show(new VersionView(content, versionView), `version-${versionId}`, title);
}

/** Return the runs and epochs of checkpoints: `wide, epochs 3–5`. */
export function rowsLabel(
  { trans }: CommandContext,
  model: RecordModel,
  rows: readonly ICheckpointRow[]
): string {
  const { runs, runOrder } = model.checkpoints;
  return runOrder
    .map(id => ({ id, rows: rows.filter(({ runId }) => runId === id) }))
    .filter(({ rows }) => rows.length > 0)
    .map(({ id, rows }) => checkpointsLabel(trans, runLabel(trans, runs, id), rows))
    .join('; ');
}

/** Return the sentence on the checkpoints that were created from a version. */
export function codeOf({ trans }: CommandContext, checkpoints: string): string {
  return trans.__('Code of %1.', checkpoints);
}

/** Show the version of the last checkpoint of a run, else the one that was saved when it started. */
async function showVersionOfRun(
  context: CommandContext,
  notebookId: string,
  runId: string
): Promise<void> {
  const { client, trans } = context;
  const [run, checkpoints] = await Promise.all([
    client.run(notebookId, runId),
    client.checkpoints(notebookId, { limit: PAGE_SIZE, run_id: runId })
  ]);
  const name = runLabel(trans, new Map([[run.id, run]]), run.id);
  const version = checkpoints.items[0]?.version_id;
  if (version !== undefined) {
    const rows = checkpoints.items.filter(({ version_id }) => version_id === version).map(toRow);
    const source = codeOf(context, checkpointsLabel(trans, name, rows));
    await showVersion(context, notebookId, version, source);
    return;
  }
  const saved = await findVersionAt(context, notebookId, run.started_at);
  if (saved === undefined) {
    throw new Error(trans.__('No version of the notebook of %1 is stored.', name));
  }
  const source = trans.__(
    'Saved before %1 started. It has no checkpoint, so the code that it executed may differ.',
    name
  );
  await showVersion(context, notebookId, saved.id, source);
}

/** Return the version that was the newest at a time, else the first one after it. */
async function findVersionAt(
  { client }: CommandContext,
  notebookId: string,
  time: string
): Promise<IVersionSummary | undefined> {
  let oldest: IVersionSummary | undefined;
  let total = 1;
  for (let offset = 0; offset < total; offset += PAGE_SIZE) {
    const page = await client.versions(notebookId, { limit: PAGE_SIZE, offset });
    const found = page.items.find(({ created_at }) => created_at <= time);
    if (found !== undefined) {
      return found;
    }
    oldest = page.items.at(-1) ?? oldest;
    total = page.total;
  }
  return oldest;
}

/** Return a version without its cells if it is listed for the current notebook. */
async function findVersion(
  { client, registry }: CommandContext,
  notebookId: string,
  versionId: string
): Promise<IVersionSummary> {
  const listed = registry.current?.versions.find(({ id }) => id === versionId);
  return listed ?? (await client.version(notebookId, versionId));
}

/** Save a version as a new notebook beside the present one, and open it. */
async function restoreVersion(
  context: CommandContext,
  notebookId: string,
  versionId: string,
  time: Date
): Promise<void> {
  const { app, client, trans } = context;
  const { contents } = app.serviceManager;
  const [content, { notebook }] = await Promise.all([
    client.exportVersion(notebookId, versionId),
    client.notebook(notebookId)
  ]);
  const path = await findUnusedPath(contents, notebook.path ?? `${notebook.name}.ipynb`, time);
  await contents.save(path, { type: 'notebook', format: 'json', content });
  context.showInfo(trans.__('The version was saved as %1.', path));
  await app.commands.execute('docmanager:open', { path });
}

async function findUnusedPath(
  contents: Contents.IManager,
  original: string,
  time: Date
): Promise<string> {
  const folder = PathExt.dirname(original);
  for (let count = 1; ; count++) {
    const path = PathExt.join(folder, copyName(PathExt.basename(original), time, count));
    try {
      await contents.get(path, { content: false });
    } catch (error) {
      if (error instanceof ServerConnection.ResponseError && error.response.status === 404) {
        return path;
      }
      throw error;
    }
  }
}
