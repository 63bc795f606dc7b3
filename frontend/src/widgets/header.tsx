/** The header of the panel: name, status, problems and reproducibility. */

import { Button, refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CommandIDs } from '../ids.ts';
import { flagLabel, formatTime, runLabel } from '../labels.ts';
import type { IFlag } from '../records.ts';
import { usePanel, useTimeAgo } from './context.tsx';
import { StatusBadge } from './status.tsx';

export function Header(): React.ReactElement {
  const { model, trans, commands } = usePanel();
  const { record } = model;
  const fileName = model.path.slice(model.path.lastIndexOf('/') + 1);
  return (
    <div className="axon-Header">
      <div className="axon-Header-title">
        <h2 title={model.path}>{record?.name ?? fileName.replace(/\.ipynb$/, '')}</h2>
        {record !== undefined && <StatusBadge status={record.status} trans={trans} />}
        <Button
          minimal
          small
          title={trans.__('Refresh')}
          aria-label={trans.__('Refresh')}
          onClick={() => void commands.execute(CommandIDs.refresh)}
        >
          <refreshIcon.react tag="span" />
        </Button>
      </div>
      <Facts />
      <Problem />
      <NoRecord />
      <Reproducibility />
    </div>
  );
}

function Facts(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { record } = model;
  if (record === undefined) {
    return null;
  }
  const { framework } = record.metadata;
  return (
    <p className="axon-Header-facts">
      {record.synced_at === undefined ? (
        trans.__('never synced')
      ) : (
        <Synced time={record.synced_at} />
      )}
      {` · ${trans._n('%1 cell', '%1 cells', record.cell_count)}`}
      {framework !== undefined && ` · ${framework}`}
    </p>
  );
}

function Synced({ time }: { time: string }): React.ReactElement {
  const { trans } = usePanel();
  return <span title={formatTime(time)}>{trans.__('synced %1', useTimeAgo(trans, time))}</span>;
}

function Problem(): React.ReactElement {
  const { model, trans } = usePanel();
  const { problem } = model;
  return (
    <div role="status">
      {problem !== undefined && (
        <p className="axon-Notice">
          {problem.kind === 'unreachable'
            ? trans.__(
                'The server cannot be reached since %1. Showing the last known data; reconnecting…',
                problem.since.toLocaleTimeString()
              )
            : problem.kind === 'extension missing'
              ? problem.message
              : trans.__('The server could not answer: %1', problem.message)}
        </p>
      )}
    </div>
  );
}

function NoRecord(): React.ReactElement | null {
  const { model, trans, commands } = usePanel();
  if (!model.isLoaded || model.record !== undefined) {
    return null;
  }
  return (
    <div className="axon-Empty">
      <p>{trans.__('This notebook has no record yet. It gets one when you save it or train.')}</p>
      <button
        type="button"
        className="jp-mod-styled jp-mod-accept"
        onClick={() => void commands.execute(CommandIDs.record)}
      >
        {trans.__('Save and start recording')}
      </button>
    </div>
  );
}

/** Reasons why the selected checkpoint, else the newest one, may not be reproducible. */
function Reproducibility(): React.ReactElement | null {
  const { model, trans, commands } = usePanel();
  const { checkpoints, record, reproducibility } = model;
  const row = checkpoints.row(reproducibility?.checkpointId ?? '');
  if (reproducibility === undefined || row === undefined || reproducibility.flags.length === 0) {
    return null;
  }
  const { flags } = reproducibility;
  const run = runLabel(trans, checkpoints.runs, row.runId);
  const kinds = [...new Set(flags.map(flag => flag.kind))];
  const isMinor = kinds.every(kind => kind === 'rerun');
  return (
    <details
      key={row.id}
      className={`axon-Notice axon-Reproducibility${isMinor ? ' axon-mod-minor' : ''}`}
      open={!isMinor}
    >
      <summary>
        {row.id === checkpoints.newest?.id
          ? trans.__('The newest checkpoint (%1, epoch %2) may not be reproducible', run, row.epoch)
          : trans.__(
              'The selected checkpoint (%1, epoch %2) may not be reproducible',
              run,
              row.epoch
            )}
      </summary>
      <ul>
        {kinds.map(kind => (
          <Flags key={kind} kind={kind} flags={flags.filter(flag => flag.kind === kind)} />
        ))}
      </ul>
      <Button
        minimal
        small
        className="axon-Link"
        disabled={row.detail?.version_id === record?.version_id}
        onClick={() =>
          void commands.execute(CommandIDs.compareVersions, {
            from: row.detail?.version_id ?? '',
            to: record?.version_id ?? ''
          })
        }
      >
        {trans.__('Show what changed')}
      </Button>
    </details>
  );
}

/** The cells with a flag of one kind. */
function Flags({
  kind,
  flags
}: {
  kind: IFlag['kind'];
  flags: readonly IFlag[];
}): React.ReactElement {
  const { model, trans, commands } = usePanel();
  const numbers = new Map(model.record?.cells?.map(({ id }, index) => [id, index + 1]));
  return (
    <li>
      {flags.map(({ cell_id: cell = '' }) => {
        const number = numbers.get(cell);
        return number === undefined ? null : (
          <React.Fragment key={cell}>
            <Button
              minimal
              small
              className="axon-Link"
              onClick={() => void commands.execute(CommandIDs.goToCell, { cell })}
            >
              {trans.__('Cell %1', number)}
            </Button>{' '}
          </React.Fragment>
        );
      })}
      {flagLabel(trans, kind, flags.length)}
    </li>
  );
}
