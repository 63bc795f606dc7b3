/** Placement of the views that are opened from the panel. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, MainAreaWidget, showDialog } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { Widget } from '@lumino/widgets';
import { SplitPanel, TabPanel } from '@lumino/widgets';

import { trainingIcon } from './icons.ts';

/** Areas by preference. Notebook 7 has no room in `main`, and has `down` since 7.3. */
const AREAS = ['main', 'down'] as const;

/** The open views by their keys. */
const views = new Map<string, Widget>();

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
  const tabs = treeTabs(shell);
  views.get(key)?.dispose();
  const widget = new MainAreaWidget({ content });
  widget.id = `axon-view-${key}`;
  views.set(key, widget);
  widget.disposed.connect(() => views.delete(key));
  widget.addClass('axon-View');
  widget.title.label = title;
  widget.title.caption = caption;
  widget.title.icon = trainingIcon;
  widget.title.closable = true;
  widget.toolbar.hide();
  if (tabs !== undefined) {
    tabs.addWidget(widget);
    tabs.currentWidget = widget;
    widget.activate();
    return;
  }
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

/** The tabs of the start page of Notebook 7; undefined elsewhere. */
export function treeTabs(shell: JupyterFrontEnd.IShell): TabPanel | undefined {
  if (PageConfig.getOption('notebookPage') !== 'tree') {
    return undefined;
  }
  for (const widget of shell.widgets('main')) {
    if (widget instanceof TabPanel) {
      return widget;
    }
  }
  return undefined;
}

/** Give a widget below the document half of the height; initially it has none. */
function takeHalf(widget: Widget): void {
  let { parent } = widget;
  while (parent !== null && !(parent instanceof SplitPanel)) {
    parent = parent.parent;
  }
  parent?.setRelativeSizes([1, 1]);
}
