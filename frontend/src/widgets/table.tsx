/** The section with the table of checkpoints. */

import { Button, closeIcon, FilterBox } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CommandIDs } from '../ids.ts';
import { CHECKPOINT_EXAMPLE } from '../pure/python.ts';
import { filterRows, newestFirst } from '../pure/rows.ts';
import { usePanel } from './context.tsx';
import { Grid } from './grid.tsx';
import { RankingSelect } from './ranking.tsx';

export function CheckpointTable(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { ranking, rows, runs, selected } = model.checkpoints;
  const [query, setQuery] = React.useState('');
  const filtered = React.useMemo(
    () => newestFirst(filterRows(rows, query, runs)),
    [rows, query, runs]
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
          initialQuery={query} // the box is created again with the first checkpoint
          useFuzzyFilter={false}
          updateFilter={(_filter, text) => setQuery(text ?? '')}
        />
      </div>
      {selected.size > 0 ? (
        <SelectionToolbar />
      ) : (
        <div className="axon-Table-controls">
          {ranking !== undefined && <span>{trans.__('Best by')}</span>}
          <RankingSelect />
          <span className="axon-Table-count" role="status">
            {filtered.length === rows.length
              ? trans._n('%1 checkpoint', '%1 checkpoints', rows.length)
              : trans.__('%1 of %2', filtered.length, rows.length)}
          </span>
        </div>
      )}
      {filtered.length > 0 ? (
        <Grid rows={filtered} />
      ) : (
        <p className="axon-Hint">{trans.__('No checkpoint matches this filter.')}</p>
      )}
    </div>
  );
}

/** Commands for the selected checkpoints. */
function SelectionToolbar(): React.ReactElement {
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
      <Button minimal small title={clear} aria-label={clear} onClick={() => checkpoints.select([])}>
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
