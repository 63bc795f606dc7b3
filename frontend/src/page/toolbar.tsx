/** The controls above the table: filter, columns, groups, and what can be done with the selected runs. */

import { Button, closeIcon, downloadIcon, refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { RunCommandIDs } from '../ids.ts';
import { problemText } from '../labels.ts';
import type { IRunRow } from '../records.ts';
import { BestSelect, ColumnChooser, GroupSelect } from './chooser.tsx';
import { usePage } from './context.ts';
import { FilterInput } from './filter.tsx';

export function RunsToolbar(): React.ReactElement {
  const { commands, trans, model } = usePage();
  const iconButton = (
    command: string,
    label: string,
    icon: typeof refreshIcon
  ): React.ReactElement => (
    <Button
      minimal
      small
      title={label}
      aria-label={label}
      onClick={() => void commands.execute(command)}
    >
      <icon.react tag="span" width="16px" />
    </Button>
  );
  return (
    <div className="axon-Runs-toolbar">
      <div role="status">
        {model.runs.problem !== undefined && (
          <p className="axon-Notice">{problemText(trans, model.runs.problem)}</p>
        )}
      </div>
      <div className="axon-Runs-controls">
        <FilterInput />
        <ColumnChooser />
        {iconButton(RunCommandIDs.exportCsv, trans.__('Save as CSV'), downloadIcon)}
        {iconButton(RunCommandIDs.refresh, trans.__('Refresh'), refreshIcon)}
      </div>
      <div className="axon-Runs-controls">
        <Count />
        <HiddenBaseline />
        <SelectionButtons />
        <GroupSelect />
        <BestSelect />
      </div>
    </div>
  );
}

/** The runs that are archived are not among the total. */
const isArchived = (run: IRunRow): boolean => run.archived === true;

function Count(): React.ReactElement {
  const { model, trans } = usePage();
  const { shown, total } = model;
  return (
    <span className="axon-Runs-count" role="status">
      {!model.runs.isComplete
        ? trans.__('Loading runs…')
        : model.where === '' || shown.length === total || shown.some(isArchived)
          ? trans._n('%2 run', '%2 runs', shown.length, shown.length.toLocaleString())
          : trans.__('%1 of %2 runs', shown.length.toLocaleString(), total.toLocaleString())}
    </span>
  );
}

/** The baseline, if the filter hides it. */
function HiddenBaseline(): React.ReactElement | null {
  const { model, settings, trans } = usePage();
  const { baseline } = model;
  if (baseline === undefined || model.shown.some(({ id }) => id === baseline.id)) {
    return null;
  }
  const remove = trans.__('Use No Baseline');
  return (
    <span className="axon-Runs-baseline">
      {trans.__('Baseline: %1', baseline.name)}
      <ActionButton
        title={remove}
        aria-label={remove}
        onClick={() => void settings.update({ baseline: '' })}
      >
        <closeIcon.react tag="span" width="14px" />
      </ActionButton>
    </span>
  );
}

/** A button that leaves the focus to the table when it disappears. */
function ActionButton(props: React.ComponentProps<typeof Button>): React.ReactElement {
  const node = React.useRef<HTMLSpanElement>(null);
  React.useLayoutEffect(() => {
    const { current } = node;
    return () => {
      if (current?.contains(document.activeElement) === true) {
        current.closest('.axon-Runs')?.querySelector<HTMLElement>('.axon-Runs-grid')?.focus();
      }
    };
  }, []);
  return (
    <span ref={node}>
      <Button minimal small {...props} />
    </span>
  );
}

function SelectionButtons(): React.ReactElement | null {
  const { model, commands, trans } = usePage();
  const { selected, visibleSelection } = model;
  const hidden = selected.size - visibleSelection.length;
  if (selected.size === 0) {
    return null;
  }
  const clear = trans.__('Select none');
  const button = (command: string, label: string): React.ReactElement => (
    <ActionButton
      disabled={!commands.isEnabled(command)}
      title={commands.caption(command)}
      onClick={() => void commands.execute(command)}
    >
      {label}
    </ActionButton>
  );
  return (
    <div className="axon-Runs-selected" role="toolbar" aria-label={trans.__('Selected runs')}>
      <span role="status">
        {trans.__('%1 selected', visibleSelection.length.toLocaleString())}
        {hidden > 0 && (
          <small>{` ${trans._n(
            '(%1 more hidden by the filter is not affected)',
            '(%1 more hidden by the filter are not affected)',
            hidden
          )}`}</small>
        )}
      </span>
      {button(RunCommandIDs.editTags, trans.__('Tag…'))}
      {button(RunCommandIDs.editNotes, trans.__('Notes…'))}
      {commands.isVisible(RunCommandIDs.archive) &&
        button(RunCommandIDs.archive, trans.__('Archive'))}
      {commands.isVisible(RunCommandIDs.unarchive) &&
        button(RunCommandIDs.unarchive, trans.__('Unarchive'))}
      {button(RunCommandIDs.delete, trans.__('Delete…'))}
      <ActionButton title={clear} aria-label={clear} onClick={() => model.select([])}>
        <closeIcon.react tag="span" width="14px" />
      </ActionButton>
    </div>
  );
}
