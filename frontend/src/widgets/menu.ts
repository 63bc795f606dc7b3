/** Menus of rows. */

import type { CommandRegistry } from '@lumino/commands';
import type { ReadonlyJSONObject } from '@lumino/coreutils';
import { Menu } from '@lumino/widgets';

export interface IMenuItem {
  /** Empty for a separator. */
  command: string;
  args?: ReadonlyJSONObject;
}

/** Open a menu of commands at a position; when it closes, the focus goes back to where it was. */
export function openMenu(
  commands: CommandRegistry,
  items: readonly IMenuItem[],
  x: number,
  y: number
): void {
  const menu = new Menu({ commands });
  for (const { command, args = {} } of items) {
    menu.addItem(command === '' ? { type: 'separator' } : { command, args });
  }
  const focused = document.activeElement;
  menu.aboutToClose.connect(() => {
    // Before the command is executed, so that a dialog returns the focus to where it was.
    if (focused instanceof HTMLElement) {
      focused.focus();
    }
    requestAnimationFrame(() => menu.dispose());
  });
  menu.open(x, y);
}
