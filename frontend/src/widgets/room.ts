/** How the room of an accordion is shared among the sections that are open. */

import type { AccordionPanel } from '@lumino/widgets';

/**
 * Give each section that opens its part of the room, and leave the others the proportions they had, those that somebody
 * dragged them to among them. An accordion itself gives no room to a section that was closed before it was first laid out.
 */
export function shareRoom(accordion: AccordionPanel, atFirst: readonly number[]): void {
  const parts = [...atFirst];
  const isOpen = (index: number): boolean => accordion.widgets[index]?.isHidden === false;
  const share = (): void => {
    accordion.setRelativeSizes(parts.map((part, i) => (isOpen(i) ? part : 0)));
  };
  const remember = ({ target }: Event): void => {
    if (!accordion.titles.some(title => target instanceof Node && title.contains(target))) {
      return;
    }
    const whole = parts.reduce((sum, part, i) => sum + (isOpen(i) ? part : 0), 0);
    accordion.relativeSizes().forEach((size, i) => {
      if (isOpen(i) && size > 0) {
        parts[i] = size * whole;
      }
    });
  };
  share();
  // Before the accordion hears of it: sizes are still those that somebody chose, or that JupyterLab restored.
  accordion.node.addEventListener('click', remember, { capture: true });
  accordion.expansionToggled.connect(share);
}
