/** The details of one run beside the table. */

import { Button, closeIcon, historyIcon, linkIcon, notebookIcon } from '@jupyterlab/ui-components';
import type { LabIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CommandIDs, RunCommandIDs } from '../ids.ts';
import { configSourceLabel, formatTime } from '../labels.ts';
import { formatBytes, formatNumber, toNumber } from '../pure/metrics.ts';
import { formatDuration } from '../pure/duration.ts';
import { duration } from '../pure/runs.ts';
import type { IRunRow } from '../records.ts';
import { StatusBadge } from '../widgets/status.tsx';
import { usePage } from './context.ts';

export function RunDetails(): React.ReactElement | null {
  const { model, trans, commands } = usePage();
  const run = model.details;
  const root = React.useRef<HTMLElement>(null);
  const id = run?.id;
  React.useEffect(() => {
    root.current?.focus();
  }, [id]);
  if (run === undefined) {
    return null;
  }
  const args = { ids: [run.id] };
  const close = trans.__('Close');
  const action = (
    icon: LabIcon,
    label: string,
    command: string,
    commandArgs: Record<string, string | string[]> = args
  ): React.ReactElement => (
    <Button
      minimal
      small
      disabled={!commands.isEnabled(command, commandArgs)}
      title={commands.caption(command, commandArgs)}
      onClick={() => void commands.execute(command, commandArgs)}
    >
      <icon.react tag="span" width="14px" />
      {label}
    </Button>
  );
  return (
    <section
      ref={root}
      className="axon-RunDetails"
      aria-label={trans.__('Details of %1', run.name)}
      data-run-id={run.id}
      tabIndex={-1}
      onKeyDown={event => {
        if (event.key === 'Escape') {
          event.stopPropagation();
          model.showDetails(undefined);
        }
      }}
    >
      <header>
        <h2 title={run.run_id}>{run.name}</h2>
        <StatusBadge status={run.status} trans={trans} />
        <Button
          minimal
          small
          title={close}
          aria-label={close}
          onClick={() => model.showDetails(undefined)}
        >
          <closeIcon.react tag="span" width="14px" />
        </Button>
      </header>
      <div className="axon-RunDetails-actions">
        {action(historyIcon, trans.__('Version that ran'), CommandIDs.openRunVersion, {
          notebook: run.notebook_id,
          run: run.run_id
        })}
        {action(notebookIcon, trans.__('Notebook'), RunCommandIDs.openNotebook)}
        {action(linkIcon, trans.__('Copy link'), RunCommandIDs.copyLink)}
      </div>
      <Facts run={run} />
      <Reasons run={run} />
      <Labels run={run} />
      <Metrics run={run} />
      <Config run={run} />
    </section>
  );
}

function Facts({ run }: { run: IRunRow }): React.ReactElement {
  const { model, trans } = usePage();
  const notebook = model.notebook(run.notebook_id);
  const seconds = duration(run);
  const facts: [string, string | undefined][] = [
    [trans.__('Notebook'), notebook?.path ?? notebook?.name],
    [trans.__('Number'), run.number?.toString()],
    [trans.__('Started'), formatTime(run.started_at)],
    [trans.__('Duration'), seconds === undefined ? undefined : formatDuration(seconds)],
    [trans.__('Steps'), run.step_count?.toString()],
    [
      trans.__('Checkpoints'),
      run.checkpoint_count === 0
        ? trans.__('none')
        : run.pinned_count === 0
          ? trans.__('%1, %2', run.checkpoint_count, formatBytes(run.size))
          : trans.__(
              '%1 (%2 pinned), %3',
              run.checkpoint_count,
              run.pinned_count,
              formatBytes(run.size)
            )
    ]
  ];
  return (
    <dl>
      {facts.map(([name, value]) =>
        value === undefined ? null : (
          <React.Fragment key={name}>
            <dt>{name}</dt>
            <dd title={value}>{value}</dd>
          </React.Fragment>
        )
      )}
    </dl>
  );
}

/** Whether the run can be reproduced, and why not. */
function Reasons({ run }: { run: IRunRow }): React.ReactElement | null {
  const { model, trans } = usePage();
  const found = model.reproducibility(run.id);
  if (found === undefined) {
    return null;
  }
  const { checkpoint_id, is_recorded, flags } = found;
  return (
    <section aria-label={trans.__('Reproducibility')}>
      <h3>{trans.__('Reproducibility')}</h3>
      {flags.length === 0 ? (
        <p>
          {checkpoint_id === undefined
            ? trans.__('Unknown: the run has no checkpoint.')
            : !is_recorded
              ? trans.__('Unknown: what was executed is not recorded.')
              : trans.__('✓ Nothing suggests that the result cannot be reproduced.')}
        </p>
      ) : (
        <ul>
          {flags.map(({ message }, index) => (
            <li key={index}>{message}</li>
          ))}
        </ul>
      )}
    </section>
  );
}

/** Tags, group and notes, which can be edited. */
function Labels({ run }: { run: IRunRow }): React.ReactElement {
  const { commands, trans } = usePage();
  const args = { ids: [run.id] };
  const edit = (command: string, label: string): React.ReactElement => (
    <Button
      minimal
      small
      className="axon-Link"
      aria-label={`${trans.__('Edit…')} ${label}`}
      onClick={() => void commands.execute(command, args)}
    >
      {trans.__('Edit…')}
    </Button>
  );
  return (
    <dl>
      {run.group !== undefined && (
        <>
          <dt>{trans.__('Group')}</dt>
          <dd>{run.group}</dd>
        </>
      )}
      <dt>{trans.__('Tags')}</dt>
      <dd>
        {run.tags.map(tag => (
          <span key={tag} className="axon-Tag">
            {tag}
          </span>
        ))}
        {edit(RunCommandIDs.editTags, trans.__('Tags'))}
      </dd>
      <dt>{trans.__('Notes')}</dt>
      <dd className="axon-RunDetails-notes">
        {run.notes}
        {edit(RunCommandIDs.editNotes, trans.__('Notes'))}
      </dd>
    </dl>
  );
}

function Metrics({ run }: { run: IRunRow }): React.ReactElement | null {
  const { model, trans } = usePage();
  const metrics = Object.entries(run.metrics);
  if (metrics.length === 0) {
    return null;
  }
  const text = (value: unknown): string => {
    const number = toNumber(value);
    return number === undefined ? '' : formatNumber(number);
  };
  return (
    <section aria-label={trans.__('Metrics')}>
      <h3>{trans.__('Metrics')}</h3>
      <table>
        <thead>
          <tr>
            <th scope="col">{trans.__('metric')}</th>
            <th scope="col">{trans.__('last')}</th>
            <th scope="col">{trans.__('min')}</th>
            <th scope="col">{trans.__('max')}</th>
          </tr>
        </thead>
        <tbody>
          {metrics.map(([name, { last, min, max }]) => {
            const best = model.direction(name);
            return (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>{text(last)}</td>
                <td className={best === 'min' ? 'axon-mod-best' : ''}>{text(min)}</td>
                <td className={best === 'max' ? 'axon-mod-best' : ''}>{text(max)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

function Config({ run }: { run: IRunRow }): React.ReactElement | null {
  const { trans } = usePage();
  const entries = Object.entries(run.config);
  const source = configSourceLabel(trans, run);
  if (entries.length === 0) {
    return null;
  }
  return (
    <section aria-label={trans.__('Configuration')}>
      <h3>
        {trans.__('Configuration')}
        {source !== undefined && <small>{` ${source}`}</small>}
      </h3>
      <dl className="axon-RunDetails-config">
        {entries.map(([key, value]) => (
          <React.Fragment key={key}>
            <dt>{key}</dt>
            <dd>{typeof value === 'string' ? value : JSON.stringify(value)}</dd>
          </React.Fragment>
        ))}
      </dl>
    </section>
  );
}
