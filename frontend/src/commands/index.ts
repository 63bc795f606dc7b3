/** The commands of buttons, menus, palette and keys. */

import { CommandIDs } from '../ids.ts';
import { addCheckpointCommands } from './checkpoints.ts';
import type { ICommandsOptions } from './context.ts';
import { CommandContext } from './context.ts';
import { addPanelCommands } from './panel.ts';
import { addVersionCommands } from './versions.ts';

export { IS_PALETTE } from './context.ts';

/** Commands of the palette. */
export const PALETTE_COMMANDS = [
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
];

export function addCommands(options: ICommandsOptions): void {
  const context = new CommandContext(options);
  addPanelCommands(context);
  addVersionCommands(context);
  addCheckpointCommands(context);
}
