/** The dialogs of the Training Runs page. */

import { Dialog, ReactWidget, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { Message } from '@lumino/messaging';
import * as React from 'react';

import { formatBytes } from '../pure/metrics.ts';
import type { IRunRow } from '../records.ts';

/** The most runs that a dialog names. */
const MAX_NAMES = 12;

/** Return the runs that are deleted; unless the user agrees, those with pinned checkpoints stay. */
export function deletedRuns(runs: readonly IRunRow[], withPinned: boolean): readonly IRunRow[] {
  return withPinned ? runs : runs.filter(run => run.pinned_count === 0);
}

/** Return the texts that tell what is deleted with runs. */
function deletedTexts(runs: readonly IRunRow[], trans: TranslationBundle): string[] {
  const checkpoints = runs.reduce((sum, run) => sum + run.checkpoint_count, 0);
  const size = runs.reduce((sum, run) => sum + run.size, 0);
  return [
    trans._n('%1 run with its curves', '%1 runs with their curves', runs.length),
    trans._n('%1 checkpoint', '%1 checkpoints', checkpoints),
    trans.__('%1 of state files', formatBytes(size))
  ];
}

/** Ask whether to delete runs, of which none is running. Returns whether pinned checkpoints may go, too. */
export async function askDelete(
  runs: readonly IRunRow[],
  runningCount: number,
  notebookName: (run: IRunRow) => string,
  trans: TranslationBundle
): Promise<{ withPinned: boolean } | undefined> {
  const body = new DeleteBody(runs, runningCount, notebookName, trans);
  const dialog = new Dialog({
    title: trans._n('Delete %2?', 'Delete runs?', runs.length, runs[0]?.name ?? ''),
    body,
    buttons: [
      Dialog.cancelButton({ label: trans.__('Cancel') }),
      Dialog.warnButton({ label: trans.__('Delete') })
    ],
    defaultButton: 0
  });
  const { button, value } = await dialog.launch();
  return button.accept && value !== null ? { withPinned: value } : undefined;
}

/** Names what is deleted; the value is whether pinned checkpoints are deleted, too. */
class DeleteBody extends ReactWidget implements Dialog.IBodyWidget<boolean> {
  readonly #runs: readonly IRunRow[];
  readonly #runningCount: number;
  readonly #notebookName: (run: IRunRow) => string;
  readonly #trans: TranslationBundle;
  #withPinned = false;

  constructor(
    runs: readonly IRunRow[],
    runningCount: number,
    notebookName: (run: IRunRow) => string,
    trans: TranslationBundle
  ) {
    super();
    this.#runs = runs;
    this.#runningCount = runningCount;
    this.#notebookName = notebookName;
    this.#trans = trans;
    this.addClass('axon-RunDialog');
  }

  getValue(): boolean {
    return this.#withPinned;
  }

  protected override render(): React.ReactElement {
    const trans = this.#trans;
    const pinned = this.#runs.reduce((sum, run) => sum + run.pinned_count, 0);
    const runs = deletedRuns(this.#runs, this.#withPinned);
    const staying = this.#runs.length - runs.length;
    const others = runs.length - MAX_NAMES;
    return (
      <>
        <ul>
          {runs.slice(0, MAX_NAMES).map(run => (
            <li key={run.id}>{trans.__('%1 in %2', run.name, this.#notebookName(run))}</li>
          ))}
          {others > 0 && <li>{trans._n('and %1 more', 'and %1 more', others)}</li>}
        </ul>
        <p>
          {runs.length === 0
            ? trans.__('This deletes nothing: all runs have pinned checkpoints.')
            : trans.__('This permanently deletes %1.', deletedTexts(runs, trans).join(', '))}
        </p>
        {this.#runningCount > 0 && (
          <p>
            {trans._n(
              '%1 selected run is running and stays.',
              '%1 selected runs are running and stay.',
              this.#runningCount
            )}
          </p>
        )}
        {pinned > 0 && (
          <label>
            <input
              type="checkbox"
              defaultChecked={false}
              onChange={event => {
                this.#withPinned = event.target.checked;
                this.update();
              }}
            />
            {trans._n(
              'Delete %1 pinned checkpoint, too',
              'Delete %1 pinned checkpoints, too',
              pinned
            )}
            {staying > 0 && (
              <small>{trans._n('otherwise %1 run stays', 'otherwise %1 runs stay', staying)}</small>
            )}
          </label>
        )}
      </>
    );
  }
}

/** Ask for the notes of runs. Returns undefined if the user cancels. */
export async function askNotes(
  runs: readonly IRunRow[],
  trans: TranslationBundle
): Promise<string | undefined> {
  const texts = new Set(runs.map(run => run.notes ?? ''));
  const body = new NotesBody(texts.size === 1 ? ([...texts][0] ?? '') : '', texts.size, trans);
  const { button, value } = await showDialog({
    title: trans._n('Notes of %2', 'Notes of %1 runs', runs.length, runs[0]?.name ?? ''),
    body,
    buttons: [
      Dialog.cancelButton({ label: trans.__('Cancel') }),
      Dialog.okButton({ label: trans.__('Save') })
    ],
    focusNodeSelector: 'textarea'
  });
  return button.accept ? (value ?? undefined) : undefined;
}

class NotesBody extends ReactWidget implements Dialog.IBodyWidget {
  readonly #count: number;
  readonly #trans: TranslationBundle;
  #text: string;

  constructor(text: string, count: number, trans: TranslationBundle) {
    super();
    this.#text = text;
    this.#count = count;
    this.#trans = trans;
    this.addClass('axon-RunDialog');
  }

  getValue(): string {
    return this.#text.trim();
  }

  /** Enter begins a line, also in versions of JupyterLab in which it accepts every dialog; with Ctrl it accepts. */
  handleEvent(event: KeyboardEvent): void {
    const { key, ctrlKey, metaKey, target } = event;
    if (key === 'Enter' && target instanceof HTMLTextAreaElement && this.node.contains(target)) {
      event.stopPropagation();
      if (ctrlKey || metaKey) {
        const dialog = this.node.closest('.jp-Dialog-content');
        dialog?.querySelector<HTMLElement>('.jp-mod-accept')?.click();
      }
    }
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    document.addEventListener('keydown', this, true); // before the dialog
  }

  protected override onBeforeDetach(message: Message): void {
    document.removeEventListener('keydown', this, true);
    super.onBeforeDetach(message);
  }

  protected override render(): React.ReactElement {
    const trans = this.#trans;
    return (
      <label>
        {this.#count > 1
          ? trans.__('The runs have different notes. This text replaces all of them:')
          : trans.__('Notes:')}
        <textarea
          className="jp-mod-styled"
          rows={6}
          defaultValue={this.#text}
          onChange={event => {
            this.#text = event.target.value;
          }}
        />
      </label>
    );
  }
}
