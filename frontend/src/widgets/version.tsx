/** A read-only view of a version of a notebook. */

import type { IEditorMimeTypeService } from '@jupyterlab/codeeditor';
import type { NotebookPanel } from '@jupyterlab/notebook';
import { NotebookModel, StaticNotebook } from '@jupyterlab/notebook';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { ITranslator, TranslationBundle } from '@jupyterlab/translation';
import { Button, ReactWidget } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { Message } from '@lumino/messaging';
import type { PanelLayout } from '@lumino/widgets';
import { Panel, Widget } from '@lumino/widgets';
import * as React from 'react';

import { CommandIDs, TRANSLATION_DOMAIN } from '../ids.ts';
import { formatTime } from '../labels.ts';
import { limitOutputs, toNotebook } from '../pure/nbformat.ts';
import type { ICellChange, INotebook, IVersion } from '../records.ts';

export interface IVersionViewOptions {
  contentFactory: NotebookPanel.IContentFactory;
  mimeTypeService: IEditorMimeTypeService;
  rendermime: IRenderMimeRegistry;
  translator: ITranslator;
}

/** What the view shows. */
export interface IVersionContent {
  /** The present record. */
  notebook: INotebook;
  version: IVersion;
  /** A sentence on the checkpoints that were created from the version; may be empty. */
  source: string;
  /** The changes from the version to the present. */
  changes: readonly ICellChange[];
  commands: CommandRegistry;
}

/** The cells of a version below a banner; cells that differ from the present ones are marked. */
export class VersionView extends Panel {
  readonly #notebook: StaticNotebook;

  constructor(content: IVersionContent, options: IVersionViewOptions) {
    super();
    const trans = options.translator.load(TRANSLATION_DOMAIN);
    this.addClass('axon-Version');
    this.#notebook = createNotebook(content.version, options, trans);
    markChanges(this.#notebook, content.changes, trans);
    const banner = ReactWidget.create(<Banner content={content} trans={trans} />);
    this.addWidget(banner);
    this.addWidget(this.#notebook);
  }

  override dispose(): void {
    const { model } = this.#notebook;
    super.dispose();
    model?.dispose();
  }

  /** Focus the cells, so that keys scroll them. */
  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.#notebook.node.focus();
  }
}

function createNotebook(
  version: IVersion,
  options: IVersionViewOptions,
  trans: TranslationBundle
): StaticNotebook {
  const notebook = new StaticNotebook({
    ...options,
    rendermime: options.rendermime.clone(),
    notebookConfig: { ...StaticNotebook.defaultNotebookConfig, windowingMode: 'defer' }
  });
  const describe = (characters: number): string =>
    trans.__('[%1 more characters are not shown]', characters.toLocaleString());
  const cells = version.cells.map(cell => ({
    ...cell,
    outputs: limitOutputs(cell.outputs, describe)
  }));
  const model = new NotebookModel({ translator: options.translator });
  const content = toNotebook({ ...version, cells });
  model.fromJSON(content as unknown as Parameters<NotebookModel['fromJSON']>[0]);
  model.readOnly = true;
  notebook.model = model;
  for (const cell of notebook.widgets) {
    cell.readOnly = true;
    cell.syncEditable = false;
  }
  notebook.addClass('jp-Notebook');
  notebook.node.tabIndex = 0;
  notebook.node.setAttribute('role', 'region');
  notebook.node.setAttribute('aria-label', trans.__('Cells of the version, read-only'));
  return notebook;
}

/** Mark the cells that differ from the present ones, in words and by a colour. */
function markChanges(
  notebook: StaticNotebook,
  changes: readonly ICellChange[],
  trans: TranslationBundle
): void {
  const changesById = new Map(changes.map(({ cell_id, change }) => [cell_id, change]));
  const labels = {
    changed: trans.__('Changed since'),
    moved: trans.__('Moved since'),
    removed: trans.__('Removed since'),
    added: '' // not in this version
  };
  for (const cell of notebook.widgets) {
    const change = changesById.get(cell.model.id);
    if (change !== undefined) {
      const label = new Widget();
      label.addClass('axon-Version-change');
      label.node.textContent = labels[change];
      cell.node.dataset['change'] = change;
      (cell.layout as PanelLayout).insertWidget(0, label);
    }
  }
}

interface IBannerProps {
  content: IVersionContent;
  trans: TranslationBundle;
}

function Banner({ content, trans }: IBannerProps): React.ReactElement {
  const { notebook, version, source, changes, commands } = content;
  const time = formatTime(version.created_at);
  const to = notebook.version_id;
  return (
    <header className="axon-Version-banner">
      <div>
        <p>
          <strong>{trans.__('%1 as saved on %2', notebook.name, time)}</strong>{' '}
          {trans.__('(read-only)')}
        </p>
        {source !== '' && <p>{source}</p>}
        <p>
          {version.id === to
            ? trans.__('This is the present version.')
            : changes.length === 0
              ? trans.__('The cells have not changed since.')
              : trans.__('Since then: %1.', countChanges(changes, trans))}
        </p>
      </div>
      <div className="axon-Version-actions">
        {changes.length > 0 && to !== undefined && (
          <Button
            className="jp-mod-styled jp-mod-reject"
            onClick={() =>
              void commands.execute(CommandIDs.compareVersions, {
                notebook: notebook.id,
                from: version.id,
                to
              })
            }
          >
            {trans.__('Show what changed')}
          </Button>
        )}
        <Button
          className="jp-mod-styled jp-mod-accept"
          title={commands.caption(CommandIDs.restoreVersion)}
          onClick={() =>
            void commands.execute(CommandIDs.restoreVersion, {
              notebook: notebook.id,
              version: version.id,
              time: version.created_at
            })
          }
        >
          {trans.__('Restore this version as a copy')}
        </Button>
      </div>
    </header>
  );
}

/** Return the number of changes of each kind. */
function countChanges(changes: readonly ICellChange[], trans: TranslationBundle): string {
  const count = (kind: ICellChange['change']): number =>
    changes.filter(({ change }) => change === kind).length;
  const [changed, added, removed, moved] = (['changed', 'added', 'removed', 'moved'] as const).map(
    count
  ) as [number, number, number, number];
  return [
    changed > 0 && trans._n('%1 cell changed', '%1 cells changed', changed),
    added > 0 && trans._n('%1 cell added', '%1 cells added', added),
    removed > 0 && trans._n('%1 cell removed', '%1 cells removed', removed),
    moved > 0 && trans._n('%1 cell moved', '%1 cells moved', moved)
  ]
    .filter(Boolean)
    .join(', ');
}
