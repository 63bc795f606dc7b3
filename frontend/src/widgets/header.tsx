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
/** Flags that are shown without being asked for. */
const FEW = 2;

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
          title={trans.__('Look at the server again')}
          aria-label={trans.__('Look at the server again')}
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
                'The server cannot be reached since %1. What is shown is from before; trying again.',
                trouble.since.toLocaleTimeString()
              )
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
      <p>{trans.__('This notebook has no record yet. It gets one when it is saved.')}</p>
      <button
        type="button"
        className="jp-mod-styled jp-mod-accept"
        onClick={() => void commands.execute(CommandIDs.record)}
      >
        {trans.__('Save and record it')}
      </button>
    </div>
  );
}

function Drift(): React.ReactElement | null {
  const { model, trans, commands } = usePanel();
  const { checkpoints, drift, summary } = model;
  const row = drift === undefined ? undefined : checkpoints.row(drift.checkpointId);
  if (drift === undefined || row === undefined || drift.flags.length === 0) {
    return null;
  }
  return (
    <details className="axon-Notice axon-Drift" open={drift.flags.length <= FEW}>
      <summary>
        {trans._n(
          'One thing speaks against the newest checkpoint (%2, epoch %3) coming out again:',
          '%1 things speak against the newest checkpoint (%2, epoch %3) coming out again:',
          drift.flags.length,
          runWord(trans, checkpoints.order, row.runId),
          row.epoch
        )}
      </summary>
      <ul>
        {drift.flags.map((flag, index) => (
          <Flag key={index} flag={flag} />
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

function Flag({ flag }: { flag: IFlag }): React.ReactElement {
  const { model, trans, commands } = usePanel();
  const cell = flag.cell_id;
  const place = (model.notebook?.cells.findIndex(({ id }) => id === cell) ?? -1) + 1;
  return (
    <li>
      {cell !== undefined && place > 0 && (
        <>
          <Button
            minimal
            small
            className="axon-Link"
            onClick={() => void commands.execute(CommandIDs.goToCell, { cell })}
          >
            {trans.__('Cell %1', place)}
          </Button>
          {': '}
        </>
      )}
      {flagWord(trans, flag)}
    </li>
  );
}

export function firstLine(source: string): string {
  return source.trimStart().split('\n', 1)[0] ?? '';
}

function stem(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1).replace(/\.ipynb$/, '');
}
