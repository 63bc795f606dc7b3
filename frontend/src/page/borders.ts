/** The borders between the areas of the Training Runs page. */

import { MessageLoop } from '@lumino/messaging';
import type { SplitPanel } from '@lumino/widgets';
import { Widget } from '@lumino/widgets';

/** The share by which a key moves a border, and the least share of an area. */
const STEP = 0.05;
const MIN_SHARE = 0.05;
const MOVES: Record<SplitPanel.Orientation, Partial<Record<string, number>>> = {
  horizontal: { ArrowLeft: -STEP, ArrowRight: STEP },
  vertical: { ArrowUp: -STEP, ArrowDown: STEP }
};

/** Let the arrow keys move the border between the two widgets of a panel. */
export function addBorderKeys(panel: SplitPanel, label: string, onMoved: () => void): void {
  const [handle] = panel.handles;
  if (handle === undefined) {
    return;
  }
  const share = (): number => panel.relativeSizes()[0] ?? 0;
  const report = (): void =>
    handle.setAttribute('aria-valuenow', String(Math.round(100 * share())));
  handle.tabIndex = 0;
  handle.setAttribute('role', 'separator');
  handle.setAttribute('aria-label', label);
  handle.setAttribute(
    'aria-orientation',
    panel.orientation === 'horizontal' ? 'vertical' : 'horizontal'
  );
  report();
  handle.addEventListener('focus', report); // it may have been dragged
  handle.addEventListener('keydown', event => {
    const move = MOVES[panel.orientation][event.key];
    if (move !== undefined && !event.altKey && !event.ctrlKey && !event.metaKey) {
      const next = Math.max(MIN_SHARE, Math.min(1 - MIN_SHARE, share() + move));
      panel.setRelativeSizes([next, 1 - next]);
      MessageLoop.sendMessage(panel, Widget.Msg.UpdateRequest); // lays out, with the least sizes of the areas
      report();
      onMoved();
      event.preventDefault();
      event.stopPropagation();
    }
  });
}
