/** The columns of the table of checkpoints. */

import type { TranslationBundle } from '@jupyterlab/translation';
import type { ColumnDef, Row } from '@tanstack/react-table';
import * as React from 'react';

import type { CheckpointList } from '../checkpoints.ts';
import { pinnedIcon, pinIcon, starIcon } from '../icons.ts';
import { formatTime, formatTimeAgo, runLabel } from '../labels.ts';
import type { Cell } from '../pure/columns.ts';
import { fitColumns, redundantColumns, sample } from '../pure/columns.ts';
import { sizeOf } from '../pure/filter.ts';
import { formatBytes, formatNumber } from '../pure/metrics.ts';
import type { ICheckpointRow } from '../pure/rows.ts';
import { TimeAgo } from './context.tsx';
import type { IMeasure } from './measure.ts';
import { textWidth } from './measure.ts';

/** Horizontal padding of a cell in pixels, with room for the rounding of widths. */
const PADDING = 12;
/** Width of the mark of the column by which the rows are sorted. */
const SORT_MARK = 12;
/** Number of rows whose texts are measured. */
const MEASURED_ROWS = 300;
/** Widest column in pixels unless there is room left, and widest column of texts that may be cut. */
const MAX_WIDTH = 150;
const MAX_TEXT_WIDTH = 88;

declare module '@tanstack/react-table' {
  // The names of the type parameters must be those of the library.
  // eslint-disable-next-line @typescript-eslint/no-unused-vars
  interface ColumnMeta<TData, TValue> {
    /** Name in the settings; missing for columns that are always shown. */
    key?: string;
    /** Columns with lower numbers are shown first if there is not room for all. */
    priority: number;
    /** Width in pixels that does not depend on the texts. */
    width: number;
    /** The text of a row, from which the width follows. */
    text?: (row: ICheckpointRow) => string;
    isNumber?: boolean;
    /** Whether checkpoints are ranked by this metric. */
    isRanking?: boolean;
    tooltip?: (row: ICheckpointRow) => string | undefined;
  }
}

export type Column = ColumnDef<ICheckpointRow>;

/** Return the columns in their order. */
export function createColumns(
  checkpoints: CheckpointList,
  trans: TranslationBundle,
  onPin: (row: ICheckpointRow) => void
): Column[] {
  const { best, ranking, metrics, runOrder, runs } = checkpoints;
  const integer = (key: 'epoch' | 'step', title: string): Column => ({
    id: key,
    header: title,
    accessorFn: row => row[key],
    sortingFn: compareRows,
    meta: { key, priority: 1, width: PADDING, isNumber: true, text: row => String(row[key]) },
    cell: ({ row }) => row.original[key]
  });
  // A metric may have the name of another column.
  const metric = (name: string, index: number): Column => {
    const text = (row: ICheckpointRow): string => {
      const value = row.metrics[name];
      return value === undefined ? '' : formatNumber(value);
    };
    const isRanking = name === ranking?.metric;
    return {
      id: `metric ${name}`,
      header: name,
      // NaN is sorted like a missing value: last.
      accessorFn: row => (Number.isNaN(row.metrics[name]) ? undefined : row.metrics[name]),
      sortingFn: compareRows,
      sortUndefined: 'last',
      meta: {
        ...(isRanking ? {} : { key: `metrics.${name}` }),
        priority: isRanking ? 0 : 5 + index,
        width: PADDING,
        isNumber: true,
        isRanking,
        text,
        tooltip: row => row.metrics[name]?.toString()
      },
      cell: ({ row }) => text(row.original)
    };
  };
  const first = metrics.filter(name => name === ranking?.metric);
  const others = metrics.filter(name => name !== ranking?.metric);
  return [
    {
      id: 'select',
      header: trans.__('selected'),
      enableSorting: false,
      meta: { priority: 0, width: 28 }
    },
    {
      id: 'pinned',
      header: trans.__('pin'),
      accessorFn: row => (row.detail?.pinned === true ? 1 : 0),
      sortingFn: compareRows,
      meta: { priority: 0, width: 38 },
      cell: ({ row: { original: row } }) => (
        <Marks row={row} isBest={row.id === best} trans={trans} onPin={onPin} />
      )
    },
    integer('epoch', trans.__('epoch')),
    integer('step', trans.__('step')),
    ...[...first, ...others].map(metric),
    {
      id: 'run',
      header: trans.__('run'),
      accessorFn: row => runOrder.indexOf(row.runId),
      sortingFn: compareRows,
      sortDescFirst: false,
      meta: {
        key: 'run',
        priority: 2,
        width: PADDING + 18,
        text: row => runLabel(trans, runs, row.runId),
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
      enableSorting: false,
      meta: {
        key: 'tags',
        priority: 3,
        width: PADDING + 16,
        text: tagsText,
        tooltip: tagsText
      },
      cell: ({ row }) =>
        row.original.detail?.tags.map(tag => (
          <span key={tag} className="axon-Tag">
            {tag}
          </span>
        ))
    },
    {
      id: 'size',
      header: trans.__('size'),
      accessorFn: sizeOf,
      sortingFn: compareRows,
      sortUndefined: 'last',
      meta: {
        key: 'size',
        priority: 4,
        width: PADDING,
        isNumber: true,
        text: row => sizeLabel(row, trans),
        tooltip: ({ detail }) =>
          detail?.pruned_at === undefined
            ? undefined
            : trans.__('The state files were pruned %1', formatTime(detail.pruned_at))
      },
      cell: ({ row }) => sizeLabel(row.original, trans)
    },
    {
      id: 'created',
      header: trans.__('created'),
      accessorFn: row => row.createdAt,
      sortingFn: compareRows,
      meta: {
        key: 'created',
        priority: 1000,
        width: PADDING,
        text: row => formatTimeAgo(trans, row.createdAt),
        tooltip: row => formatTime(row.createdAt)
      },
      cell: ({ row }) => <TimeAgo time={row.original.createdAt} trans={trans} />
    },
    {
      id: 'menu',
      header: trans.__('actions'),
      enableSorting: false,
      meta: { priority: 0, width: 28 }
    }
  ];
}

/** A table's columns that are shown, with their widths in pixels. */
export interface IShownColumns {
  /** The ids of the columns. */
  ids: ReadonlySet<string>;
  /** The CSS grid template of a row and its smallest width. */
  style: React.CSSProperties;
}

/**
 * Return which columns to show: the chosen ones, or else those that tell something and fit.
 *
 * Widths follow from the texts, and room that is left is shared.
 */
export function showColumns(
  columns: readonly Column[],
  rows: readonly ICheckpointRow[],
  { width: available, font }: IMeasure,
  chosen: readonly string[],
  sortedBy: string | undefined
): IShownColumns {
  const measured = sample(rows, MEASURED_ROWS);
  const sized = columns.map(column => {
    const { id = '', header, meta } = column;
    const title = id === sortedBy ? SORT_MARK : 0;
    const { priority = 0, key, width = 0, text } = meta ?? {};
    const texts = text === undefined ? [] : [longest(measured.map(text))];
    const widths = texts.map(one => textWidth(one, font) + width);
    if (text !== undefined) {
      widths.push(textWidth(String(header), font) + title + PADDING);
    }
    const widest = meta?.isNumber === true || id === 'created' ? MAX_WIDTH : MAX_TEXT_WIDTH;
    const fitted = text === undefined ? width : Math.min(widest, Math.max(...widths));
    return { key: id, name: key, width: Math.ceil(fitted), priority };
  });
  const redundant = redundantColumns(columns.flatMap(toValues), rows);
  if (rows.every(({ runId }) => runId === rows[0]?.runId)) {
    redundant.add('run');
  }
  const fixed = sized.filter(({ name }) => name === undefined);
  const optional = sized.filter(({ key, name }) => name !== undefined && !redundant.has(key));
  const rest = available - fixed.reduce((sum, { width }) => sum + width, 0);
  const ids =
    chosen.length === 0
      ? fitColumns(optional, rest)
      : new Set(sized.filter(({ name = '' }) => chosen.includes(name)).map(({ key }) => key));
  const shown = sized.filter(({ key, name }) => name === undefined || ids.has(key));
  const template = shown.map(({ key, width }) =>
    hasText(columns, key) ? `minmax(${width}px, ${width}fr)` : `${width}px`
  );
  return {
    ids: new Set(shown.map(({ key }) => key)),
    style: {
      gridTemplateColumns: template.join(' '),
      minWidth: shown.reduce((sum, { width }) => sum + width, 0)
    }
  };
}

function hasText(columns: readonly Column[], id: string): boolean {
  return columns.find(column => column.id === id)?.meta?.text !== undefined;
}

/** Return how to compare the values of a column with those of another. */
function toValues({
  id = '',
  meta
}: Column): { key: string; value: (row: ICheckpointRow) => Cell }[] {
  const name = id.startsWith('metric ') ? id.slice('metric '.length) : undefined;
  if (name !== undefined) {
    return [{ key: id, value: row => row.metrics[name] }];
  }
  switch (id) {
    case 'epoch':
    case 'step':
      return [{ key: id, value: row => row[id] }];
    case 'tags':
    case 'size':
      return [{ key: id, value: row => meta?.text?.(row) }];
    default:
      return [];
  }
}

function longest(texts: readonly string[]): string {
  return texts.reduce((longest, text) => (text.length > longest.length ? text : longest), '');
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

function tagsText({ detail }: ICheckpointRow): string {
  return detail?.tags.join(', ') ?? '';
}

function sizeLabel(row: ICheckpointRow, trans: TranslationBundle): string {
  const size = sizeOf(row);
  return size !== undefined
    ? formatBytes(size)
    : row.detail?.pruned_at !== undefined
      ? trans.__('pruned')
      : '';
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
