/** The plugin: wiring, nothing else. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILayoutRestorer } from '@jupyterlab/application';
import { ICommandPalette, IThemeManager, IToolbarWidgetRegistry } from '@jupyterlab/apputils';
import { IEditorServices } from '@jupyterlab/codeeditor';
import type { NotebookPanel } from '@jupyterlab/notebook';
import { INotebookTracker, NotebookPanel as Notebooks } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ITranslator } from '@jupyterlab/translation';

import { AxonClient } from './api.ts';
import { addCommands } from './commands.ts';
import { Front } from './front.ts';
import { CommandIDs, DOMAIN, PANEL, PLUGIN, TOOLBAR_ITEM } from './ids.ts';
import { StatusButton } from './widgets/badge.tsx';
import { TrainingPanel } from './widgets/panel.ts';

const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN,
  description:
    'The training record of the notebook in front: status, curves, checkpoints, versions.',
  autoStart: true,
  requires: [
    INotebookTracker,
    Notebooks.IContentFactory,
    IEditorServices,
    IRenderMimeRegistry,
    ITranslator
  ],
  optional: [ICommandPalette, ILayoutRestorer, IThemeManager, IToolbarWidgetRegistry],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    contentFactory: NotebookPanel.IContentFactory,
    editors: IEditorServices,
    rendermime: IRenderMimeRegistry,
    translator: ITranslator,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    themes: IThemeManager | null,
    toolbars: IToolbarWidgetRegistry | null
  ) => {
    const { commands, serviceManager, shell } = app;
    const trans = translator.load(DOMAIN);
    const client = new AxonClient(serviceManager.serverSettings, trans);
    const front = new Front(client, tracker, serviceManager.contents);
    const versionView = {
      contentFactory,
      mimeTypeService: editors.mimeTypeService,
      rendermime,
      translator
    };
    addCommands({ app, front, trans, versionView });

    const panel = new TrainingPanel({ front, commands, translator, themes });
    restorer?.add(panel, PANEL);
    shell.add(panel, 'right', { rank: 700, type: 'Training' });
    toolbars?.addFactory<NotebookPanel>(
      'Notebook',
      TOOLBAR_ITEM,
      notebook => new StatusButton(notebook, front, commands, trans)
    );
    const category = trans.__('Training');
    for (const command of [
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
    ]) {
      palette?.addItem({ command, category });
    }
  }
};

export default plugin;
