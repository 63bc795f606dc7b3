/** The columns of the table of checkpoints. */

import type { TranslationBundle } from '@jupyterlab/translation';
import type { ColumnDef, Row } from '@tanstack/react-table';
import * as React from 'react';

import type { CheckpointList } from '../checkpoints.ts';
import { pinnedIcon, pinIcon, starIcon } from '../icons.ts';
import { formatTime, runLabel } from '../labels.ts';
import { formatBytes, formatNumber } from '../pure/metrics.ts';
import type { ICheckpointRow } from '../pure/rows.ts';
import { TimeAgo } from './context.tsx';

/** Horizontal padding of a cell in pixels. */
const PADDING = 10;

declare module '@tanstack/react-table' {
  // The names of the type parameters must be those of the library.
  // eslint-disable-next-line @typescript-eslint/no-unused-vars
  interface ColumnMeta<TData, TValue> {
    /** Width in digits and pixels. */
    width: readonly [digits: number, pixels: number];
    /** Whether the column gets a share of the remaining width. */
    grows?: boolean;
    isNumber?: boolean;
    /** Whether checkpoints are ranked by this metric. */
    isRanking?: boolean;
    tooltip?: (row: ICheckpointRow) => string | undefined;
  }
}

export type Column = ColumnDef<ICheckpointRow>;

/** Return the CSS grid template of a row and its smallest width. */
export function gridStyle(columns: readonly Column[]): React.CSSProperties {
  const css = (digits: number, pixels: number): string => `calc(${digits}ch + ${pixels}px)`;
  const sum = [0, 0] as [number, number];
  const template = columns.map(({ meta }) => {
    const [digits, pixels] = meta?.width ?? [0, 0];
    sum[0] += digits;
    sum[1] += pixels;
    const width = css(digits, pixels);
    return meta?.grows === true ? `minmax(${width}, 1fr)` : width;
  });
  return { gridTemplateColumns: template.join(' '), minWidth: css(...sum) };
}

export function createColumns(
  checkpoints: CheckpointList,
  trans: TranslationBundle,
  onPin: (row: ICheckpointRow) => void
): Column[] {
  const { best, ranking, metrics, rows, runOrder, runs } = checkpoints;
  const integer = (key: 'epoch' | 'step', title: string): Column => {
    const largest = rows.reduce((max, row) => Math.max(max, row[key]), 0);
    return {
      id: key,
      header: title,
      accessorFn: row => row[key],
      sortingFn: compareRows,
      meta: { width: [Math.max(5, String(largest).length), PADDING], isNumber: true },
      cell: ({ row }) => row.original[key]
    };
  };
  const metric = (name: string): Column => ({
    id: `metric ${name}`,
    header: name,
    // NaN is sorted like a missing value: last.
    accessorFn: row => (Number.isNaN(row.metrics[name]) ? undefined : row.metrics[name]),
    sortingFn: compareRows,
    sortUndefined: 'last',
    meta: {
      width: [7, PADDING],
      grows: true,
      isNumber: true,
      isRanking: name === ranking?.metric,
      tooltip: row => row.metrics[name]?.toString()
    },
    cell: ({ row }) => {
      const value = row.original.metrics[name];
      return value === undefined ? '' : formatNumber(value);
    }
  });
  const others = metrics.filter(name => name !== ranking?.metric);
  return [
    {
      id: 'pinned',
      header: trans.__('pin'),
      accessorFn: row => (row.detail?.pinned === true ? 1 : 0),
      sortingFn: compareRows,
      meta: { width: [0, 38] },
      cell: ({ row: { original: row } }) => (
        <Marks row={row} isBest={row.id === best} trans={trans} onPin={onPin} />
      )
    },
    integer('epoch', trans.__('epoch')),
    integer('step', trans.__('step')),
    ...(ranking === undefined ? others : [ranking.metric, ...others]).map(metric),
    {
      id: 'run',
      header: trans.__('run'),
      accessorFn: row => runOrder.indexOf(row.runId),
      sortingFn: compareRows,
      sortDescFirst: false,
      meta: {
        width: [6, 26],
        tooltip: row => `${runLabel(trans, runs, row.runId)} (${row.runId})`
      },
      cell: ({ row }) => (
        <>
          <span className="axon-Legend-colour" aria-hidden="true" />
          {runLabel(trans, runs, row.original.runId)}
        </>
      )
    },
    {
      id: 'tags',
      header: trans.__('tags'),
      meta: { width: [12, PADDING], grows: true, tooltip: row => row.detail?.tags.join(', ') },
      cell: ({ row }) =>
        row.original.detail?.tags.map(tag => (
          <span key={tag} className="axon-Tag">
            {tag}
          </span>
        ))
    },
    {
      id: 'created',
      header: trans.__('created'),
      accessorFn: row => row.createdAt,
      sortingFn: compareRows,
      meta: { width: [12, PADDING], tooltip: row => formatTime(row.createdAt) },
      cell: ({ row }) => <TimeAgo time={row.original.createdAt} trans={trans} />
    },
    {
      id: 'state',
      header: trans.__('state'),
      meta: { width: [8, PADDING] },
      cell: ({ row }) => stateLabel(row.original, trans)
    }
  ];
}

/** Compare two rows by the value of a column, then by epoch and step. */
function compareRows(a: Row<ICheckpointRow>, b: Row<ICheckpointRow>, columnId: string): number {
  const valueA = a.getValue<number | string>(columnId);
  const valueB = b.getValue<number | string>(columnId);
  if (valueA !== valueB) {
    return valueA < valueB ? -1 : 1;
  }
  return a.original.epoch - b.original.epoch || a.original.step - b.original.step;
}

function stateLabel({ detail }: ICheckpointRow, trans: TranslationBundle): string {
  if (detail === undefined) {
    return '';
  }
  if (detail.pruned_at !== undefined) {
    return trans.__('pruned');
  }
  const bytes = Object.values(detail.sizes ?? {}).reduce((sum, size) => sum + size, 0);
  return detail.model_state_path === '' ? trans.__('none') : formatBytes(bytes);
}

interface IMarksProps {
  row: ICheckpointRow;
  isBest: boolean;
  trans: TranslationBundle;
  onPin: (row: ICheckpointRow) => void;
}

/** The pin of a checkpoint, and the star of the best one. */
function Marks({ row, isBest, trans, onPin }: IMarksProps): React.ReactElement {
  const isPinned = row.detail?.pinned === true;
  const label = isPinned ? trans.__('Unpin') : trans.__('Pin');
  const icon = isPinned ? pinnedIcon : pinIcon;
  return (
    <>
      <button
        type="button"
        tabIndex={-1}
        className="axon-Pin"
        aria-pressed={isPinned}
        aria-label={label}
        title={label}
        onClick={() => onPin(row)}
      >
        <icon.react tag="span" width="14px" />
      </button>
      {isBest && (
        <span role="img" aria-label={trans.__('Best')} title={trans.__('Best')}>
          <starIcon.react tag="span" width="15px" />
        </span>
      )}
    </>
  );
}
