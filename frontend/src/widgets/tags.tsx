/** A dialog that changes the tags of one or several things. */

import { Dialog, ReactWidget, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import type { ITagChange } from '../pure/tags.ts';
import { countTags, splitTags } from '../pure/tags.ts';

/** Ask for a change of tags; `lists` are the present tags of each. Returns undefined if the user cancels. */
export async function askTags(
  title: string,
  lists: readonly (readonly string[])[],
  trans: TranslationBundle
): Promise<ITagChange | undefined> {
  const body = new TagsBody(lists, trans);
  const { button, value } = await showDialog({
    title,
    body,
    buttons: [
      Dialog.cancelButton({ label: trans.__('Cancel') }),
      Dialog.okButton({ label: trans.__('Save') })
    ],
    focusNodeSelector: 'input[type="text"]'
  });
  return button.accept && value !== null ? value : undefined;
}

/** A check box per tag, which is indeterminate for a tag that only some have, and a field for new tags. */
class TagsBody extends ReactWidget implements Dialog.IBodyWidget<ITagChange> {
  readonly #lists: readonly (readonly string[])[];
  readonly #trans: TranslationBundle;
  /** The user's choices: whether all are to have a tag. */
  readonly #choices = new Map<string, boolean>();
  #text = '';

  constructor(lists: readonly (readonly string[])[], trans: TranslationBundle) {
    super();
    this.#lists = lists;
    this.#trans = trans;
    this.addClass('axon-TagsDialog');
  }

  getValue(): ITagChange {
    const chosen = (wanted: boolean): string[] =>
      [...this.#choices].filter(([, isWanted]) => isWanted === wanted).map(([tag]) => tag);
    return { add: [...chosen(true), ...splitTags(this.#text)], remove: chosen(false) };
  }

  protected override render(): React.ReactElement {
    const trans = this.#trans;
    const total = this.#lists.length;
    return (
      <>
        <label>
          {trans.__('Add tags, separated by commas:')}
          <input
            type="text"
            className="jp-mod-styled"
            defaultValue={this.#text}
            onChange={event => {
              this.#text = event.target.value;
            }}
          />
        </label>
        {[...countTags(this.#lists)].map(([tag, count]) => (
          <label key={tag} className="axon-TagsDialog-tag">
            <input
              type="checkbox"
              ref={input => {
                if (input !== null) {
                  input.indeterminate = count < total && !this.#choices.has(tag);
                }
              }}
              checked={this.#choices.get(tag) ?? count === total}
              onChange={event => {
                this.#choices.set(tag, event.target.checked);
                this.update();
              }}
            />
            {tag}
            {count < total && !this.#choices.has(tag) && (
              <span>{trans.__('on %1 of %2', count, total)}</span>
            )}
          </label>
        ))}
      </>
    );
  }
}
