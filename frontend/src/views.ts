/** Placement of the views that are opened from the panel. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, MainAreaWidget, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { Widget } from '@lumino/widgets';
import { SplitPanel } from '@lumino/widgets';

import { trainingIcon } from './icons.ts';

/** Areas by preference. Notebook 7 has no room in `main`, and has `down` since 7.3. */
const AREAS = ['main', 'down'] as const;

export interface IViewOptions {
  trans: TranslationBundle;
  /** Identifies the view. */
  key: string;
  title: string;
  caption?: string | undefined;
}

/**
 * Show a widget in a tab, below the document or, if the application has no area for it, in a dialog.
 *
 * A view with the same key is replaced, as it may be outdated.
 */
export function showView(
  shell: JupyterFrontEnd.IShell,
  content: Widget,
  { trans, key, title, caption = title }: IViewOptions
): void {
  const id = `axon-view-${key}`;
  for (const area of AREAS) {
    [...shell.widgets(area)].find(widget => widget.id === id)?.dispose();
  }
  const widget = new MainAreaWidget({ content });
  widget.id = id;
  widget.addClass('axon-View');
  widget.title.label = title;
  widget.title.caption = caption;
  widget.title.icon = trainingIcon;
  widget.title.closable = true;
  widget.toolbar.hide();
  const area = AREAS.find(area => {
    shell.add(widget, area);
    return widget.isAttached;
  });
  if (area !== undefined) {
    shell.activateById(widget.id);
    if (area === 'down') {
      takeHalf(widget);
    }
    return;
  }
  const buttons = [Dialog.okButton({ label: trans.__('Close') })];
  void showDialog({ title: caption, body: widget, buttons, hasClose: true });
}

/** Give a widget below the document half of the height; initially it has none. */
function takeHalf(widget: Widget): void {
  let { parent } = widget;
  while (parent !== null && !(parent instanceof SplitPanel)) {
    parent = parent.parent;
  }
  parent?.setRelativeSizes([1, 1]);
}
