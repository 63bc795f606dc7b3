/** The section with the table of checkpoints. */

import { Notification } from '@jupyterlab/apputils';
import { Button, closeIcon } from '@jupyterlab/ui-components';
import type { SortingState } from '@tanstack/react-table';
import * as React from 'react';

import { Chooser } from '../charts/chooser.tsx';
import { CommandIDs } from '../ids.ts';
import { filterErrorLabel } from '../labels.ts';
import { CHECKPOINT_EXAMPLE } from '../pure/python.ts';
import { newestFirst } from '../pure/rows.ts';
import type { Column, IShownColumns } from './columns.tsx';
import { createColumns, showColumns } from './columns.tsx';
import { usePanel, useSignal } from './context.tsx';
import { Grid } from './grid.tsx';
import { useMeasure } from './measure.ts';

export function CheckpointTable(): React.ReactElement | null {
  const { model } = usePanel();
  return model.checkpoints.rows.length === 0 ? <NoCheckpoints /> : <Table />;
}

function Table(): React.ReactElement {
  const { model, trans, commands, settings } = usePanel();
  useSignal(settings.changed);
  const { checkpoints } = model;
  const { best, ranking, metrics, rows, runOrder, runs, selected, visibleRows } = checkpoints;
  const errorId = React.useId();
  const [node, setNode] = React.useState<HTMLElement | null>(null);
  const [sorting, setSorting] = React.useState<SortingState>([]);
  const measure = useMeasure(node);
  const sorted = React.useMemo(() => newestFirst(visibleRows), [visibleRows]);
  const columns = React.useMemo(
    () =>
      createColumns(
        checkpoints,
        trans,
        row => void commands.execute(CommandIDs.togglePin, { ids: [row.id] })
      ),
    // The columns depend on these properties of `checkpoints`.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [checkpoints, best, ranking?.metric, metrics, runOrder, runs, trans, commands]
  );
  const { columns: chosen } = settings;
  const sortedBy = sorting[0]?.id;
  const shown = React.useMemo(
    () => showColumns(columns, rows, measure, chosen, sortedBy),
    [columns, rows, measure, chosen, sortedBy]
  );
  return (
    <div className="axon-Table">
      <div className="axon-Table-bar">
        <Filter errorId={errorId} />
        <span className="axon-Table-count" role="status">
          {visibleRows.length === rows.length
            ? trans._n('%1 checkpoint', '%1 checkpoints', rows.length)
            : trans.__('%1 of %2', visibleRows.length, rows.length)}
        </span>
        <ColumnChooser columns={columns} shown={shown} />
      </div>
      <FilterError id={errorId} />
      {visibleRows.length > 0 ? (
        <Grid
          rows={sorted}
          columns={columns}
          shown={shown}
          sorting={sorting}
          onSort={setSorting}
          onMount={setNode}
        />
      ) : (
        <p className="axon-Hint">{trans.__('No checkpoint matches this filter.')}</p>
      )}
      {(selected.size > 0 || checkpoints.hiddenSelectedCount > 0) && <SelectionToolbar />}
    </div>
  );
}

function Filter({ errorId }: { errorId: string }): React.ReactElement {
  const { model, trans } = usePanel();
  const { checkpoints } = model;
  return (
    <input
      type="search"
      className="jp-mod-styled axon-Table-filter"
      aria-label={trans.__('Filter of checkpoints')}
      aria-invalid={checkpoints.filterError !== undefined}
      aria-describedby={errorId}
      placeholder={trans.__('Filter: loss<0.3')}
      title={trans.__(
        'Show checkpoints that match all of: a tag, pinned, epoch:7, step>700, run:2, size>1MB, loss<0.3'
      )}
      value={checkpoints.filter}
      onChange={event => checkpoints.filterBy(event.target.value)}
    />
  );
}

/** What is wrong with the filter, with filters that the user may have meant. */
function FilterError({ id }: { id: string }): React.ReactElement {
  const { model, trans } = usePanel();
  const { checkpoints } = model;
  const { filterError: error } = checkpoints;
  return (
    <div role="status" id={id}>
      {error !== undefined && (
        <p className="axon-Table-error">
          {filterErrorLabel(trans, error)}
          {error.suggestions.length > 0 && ` ${trans.__('Did you mean')} `}
          {error.suggestions.map(({ label, filter }) => (
            <Button
              key={label}
              minimal
              small
              className="axon-Link"
              onClick={() => checkpoints.filterBy(filter)}
            >
              {label}
            </Button>
          ))}
        </p>
      )}
    </div>
  );
}

interface IColumnChooserProps {
  columns: readonly Column[];
  shown: IShownColumns;
}

/** Chooses the columns of all notebooks. */
function ColumnChooser({ columns, shown }: IColumnChooserProps): React.ReactElement {
  const { trans, settings } = usePanel();
  const choose = (keys: readonly string[]): void => {
    settings.setColumns(keys).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      Notification.error(trans.__('The columns were not saved: %1', reason), { autoClose: 8000 });
    });
  };
  const titles = columns.map(({ header }) => String(header));
  const optional = columns.flatMap(({ id = '', meta }, index) => {
    const title = titles[index] ?? '';
    const isAmbiguous = titles.filter(other => other === title).length > 1;
    return meta?.key === undefined
      ? []
      : { id, value: meta.key, label: isAmbiguous ? meta.key : title };
  });
  return (
    <Chooser
      label={trans.__('Columns')}
      options={optional}
      chosen={optional.filter(({ id }) => shown.ids.has(id)).map(({ value }) => value)}
      onChange={choose}
      trans={trans}
    >
      <Button
        minimal
        small
        className="axon-Link"
        disabled={settings.columns.length === 0}
        onClick={() => choose([])}
      >
        {trans.__('As many as fit')}
      </Button>
    </Chooser>
  );
}

/** Commands for the selected checkpoints. */
function SelectionToolbar(): React.ReactElement {
  const { model, trans, commands } = usePanel();
  const { checkpoints } = model;
  const { hiddenSelectedCount: hidden } = checkpoints;
  const count = checkpoints.selected.size;
  const clear = trans.__('Select none');
  const button = (command: string, label: string, enabled = count > 0): React.ReactElement => (
    <Button minimal small disabled={!enabled} onClick={() => void commands.execute(command)}>
      {label}
    </Button>
  );
  return (
    <div
      className="axon-Table-selected"
      role="toolbar"
      aria-label={trans.__('Selected checkpoints')}
    >
      <span role="status">
        {trans.__('%1 selected', count)}
        {hidden > 0 && (
          <span title={trans.__('Commands do not apply to checkpoints that the filter hides')}>
            {trans.__(' (%1 more hidden)', hidden)}
          </span>
        )}
      </span>
      {button(CommandIDs.compareCheckpoints, trans.__('Compare'), count === 2)}
      {button(CommandIDs.togglePin, trans.__('Pin'))}
      {button(CommandIDs.editTags, trans.__('Tag…'))}
      {button(CommandIDs.deleteCheckpoints, trans.__('Delete…'))}
      <Button
        minimal
        small
        title={clear}
        aria-label={clear}
        onClick={() => checkpoints.clearSelection()}
      >
        <closeIcon.react tag="span" width="14px" />
      </Button>
    </div>
  );
}

function NoCheckpoints(): React.ReactElement | null {
  const { model, trans } = usePanel();
  if (model.record === undefined) {
    return null;
  }
  if (!model.checkpoints.isLoaded) {
    return <p className="axon-Hint">{trans.__('Loading checkpoints…')}</p>;
  }
  return (
    <div className="axon-Empty">
      <p>{trans.__('No checkpoints yet. Add this to your training loop:')}</p>
      <pre tabIndex={0}>{CHECKPOINT_EXAMPLE}</pre>
    </div>
  );
}
