/** The section with the fields of the record that are not part of the notebook file. */

import { Notification } from '@jupyterlab/apputils';
import { closeIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { INotebookChange, INotebookSummary } from '../records.ts';
import { usePanel } from './context.tsx';

export function RecordForm(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { record } = model;
  if (record === undefined) {
    return null;
  }
  const { framework } = record.metadata;
  const update = (change: (current: INotebookSummary) => INotebookChange): void => {
    model.update(change).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      Notification.error(trans.__('The change was not saved: %1', reason), { autoClose: 8000 });
    });
  };
  return (
    <div className="axon-Record">
      <span>{trans.__('Owner')}</span>
      <span>{record.user_id}</span>
      {framework !== undefined && (
        <>
          <span>{trans.__('Framework')}</span>
          <span>{framework}</span>
        </>
      )}
      <Field
        label={trans.__('Model')}
        value={record.model_id ?? ''}
        placeholder={trans.__('name or id of the model')}
        onSave={model_id => update(() => ({ model_id }))}
      />
      <Field
        label={trans.__('Dataset')}
        value={record.dataset_id ?? ''}
        placeholder={trans.__('name or id of the dataset')}
        onSave={dataset_id => update(() => ({ dataset_id }))}
      />
      <Tags
        tags={record.metadata.tags}
        onChange={change => update(({ metadata }) => ({ tags: change(metadata.tags) }))}
      />
      <Field
        label={trans.__('Description')}
        value={record.description ?? ''}
        placeholder={trans.__('purpose of this training')}
        onSave={description => update(() => ({ description }))}
      />
    </div>
  );
}

interface IDraftInputProps {
  id: string;
  value: string;
  placeholder: string;
  onSave: (value: string) => void;
}

/** An input that saves on Enter and when it loses the focus; Escape restores the saved value. */
function DraftInput({ id, value, placeholder, onSave }: IDraftInputProps): React.ReactElement {
  const [draft, setDraft] = React.useState<string | undefined>(undefined);
  const save = (): void => {
    if (draft !== undefined && draft !== value) {
      onSave(draft);
    }
    setDraft(undefined);
  };
  return (
    <input
      id={id}
      className="jp-mod-styled"
      value={draft ?? value}
      placeholder={placeholder}
      onChange={event => setDraft(event.target.value)}
      onBlur={save}
      onKeyDown={event => {
        if (event.key === 'Enter' && !event.nativeEvent.isComposing) {
          save();
        } else if (event.key === 'Escape') {
          setDraft(undefined);
        }
      }}
    />
  );
}

function Field({
  label,
  ...input
}: { label: string } & Omit<IDraftInputProps, 'id'>): React.ReactElement {
  const id = React.useId();
  return (
    <>
      <label htmlFor={id}>{label}</label>
      <DraftInput id={id} {...input} />
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
  const id = React.useId();
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
              onClick={() => onChange(current => current.filter(other => other !== tag))}
            >
              <closeIcon.react tag="span" width="10px" />
            </button>
          </span>
        ))}
        <DraftInput
          id={id}
          value=""
          placeholder={trans.__('add a tag')}
          onSave={draft => {
            const tag = draft.trim();
            if (tag !== '' && !tags.includes(tag)) {
              onChange(current => [...new Set([...current, tag])]);
            }
          }}
        />
      </div>
    </>
  );
}
