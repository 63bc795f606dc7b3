/** The header of the panel: a card with the state of the training, problems and reproducibility. */

import { Button, launchIcon, refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { checkIcon, starIcon, warningIcon } from '../icons.ts';
import { CommandIDs, RunCommandIDs } from '../ids.ts';
import { flagLabel, formatTime, formatTimeAgo, runLabel } from '../labels.ts';
import { whereNotebook } from '../pure/curves.ts';
import { formatDuration } from '../pure/duration.ts';
import { sizeOf } from '../pure/filter.ts';
import { formatBytes, formatNumber } from '../pure/metrics.ts';
import { bestRun } from '../pure/summary.ts';
import type { IFlag, IRun } from '../records.ts';
import { usePanel, useTimedText } from './context.tsx';
import { RankingSelect } from './ranking.tsx';
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
        {record !== undefined && commands.hasCommand(RunCommandIDs.open) && (
          <Button
            minimal
            small
            title={trans.__('Open in Training Runs')}
            aria-label={trans.__('Open in Training Runs')}
            onClick={() =>
              void commands.execute(RunCommandIDs.open, { where: whereNotebook(record.id) })
            }
          >
            <launchIcon.react tag="span" width="14px" height="14px" />
          </Button>
        )}
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
      <Best />
      <Facts />
      <Origin />
      <Problem />
      <NoRecord />
      <Reproducibility />
    </div>
  );
}

/** The best value of the chosen metric, and where it is. */
function Best(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { checkpoints } = model;
  const { ranking, runs } = checkpoints;
  if (ranking === undefined) {
    return null;
  }
  const row = checkpoints.row(checkpoints.best ?? '');
  const logged = bestRun(runs.values(), ranking);
  const value = row?.metrics[ranking.metric] ?? logged?.value;
  const place =
    row !== undefined
      ? trans.__('%1, epoch %2', runLabel(trans, runs, row.runId), row.epoch)
      : logged && trans.__('%1, step %2', runLabel(trans, runs, logged.run.id), logged.step);
  return (
    <div className="axon-Header-best">
      <span title={trans.__('Best')} role="img" aria-label={trans.__('Best')}>
        <starIcon.react tag="span" width="15px" />
      </span>
      <RankingSelect />
      <strong title={value?.toString()}>{value !== undefined && formatNumber(value)}</strong>
      {row !== undefined ? (
        <Button
          minimal
          small
          className="axon-Link"
          title={trans.__('Show the best checkpoint (%1)', place)}
          onClick={() => checkpoints.reveal(row.id)}
        >
          {place}
        </Button>
      ) : (
        <span title={place}>{place}</span>
      )}
    </div>
  );
}

/** How long the newest run has taken, the size on disk, and when the notebook was synced. */
function Facts(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { record, checkpoints } = model;
  const { rows, runs } = checkpoints;
  const bytes = React.useMemo(() => rows.reduce((sum, row) => sum + (sizeOf(row) ?? 0), 0), [rows]);
  if (record === undefined) {
    return null;
  }
  const newest = newestRun(runs.values());
  return (
    <p className="axon-Header-facts">
      {newest !== undefined && <Elapsed run={newest} label={runLabel(trans, runs, newest.id)} />}
      {bytes > 0 && (
        <span title={trans.__('Size of all state files of this notebook')}>
          {formatBytes(bytes)}
        </span>
      )}
      <Synced time={record.synced_at} />
    </p>
  );
}

function newestRun(runs: Iterable<IRun>): IRun | undefined {
  let newest: IRun | undefined;
  for (const run of runs) {
    if (newest === undefined || run.started_at > newest.started_at) {
      newest = run;
    }
  }
  return newest;
}

function Elapsed({ run, label }: { run: IRun; label: string }): React.ReactElement {
  const { trans } = usePanel();
  const { started_at: start, ended_at: end, status } = run;
  const text = useTimedText(() => {
    const now = end === undefined ? Date.now() : new Date(end).getTime();
    return formatDuration((now - new Date(start).getTime()) / 1000);
  });
  const title =
    status === 'running'
      ? trans.__('%1 has been running since %2', label, formatTime(start))
      : trans.__('Duration of %1, started %2', label, formatTime(start));
  return <span title={title}>{text}</span>;
}

function Synced({ time }: { time: string | undefined }): React.ReactElement {
  const { trans } = usePanel();
  const text = useTimedText(() =>
    time === undefined
      ? trans.__('never synced')
      : trans.__('synced %1', formatTimeAgo(trans, time))
  );
  return (
    <span
      title={
        time === undefined
          ? undefined
          : trans.__('Last save that was recorded: %1', formatTime(time))
      }
    >
      {text}
    </span>
  );
}

/** The notebook of which this one is a copy. */
function Origin(): React.ReactElement | null {
  const { model, trans, commands } = usePanel();
  const { origin } = model;
  if (origin === undefined) {
    return null;
  }
  const { name, path } = origin;
  return (
    <p className="axon-Header-facts">
      <span>
        {name === undefined ? (
          trans.__('Copied from a notebook that you cannot see')
        ) : path === undefined ? (
          trans.__('Copied from %1', name)
        ) : (
          <>
            {trans.__('Copied from')}{' '}
            <Button
              minimal
              small
              className="axon-Link"
              title={trans.__('Open %1', path)}
              onClick={() => void commands.execute('docmanager:open', { path })}
            >
              {name}
            </Button>
          </>
        )}
      </span>
    </p>
  );
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

/** Reasons why the selected checkpoint, else the newest one, may not be reproducible, as a line that expands. */
function Reproducibility(): React.ReactElement | null {
  const { model, trans, commands } = usePanel();
  const { checkpoints, record, reproducibility } = model;
  const row = checkpoints.row(reproducibility?.checkpointId ?? '');
  if (reproducibility === undefined || row === undefined) {
    return null;
  }
  const { flags, isKnown } = reproducibility;
  const run = runLabel(trans, checkpoints.runs, row.runId);
  const place =
    row.id === checkpoints.newest?.id
      ? trans.__('newest checkpoint: %1, epoch %2', run, row.epoch)
      : trans.__('selected checkpoint: %1, epoch %2', run, row.epoch);
  if (flags.length === 0) {
    return !isKnown ? null : (
      <p className="axon-Reproducibility" title={place}>
        <checkIcon.react tag="span" width="14px" />
        <span>{trans.__('No reproducibility problems')}</span> <small>{place}</small>
      </p>
    );
  }
  const version = row.detail?.version_id;
  return (
    <details key={row.id} className="axon-Reproducibility">
      <summary title={place}>
        <warningIcon.react tag="span" width="14px" />
        <span>
          {trans._n(
            'May not be reproducible: %1 reason',
            'May not be reproducible: %1 reasons',
            flags.length
          )}
        </span>{' '}
        <small>{place}</small>
      </summary>
      <ul>
        {flags.map((flag, index) => (
          <Flag key={index} flag={flag} />
        ))}
      </ul>
      {version !== undefined && version !== record?.version_id && (
        <Button
          minimal
          small
          className="axon-Link"
          onClick={() =>
            void commands.execute(CommandIDs.compareVersions, {
              from: version,
              to: record?.version_id ?? ''
            })
          }
        >
          {trans.__('Show what changed')}
        </Button>
      )}
    </details>
  );
}

/** The beginning of the server's messages about a cell: `Cell 3 (In [7])`. */
const CELL_NAME = /^Cell \d+(?: \(In [^)]*\))?/;

/** Why a checkpoint may not be reproducible, with a link to the cell. */
function Flag({ flag }: { flag: IFlag }): React.ReactElement {
  const { model, trans, commands } = usePanel();
  const cells = model.record?.cells ?? [];
  const index = cells.findIndex(({ id }) => id === flag.cell_id);
  const [name = ''] = CELL_NAME.exec(flag.message) ?? [];
  return (
    <li>
      {index < 0 ? (
        name
      ) : (
        <Button
          minimal
          small
          className="axon-Link"
          onClick={() => void commands.execute(CommandIDs.goToCell, { cell: flag.cell_id ?? '' })}
        >
          {name || trans.__('Cell %1', index + 1)}
        </Button>
      )}{' '}
      {flag.message === '' ? flagLabel(trans, flag.kind) : flag.message.slice(name.length).trim()}
    </li>
  );
}
