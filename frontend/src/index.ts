/** The JupyterLab plugins. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILayoutRestorer } from '@jupyterlab/application';
import { ICommandPalette, IThemeManager, IToolbarWidgetRegistry } from '@jupyterlab/apputils';
import { IEditorServices } from '@jupyterlab/codeeditor';
import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { AxonClient } from './api.ts';
import { addCommands, IS_PALETTE, PALETTE_COMMANDS } from './commands/index.ts';
import { createHighlighter } from './highlight.ts';
import { PANEL_ID, PLUGIN_ID, TOOLBAR_ITEM, TRANSLATION_DOMAIN } from './ids.ts';
import { runsPlugin } from './page/plugin.ts';
import { RecordModelRegistry } from './registry.ts';
import { PanelSettings } from './settings.ts';
import { ITrainingPanel } from './tokens.ts';
import { TrainingPanel } from './widgets/panel.ts';
import { StatusButton } from './widgets/status.tsx';

export { ITrainingPanel } from './tokens.ts';
export type { ITrainingRecord } from './tokens.ts';
export type { ICheckpointRow } from './pure/rows.ts';
export type * from './records.ts';

const panelPlugin: JupyterFrontEndPlugin<ITrainingPanel> = {
  id: PLUGIN_ID,
  description: 'Shows the training record of the current notebook beside it.',
  autoStart: true,
  provides: ITrainingPanel,
  requires: [INotebookTracker, NotebookPanel.IContentFactory, IEditorServices, IRenderMimeRegistry],
  optional: [
    ITranslator,
    ISettingRegistry,
    ICommandPalette,
    ILayoutRestorer,
    IThemeManager,
    IToolbarWidgetRegistry,
    IEditorLanguageRegistry
  ],
  activate: async (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    contentFactory: NotebookPanel.IContentFactory,
    editorServices: IEditorServices,
    rendermime: IRenderMimeRegistry,
    optionalTranslator: ITranslator | null,
    settingRegistry: ISettingRegistry | null,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    themeManager: IThemeManager | null,
    toolbarRegistry: IToolbarWidgetRegistry | null,
    languages: IEditorLanguageRegistry | null
  ): Promise<ITrainingPanel> => {
    const { commands, serviceManager, shell } = app;
    const translator = optionalTranslator ?? nullTranslator;
    const trans = translator.load(TRANSLATION_DOMAIN);
    const settings = new PanelSettings();
    const client = new AxonClient(serviceManager.serverSettings, trans);
    const registry = new RecordModelRegistry(client, settings, tracker, serviceManager.contents);
    const { mimeTypeService } = editorServices;
    const versionView = { contentFactory, mimeTypeService, rendermime, translator };
    const highlight = createHighlighter(languages);
    addCommands({ app, registry, client, trans, versionView, highlight });
    for (const command of PALETTE_COMMANDS) {
      const args = { [IS_PALETTE]: true };
      palette?.addItem({ command, args, category: trans.__('Training') });
    }
    toolbarRegistry?.addFactory<NotebookPanel>(
      'Notebook',
      TOOLBAR_ITEM,
      notebook => new StatusButton(notebook, registry, commands, trans)
    );
    try {
      await settings.load(settingRegistry);
    } catch {
      // The defaults apply, as without a setting registry; JupyterLab reports the error.
    }
    const panel = new TrainingPanel({ registry, settings, commands, translator, themeManager });
    restorer?.add(panel, PANEL_ID);
    shell.add(panel, 'right', { rank: 700, type: 'Training' });
    if (settings.openAtStart) {
      void app.restored.then(() => {
        shell.activateById(PANEL_ID);
        shell.currentWidget?.activate(); // the focus stays in the document
      });
    }
    return registry;
  }
};

export default [panelPlugin, runsPlugin];
