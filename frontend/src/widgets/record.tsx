/** The section with the fields of the record that are not part of the notebook file. */

import { Notification } from '@jupyterlab/apputils';
import { closeIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { INotebookChange, INotebookSummary } from '../records.ts';
import { usePanel } from './context.tsx';

export function RecordForm(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { summary } = model;
  if (summary === undefined) {
    return null;
  }
  const update = (change: (current: INotebookSummary) => INotebookChange): void => {
    model.update(change).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      Notification.error(trans.__('The change was not saved: %1', reason), { autoClose: 8000 });
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
          update(() => ({ model_id }));
        }}
      />
      <Field
        label={trans.__('Dataset')}
        value={summary.dataset_id ?? ''}
        placeholder={trans.__('name or id of the dataset')}
        onChange={dataset_id => {
          update(() => ({ dataset_id }));
        }}
      />
      <Tags
        tags={summary.metadata.tags}
        onChange={change => {
          update(({ metadata }) => ({ tags: change(metadata.tags) }));
        }}
      />
      <Field
        label={trans.__('Description')}
        value={summary.description ?? ''}
        placeholder={trans.__('purpose of this training')}
        onChange={description => {
          update(() => ({ description }));
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

/** A text field that saves on Enter and when it loses the focus; Escape restores the saved value. */
function Field({ label, value, placeholder, onChange }: IFieldProps): React.ReactElement {
  const [draft, setDraft] = React.useState<string | undefined>(undefined);
  const id = React.useId();
  const save = (): void => {
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
        onBlur={save}
        onKeyDown={event => {
          if (event.key === 'Enter' && !event.nativeEvent.isComposing) {
            save();
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
  /** Called with a function that changes the current tags. */
  onChange: (change: (tags: readonly string[]) => string[]) => void;
}

function Tags({ tags, onChange }: ITagsProps): React.ReactElement {
  const { trans } = usePanel();
  const [draft, setDraft] = React.useState('');
  const id = React.useId();
  const add = (): void => {
    const tag = draft.trim();
    if (tag !== '' && !tags.includes(tag)) {
      onChange(current => [...new Set([...current, tag])]);
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
                onChange(current => current.filter(other => other !== tag));
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
