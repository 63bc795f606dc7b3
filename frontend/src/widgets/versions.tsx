/** The section with the versions of the notebook. */

import { Button, launchIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { compareIcon } from '../icons.ts';
import { CommandIDs } from '../ids.ts';
import { formatTime } from '../labels.ts';
import { TimeAgo, usePanel } from './context.tsx';

export function Versions(): React.ReactElement | null {
  const { model, trans, commands } = usePanel();
  const { checkpoints, record, versionCount, versions } = model;
  const checkpointCounts = React.useMemo(() => {
    const counts = new Map<string, number>();
    for (const { detail } of checkpoints.rows) {
      if (detail?.version_id !== undefined) {
        counts.set(detail.version_id, (counts.get(detail.version_id) ?? 0) + 1);
      }
    }
    return counts;
  }, [checkpoints.rows]);
  if (record === undefined) {
    return null;
  }
  return (
    <>
      <ol className="axon-Versions" aria-label={trans.__('Versions')}>
        {versions.map(version => {
          const isCurrent = version.id === record.version_id;
          const count = checkpointCounts.get(version.id) ?? 0;
          const cells = trans._n('%1 cell', '%1 cells', version.cell_count);
          const time = formatTime(version.created_at);
          const open = trans.__('Open the version of %1', time);
          const compare = trans.__('Compare the version of %1 with now', time);
          return (
            <li key={version.id} data-version={version.id}>
              <span className="axon-Versions-time">
                {isCurrent ? trans.__('now') : <TimeAgo time={version.created_at} trans={trans} />}
              </span>
              <span className="axon-Versions-content" title={cells}>
                {count > 0 ? trans._n('%1 checkpoint', '%1 checkpoints', count) : cells}
              </span>
              <Button
                minimal
                small
                title={open}
                aria-label={open}
                onClick={() =>
                  void commands.execute(CommandIDs.openVersion, { version: version.id })
                }
              >
                <launchIcon.react tag="span" width="14px" height="14px" />
              </Button>
              <Button
                minimal
                small
                disabled={isCurrent}
                title={compare}
                aria-label={compare}
                onClick={() =>
                  void commands.execute(CommandIDs.compareVersions, {
                    from: version.id,
                    to: record.version_id ?? ''
                  })
                }
              >
                <compareIcon.react tag="span" />
              </Button>
            </li>
          );
        })}
      </ol>
      {versions.length < versionCount && (
        <Button
          minimal
          small
          className="axon-Link"
          onClick={() => void commands.execute(CommandIDs.moreVersions)}
        >
          {trans.__('Show older versions (%1 of %2 shown)', versions.length, versionCount)}
        </Button>
      )}
    </>
  );
}
