/** A read-only view of a version of a notebook. */

import type { IEditorMimeTypeService } from '@jupyterlab/codeeditor';
import type { NotebookPanel } from '@jupyterlab/notebook';
import { NotebookModel, StaticNotebook } from '@jupyterlab/notebook';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { ITranslator } from '@jupyterlab/translation';

import { toNotebook } from '../pure/nbformat.ts';
import type { IVersion } from '../records.ts';

export interface IVersionViewOptions {
  contentFactory: NotebookPanel.IContentFactory;
  mimeTypeService: IEditorMimeTypeService;
  rendermime: IRenderMimeRegistry;
  translator: ITranslator;
}

/** A notebook widget that shows a version. */
export class VersionView extends StaticNotebook {
  constructor(version: IVersion, options: IVersionViewOptions) {
    super({
      ...options,
      rendermime: options.rendermime.clone(),
      notebookConfig: { ...StaticNotebook.defaultNotebookConfig, windowingMode: 'none' }
    });
    const model = new NotebookModel({ translator: options.translator });
    model.fromJSON(toNotebook(version) as unknown as Parameters<NotebookModel['fromJSON']>[0]);
    model.readOnly = true;
    this.model = model;
    for (const cell of this.widgets) {
      cell.readOnly = true;
      cell.syncEditable = false;
    }
    this.addClass('axon-Version');
    this.addClass('jp-Notebook');
  }

  override dispose(): void {
    const { model } = this;
    super.dispose();
    model?.dispose();
  }
}
