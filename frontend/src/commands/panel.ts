/** The commands for the panel and the current notebook. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { notebookIcon, refreshIcon, saveIcon } from '@jupyterlab/ui-components';

import { trainingIcon } from '../icons.ts';
import { CommandIDs, PANEL_ID } from '../ids.ts';
import type { CommandContext } from './context.ts';

export function addPanelCommands(context: CommandContext): void {
  const { app, registry, trans } = context;
  const { commands, shell } = app;

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

  context.addForNotebook(CommandIDs.refresh, {
    icon: refreshIcon,
    label: trans.__('Refresh the Training Panel'),
    caption: trans.__('Load the training record of the current notebook again'),
    execute: model => model.reload()
  });

  context.addForNotebook(CommandIDs.record, {
    icon: saveIcon,
    label: trans.__('Save Notebook and Start Recording'),
    caption: trans.__('Save the current notebook and create its training record'),
    execute: async model => {
      await registry.panel?.context.save();
      await model.create();
    },
    whyNot: model =>
      model.isLoaded && model.record === undefined ? undefined : trans.__('it is recorded')
  });

  context.addForNotebook(CommandIDs.goToCell, {
    icon: notebookIcon,
    label: trans.__('Go to Cell'),
    caption: trans.__('Scroll to a cell of the current notebook and activate it'),
    execute: async (_model, args) => {
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
    isInternal: true
  });
}

function isPanelVisible(shell: JupyterFrontEnd.IShell): boolean {
  return [...shell.widgets('right')].some(({ id, isVisible }) => id === PANEL_ID && isVisible);
}
