/** The plugin of the Training Runs page. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILayoutRestorer, IRouter } from '@jupyterlab/application';
import {
  ICommandPalette,
  IThemeManager,
  MainAreaWidget,
  Notification,
  WidgetTracker
} from '@jupyterlab/apputils';
import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { ILauncher } from '@jupyterlab/launcher';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { AxonClient } from '../api.ts';
import { IS_PALETTE } from '../commands/context.ts';
import { createHighlighter } from '../highlight.ts';
import { trainingIcon } from '../icons.ts';
import { RunCommandIDs, RUNS_PLUGIN_ID, TRANSLATION_DOMAIN } from '../ids.ts';
import { PanelSettings } from '../settings.ts';
import { treeTabs } from '../views.ts';
import type { RunsModel } from './model.ts';
import type { RunsPage } from './page.tsx';
import { RunsSettings } from './settings.ts';

const PAGE_ID = 'axon-runs';
/** Milliseconds for which a message is shown. */
const NOTIFICATION_TIME = 8000;
/** Parameters of URLs: the id of a run to show, and a filter. */
const RUN_PARAMETER = 'axon-run';
const WHERE_PARAMETER = 'axon-runs';
/** The command that shows what the parameters of the URL name. */
const ROUTE_COMMAND = 'axon:open-runs-of-url';

/** Return the URL that shows a run. */
export function runUrl(id: string): string {
  return pageUrl({ [RUN_PARAMETER]: id });
}

function pageUrl(parameters: Record<string, string>): string {
  const app = PageConfig.getOption('notebookPage') === '' ? 'lab' : 'tree';
  const search = new URLSearchParams(parameters).toString();
  return `${URLExt.join(PageConfig.getBaseUrl(), app)}?${search}`;
}

export const runsPlugin: JupyterFrontEndPlugin<void> = {
  id: RUNS_PLUGIN_ID,
  description: 'Shows the training runs of all notebooks.',
  autoStart: true,
  optional: [
    ITranslator,
    ISettingRegistry,
    ICommandPalette,
    ILauncher,
    ILayoutRestorer,
    IRouter,
    IThemeManager,
    IEditorLanguageRegistry
  ],
  activate: (
    app: JupyterFrontEnd,
    optionalTranslator: ITranslator | null,
    settingRegistry: ISettingRegistry | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    router: IRouter | null,
    themeManager: IThemeManager | null,
    languages: IEditorLanguageRegistry | null
  ): void => {
    const { commands, serviceManager, shell } = app;
    const trans = (optionalTranslator ?? nullTranslator).load(TRANSLATION_DOMAIN);
    const tracker = new WidgetTracker<MainAreaWidget<RunsPage>>({ namespace: PAGE_ID });
    const panelSettings = new PanelSettings();
    const settings = new RunsSettings();
    let loaded: Promise<void> | undefined;
    const loadSettings = async (): Promise<void> => {
      try {
        await Promise.all([panelSettings.load(settingRegistry), settings.load(settingRegistry)]);
      } catch {
        // The defaults apply, as without a setting registry; JupyterLab reports the error.
      }
    };
    let ready: Promise<MainAreaWidget<RunsPage>> | undefined;
    let page: RunsPage | undefined;

    const createPage = async (): Promise<MainAreaWidget<RunsPage>> => {
      const [{ RunsPage, addRunCommands, RUN_PALETTE_COMMANDS }] = await Promise.all([
        import('./page.tsx'),
        (loaded ??= loadSettings())
      ]);
      if (!commands.hasCommand(RunCommandIDs.refresh)) {
        addRunCommands({
          commands,
          trans,
          settings,
          model: () => page?.model,
          csv: () => page?.csv() ?? '',
          runUrl
        });
        for (const command of RUN_PALETTE_COMMANDS) {
          palette?.addItem({
            command,
            category: trans.__('Training Runs'),
            args: { [IS_PALETTE]: true }
          });
        }
      }
      const client = new AxonClient(serviceManager.serverSettings, trans);
      const content = new RunsPage({
        client,
        panelSettings,
        settings,
        commands,
        trans,
        themeManager,
        highlight: createHighlighter(languages)
      });
      page = content;
      const notify = (): void => {
        for (const command of RUN_PALETTE_COMMANDS) {
          commands.notifyCommandChanged(command);
        }
      };
      content.model.changed.connect(notify);
      const widget = new MainAreaWidget({ content });
      widget.id = PAGE_ID;
      widget.addClass('axon-RunsPage');
      widget.title.label = trans.__('Training Runs');
      widget.title.caption = trans.__('The training runs of all notebooks');
      widget.title.icon = trainingIcon;
      widget.title.closable = true;
      widget.toolbar.hide();
      widget.disposed.connect(() => {
        ready = undefined;
        page = undefined;
        notify();
      });
      return widget;
    };

    let savedWhere = '';
    /** Save the filter, so that a reload of the browser restores it. */
    const saveWhere = ({ where }: RunsModel): void => {
      if (where !== savedWhere && page !== undefined) {
        savedWhere = where;
        const widget = tracker.find(({ content }) => content === page);
        if (widget !== undefined) {
          void tracker.save(widget);
        }
      }
    };

    commands.addCommand(RunCommandIDs.open, {
      label: trans.__('Training Runs'),
      caption: trans.__('Compare the training runs of all notebooks'),
      // In menus, other items have none.
      icon: args => (args['isMenu'] === true ? undefined : trainingIcon),
      execute: async args => {
        const run = typeof args['run'] === 'string' ? args['run'] : undefined;
        const where = typeof args['where'] === 'string' ? args['where'] : undefined;
        if (!hasPlace(shell)) {
          const parameters =
            run === undefined ? { [WHERE_PARAMETER]: where ?? '' } : { [RUN_PARAMETER]: run };
          window.open(pageUrl(parameters));
          return undefined;
        }
        ready ??= createPage().catch((error: unknown) => {
          ready = undefined; // the next time it may load
          throw error;
        });
        const widget = await ready;
        if (!widget.isAttached) {
          addToShell(shell, widget);
          await tracker.add(widget);
          widget.content.model.changed.connect(saveWhere);
        }
        activate(shell, widget);
        const { model } = widget.content;
        try {
          if (where !== undefined) {
            await model.filter(where);
          }
          if (run !== undefined && !(await model.open(run))) {
            const message = trans.__('There is no run %1, or you may not see it.', run);
            Notification.warning(message, { autoClose: NOTIFICATION_TIME });
          }
        } catch (error) {
          const message = error instanceof Error ? error.message : String(error);
          Notification.error(message, { autoClose: NOTIFICATION_TIME });
        }
        return widget;
      }
    });
    palette?.addItem({ command: RunCommandIDs.open, category: trans.__('Training') });
    launcher?.add({ command: RunCommandIDs.open, category: trans.__('Other'), rank: 50 });
    if (restorer !== null) {
      void restorer.restore(tracker, {
        command: RunCommandIDs.open,
        name: () => PAGE_ID,
        args: ({ content }) => ({ where: content.model.where })
      });
    }

    if (router !== null) {
      commands.addCommand(ROUTE_COMMAND, {
        label: trans.__('Training Runs of the URL'),
        isVisible: () => false,
        execute: async () => {
          const { search, path } = router.current;
          const parameters = new URLSearchParams(search);
          const run = parameters.get(RUN_PARAMETER);
          const where = parameters.get(WHERE_PARAMETER);
          parameters.delete(RUN_PARAMETER);
          parameters.delete(WHERE_PARAMETER);
          await app.restored;
          const rest = parameters.toString();
          router.navigate(path + (rest === '' ? '' : `?${rest}`), { skipRouting: true });
          await commands.execute(RunCommandIDs.open, {
            ...(run === null ? {} : { run }),
            ...(where === null ? {} : { where })
          });
        }
      });
      router.register({ command: ROUTE_COMMAND, pattern: /[?&]axon-runs?=/ });
    }
  }
};

/** Return whether this browser tab can show the page: a document of Notebook 7 has no room for it. */
function hasPlace(shell: JupyterFrontEnd.IShell): boolean {
  return PageConfig.getOption('notebookPage') === '' || treeTabs(shell) !== undefined;
}

function addToShell(shell: JupyterFrontEnd.IShell, widget: MainAreaWidget<RunsPage>): void {
  const tabs = treeTabs(shell);
  if (tabs === undefined) {
    shell.add(widget, 'main', { type: 'Training Runs' });
  } else {
    tabs.addWidget(widget);
  }
}

function activate(shell: JupyterFrontEnd.IShell, widget: MainAreaWidget<RunsPage>): void {
  const tabs = treeTabs(shell);
  if (tabs === undefined) {
    shell.activateById(widget.id);
  } else {
    tabs.currentWidget = widget;
    widget.activate();
  }
}
