/** Where what is opened from the panel is shown. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, MainAreaWidget, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { Widget } from '@lumino/widgets';
import { SplitPanel } from '@lumino/widgets';

import { trainingIcon } from './icons.ts';

/** Where there may be room; Notebook 7 has none in the first, and the second from 7.3 on. */
const AREAS = ['main', 'down'] as const;

let opened = 0;

/** Show a widget in a tab; in an application of one document below it, or above all where that has no room for more. */
export function showView(
  shell: JupyterFrontEnd.IShell,
  content: Widget,
  trans: TranslationBundle,
  title: string,
  caption = title
): void {
  const widget = new MainAreaWidget({ content });
  opened += 1;
  widget.id = `axon-view-${opened}`;
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
      giveHalf(widget);
    }
    return;
  }
  const buttons = [Dialog.okButton({ label: trans.__('Close') })];
  void showDialog({ title: caption, body: widget, buttons, hasClose: true });
}

/** Have a widget below the document take half of the room: there is nothing at first. */
function giveHalf(widget: Widget): void {
  let { parent } = widget;
  while (parent !== null && !(parent instanceof SplitPanel)) {
    parent = parent.parent;
  }
  parent?.setRelativeSizes([1, 1]);
}
