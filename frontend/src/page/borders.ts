/** The borders between the areas of the Training Runs page. */

import type { SplitPanel } from '@lumino/widgets';

/** The share by which a key moves a border, and the least share of an area. */
const STEP = 0.05;
const MIN_SHARE = 0.05;
const MOVES: Partial<Record<string, number>> = {
  ArrowLeft: -STEP,
  ArrowUp: -STEP,
  ArrowRight: STEP,
  ArrowDown: STEP
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
    const move = MOVES[event.key];
    if (move !== undefined) {
      const next = Math.max(MIN_SHARE, Math.min(1 - MIN_SHARE, share() + move));
      panel.setRelativeSizes([next, 1 - next]);
      report();
      onMoved();
      event.preventDefault();
      event.stopPropagation();
    }
  });
}
