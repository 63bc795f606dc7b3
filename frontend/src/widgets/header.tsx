/** The top of the panel: which notebook, how it stands, and what is wrong. */

import { Button, refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CommandIDs } from '../ids.ts';
import type { IFlag } from '../records.ts';
import { usePanel } from './context.ts';
import { StatusBadge } from './status.tsx';
import { flagWord, runWord, timeAgo, timeInFull } from './words.ts';

/** Milliseconds after which times are told anew. */
const TICK = 5000;

export function Header(): React.ReactElement {
  const { model, trans, commands } = usePanel();
  const { summary } = model;
  return (
    <div className="axon-Header">
      <div className="axon-Header-title">
        <h2 title={model.path}>{summary?.name ?? stem(model.path)}</h2>
        {summary !== undefined && <StatusBadge status={summary.status} trans={trans} />}
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
      <Synced />
      <Trouble />
      <NoRecord />
      <Drift />
    </div>
  );
}

function Synced(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const [, tick] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    const timer = setInterval(tick, TICK);
    return () => {
      clearInterval(timer);
    };
  }, []);
  const { summary } = model;
  if (summary === undefined) {
    return null;
  }
  const cells = trans._n('%1 cell', '%1 cells', summary.cell_count);
  const { framework } = summary.metadata;
  return (
    <p className="axon-Header-synced">
      {summary.synced_at === undefined ? (
        trans.__('never synced')
      ) : (
        <span title={timeInFull(summary.synced_at)}>
          {trans.__('synced %1', timeAgo(summary.synced_at))}
        </span>
      )}
      {` · ${cells}`}
      {framework !== undefined && ` · ${framework}`}
    </p>
  );
}

/** A quiet notice; the notebook itself works on. */
function Trouble(): React.ReactElement {
  const { model, trans } = usePanel();
  const { trouble } = model;
  return (
    <div role="status">
      {trouble !== undefined && (
        <p className="axon-Notice">
          {trouble.unreachable
            ? trans.__(
                'The server cannot be reached since %1. Showing the last known data; reconnecting…',
                trouble.since.toLocaleTimeString()
              )
            : trouble.absent
              ? trouble.message
              : trans.__('The server could not answer: %1', trouble.message)}
        </p>
      )}
    </div>
  );
}

function NoRecord(): React.ReactElement | null {
  const { model, trans, commands } = usePanel();
  if (!model.isLoaded || model.summary !== undefined) {
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

/** Why the checkpoint that is selected, or the newest, may not come out of the notebook again. */
function Drift(): React.ReactElement | null {
  const { model, trans, commands } = usePanel();
  const { checkpoints, drift, summary } = model;
  const row = drift === undefined ? undefined : checkpoints.row(drift.checkpointId);
  if (drift === undefined || row === undefined || drift.flags.length === 0) {
    return null;
  }
  const run = runWord(trans, checkpoints.order, row.runId);
  const kinds = [...new Set(drift.flags.map(flag => flag.kind))];
  const isMild = kinds.every(kind => kind === 'rerun');
  return (
    <details
      key={row.id}
      className={`axon-Notice axon-Drift${isMild ? ' axon-mod-mild' : ''}`}
      open={!isMild}
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
          <Flags key={kind} kind={kind} flags={drift.flags.filter(flag => flag.kind === kind)} />
        ))}
      </ul>
      <Button
        minimal
        small
        className="axon-Link"
        disabled={row.detail?.version_id === summary?.version_id}
        onClick={() =>
          void commands.execute(CommandIDs.compareVersions, {
            from: row.detail?.version_id ?? '',
            to: summary?.version_id ?? ''
          })
        }
      >
        {trans.__('Show what changed')}
      </Button>
    </details>
  );
}

interface IFlagsProps {
  kind: IFlag['kind'];
  flags: readonly IFlag[];
}

/** The cells that one thing is to be said of. */
function Flags({ kind, flags }: IFlagsProps): React.ReactElement {
  const { model, trans, commands } = usePanel();
  const places = new Map(model.notebook?.cells.map(({ id }, index) => [id, index + 1]));
  const cells = flags.flatMap(({ cell_id: cell }) => {
    const place = cell === undefined ? undefined : places.get(cell);
    return cell === undefined || place === undefined ? [] : { cell, place };
  });
  return (
    <li>
      {cells.map(({ cell, place }) => (
        <React.Fragment key={cell}>
          <Button
            minimal
            small
            className="axon-Link"
            onClick={() => void commands.execute(CommandIDs.goToCell, { cell })}
          >
            {trans.__('Cell %1', place)}
          </Button>{' '}
        </React.Fragment>
      ))}
      {flagWord(trans, kind, flags.length)}
    </li>
  );
}

export function firstLine(source: string): string {
  return source.trimStart().split('\n', 1)[0] ?? '';
}

function stem(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1).replace(/\.ipynb$/, '');
}
