/** What is known of the notebook besides its file: owner, model, dataset, tags, description. */

import { closeIcon } from '@jupyterlab/ui-components';
import { Notification } from '@jupyterlab/apputils';
import * as React from 'react';

import type { INotebookChange, INotebookSummary } from '../records.ts';
import { usePanel } from './context.ts';

export function RecordForm(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { summary } = model;
  if (summary === undefined) {
    return null;
  }
  const change = (update: (now: INotebookSummary) => INotebookChange): void => {
    model.update(update).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      Notification.error(trans.__('Not changed: %1', reason), { autoClose: 8000 });
    });
  };
  return (
    <div className="axon-Record">
      <span>{trans.__('Owner')}</span>
      <span>{summary.user_id}</span>
      <Field
        label={trans.__('Model')}
        value={summary.model_id ?? ''}
        placeholder={trans.__('name or id of the model')}
        onChange={model_id => {
          change(() => ({ model_id }));
        }}
      />
      <Field
        label={trans.__('Dataset')}
        value={summary.dataset_id ?? ''}
        placeholder={trans.__('name or id of the dataset')}
        onChange={dataset_id => {
          change(() => ({ dataset_id }));
        }}
      />
      <Tags
        tags={summary.metadata.tags}
        onChange={changed => {
          change(({ metadata }) => ({ tags: changed(metadata.tags) }));
        }}
      />
      <Field
        label={trans.__('Description')}
        value={summary.description ?? ''}
        placeholder={trans.__('what this training is about')}
        onChange={description => {
          change(() => ({ description }));
        }}
      />
    </div>
  );
}

interface IFieldProps {
  label: string;
  value: string;
  placeholder: string;
  onChange: (value: string) => void;
}

/** A line of text that is stored on Enter and when it is left; Escape brings back what was there. */
function Field({ label, value, placeholder, onChange }: IFieldProps): React.ReactElement {
  const [draft, setDraft] = React.useState<string | undefined>(undefined);
  const id = React.useId();
  const store = (): void => {
    if (draft !== undefined && draft !== value) {
      onChange(draft);
    }
    setDraft(undefined);
  };
  return (
    <>
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        className="jp-mod-styled"
        value={draft ?? value}
        placeholder={placeholder}
        onChange={event => {
          setDraft(event.target.value);
        }}
        onBlur={store}
        onKeyDown={event => {
          if (event.key === 'Enter' && !event.nativeEvent.isComposing) {
            store();
          } else if (event.key === 'Escape') {
            setDraft(undefined);
          }
        }}
      />
    </>
  );
}

interface ITagsProps {
  tags: readonly string[];
  /** Given what makes the new tags of those that there are by then. */
  onChange: (change: (tags: readonly string[]) => string[]) => void;
}

function Tags({ tags, onChange }: ITagsProps): React.ReactElement {
  const { trans } = usePanel();
  const [draft, setDraft] = React.useState('');
  const id = React.useId();
  const add = (): void => {
    const tag = draft.trim();
    if (tag !== '' && !tags.includes(tag)) {
      onChange(now => [...new Set([...now, tag])]);
    }
    setDraft('');
  };
  return (
    <>
      <label htmlFor={id}>{trans.__('Tags')}</label>
      <div className="axon-Tags">
        {tags.map(tag => (
          <span key={tag} className="axon-Tag">
            {tag}
            <button
              type="button"
              title={trans.__('Remove the tag %1', tag)}
              aria-label={trans.__('Remove the tag %1', tag)}
              onClick={() => {
                onChange(now => now.filter(other => other !== tag));
              }}
            >
              <closeIcon.react tag="span" width="10px" />
            </button>
          </span>
        ))}
        <input
          id={id}
          className="jp-mod-styled"
          value={draft}
          placeholder={trans.__('add a tag')}
          onChange={event => {
            setDraft(event.target.value);
          }}
          onBlur={add}
          onKeyDown={event => {
            if (event.key === 'Enter' && !event.nativeEvent.isComposing) {
              add();
            } else if (event.key === 'Escape') {
              setDraft('');
            }
          }}
        />
      </div>
    </>
  );
}
