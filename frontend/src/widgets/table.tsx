/** The section of checkpoints: which to show, what best means, what to do with those selected, and the table. */

import { Button, closeIcon, FilterBox } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CommandIDs } from '../ids.ts';
import type { ISort } from '../pure/rows.ts';
import { filterRows, sortRows } from '../pure/rows.ts';
import { usePanel } from './context.ts';
import { NoCheckpoints } from './empty.tsx';
import { Grid } from './grid.tsx';
import { MeasureSelect } from './measure.tsx';

export function CheckpointTable(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { checkpoints } = model;
  const [query, setQuery] = React.useState('');
  const [sort, setSort] = React.useState<ISort>({ key: 'created', descending: true });
  const { rows, order } = checkpoints;
  const shown = React.useMemo(
    () => sortRows(filterRows(rows, query, order), sort, order),
    [rows, query, sort, order]
  );
  if (rows.length === 0) {
    return <NoCheckpoints />;
  }
  return (
    <div className="axon-Table">
      <div
        className="axon-Table-filter"
        title={trans.__(
          'Show checkpoints that match all of: a tag, pinned, epoch:7, step:700, run:2, loss<0.3'
        )}
      >
        <FilterBox
          placeholder={trans.__('Filter: tag, pinned, loss<0.3')}
          initialQuery={query} // it comes and goes with the rows
          useFuzzyFilter={false}
          updateFilter={(_filter, text) => {
            setQuery(text ?? '');
          }}
        />
      </div>
      {checkpoints.selected.size > 0 ? (
        <Selected />
      ) : (
        <div className="axon-Table-controls">
          {checkpoints.measure !== undefined && <span>{trans.__('Best by')}</span>}
          <MeasureSelect />
          <span className="axon-Table-count" role="status">
            {shown.length === rows.length
              ? trans._n('%1 checkpoint', '%1 checkpoints', rows.length)
              : trans.__('%1 of %2', shown.length, rows.length)}
          </span>
        </div>
      )}
      {shown.length > 0 ? (
        <Grid shown={shown} sort={sort} onSort={setSort} />
      ) : (
        <p className="axon-Hint">{trans.__('No checkpoint matches this filter.')}</p>
      )}
    </div>
  );
}

/** What can be done with the checkpoints that are selected. */
function Selected(): React.ReactElement {
  const { model, trans, commands } = usePanel();
  const { checkpoints } = model;
  const count = checkpoints.selected.size;
  const clear = trans.__('Select none');
  const button = (command: string, label: string, enabled = true): React.ReactElement => (
    <Button minimal small disabled={!enabled} onClick={() => void commands.execute(command)}>
      {label}
    </Button>
  );
  return (
    <div
      className="axon-Table-controls axon-Table-selected"
      role="toolbar"
      aria-label={trans.__('Selected checkpoints')}
    >
      <span role="status">{trans.__('%1 selected', count)}</span>
      {button(CommandIDs.compareCheckpoints, trans.__('Compare'), count === 2)}
      {button(CommandIDs.togglePin, trans.__('Pin'))}
      {button(CommandIDs.editTags, trans.__('Tag…'))}
      {button(CommandIDs.deleteCheckpoints, trans.__('Delete…'))}
      <Button
        minimal
        small
        title={clear}
        aria-label={clear}
        onClick={() => {
          checkpoints.select([]);
        }}
      >
        <closeIcon.react tag="span" width="14px" />
      </Button>
    </div>
  );
}
