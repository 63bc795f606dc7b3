/** The columns of the table of checkpoints. */

import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import type { Checkpoints } from '../checkpoints.ts';
import { pinnedIcon, pinIcon, starIcon } from '../icons.ts';
import { formatBytes, formatNumber } from '../pure/metrics.ts';
import type { IRow, SortKey } from '../pure/rows.ts';
import { runWord, timeAgo, timeInFull } from './words.ts';

/** Pixels on both sides of what is in a cell. */
const PADDING = 10;

/** A column's width: so many digits, and so many pixels besides. */
interface IWidth {
  digits: number;
  pixels: number;
}

export interface IColumn {
  key: string;
  title: string;
  width: IWidth;
  /** Whether it takes of the room that is left. */
  grows?: boolean;
  sort?: SortKey;
  isNumber?: boolean;
  /** A metric's column is marked when best is by that metric. */
  isMeasure?: boolean;
  cell: (row: IRow) => React.ReactNode;
  hint?: (row: IRow) => string | undefined;
}

/** A key that tells columns apart by what they sort by. */
export function sortName(key: SortKey): string {
  return typeof key === 'object' ? `metric ${key.metric}` : key;
}

/** The style of a row, and the least width of all of them. */
export function widthsOf(columns: readonly IColumn[]): { template: string; least: string } {
  const css = ({ digits, pixels }: IWidth): string => `calc(${digits}ch + ${pixels}px)`;
  const sum = (of: keyof IWidth): number =>
    columns.reduce((total, { width }) => total + width[of], 0);
  return {
    template: columns
      .map(({ width, grows }) => (grows === true ? `minmax(${css(width)}, 1fr)` : css(width)))
      .join(' '),
    least: css({ digits: sum('digits'), pixels: sum('pixels') })
  };
}

/** The columns of the table. */
export function columnsOf(
  checkpoints: Checkpoints,
  trans: TranslationBundle,
  onPin: (row: IRow) => void
): IColumn[] {
  const { best, measure, metrics, most, order } = checkpoints;
  const sorted =
    measure === undefined
      ? metrics
      : [measure.metric, ...metrics.filter(metric => metric !== measure.metric)];
  const digits = (most: number): number => Math.max(5, String(most).length);
  return [
    {
      key: 'select',
      title: trans.__('selected'),
      width: { digits: 0, pixels: 30 },
      cell: () => null
    },
    {
      key: 'marks',
      title: trans.__('pin'),
      width: { digits: 0, pixels: 38 },
      sort: 'pinned',
      cell: row => <Marks row={row} isBest={row.id === best} trans={trans} onPin={onPin} />
    },
    {
      key: 'epoch',
      title: trans.__('epoch'),
      width: { digits: digits(most.epoch), pixels: PADDING },
      sort: 'epoch',
      isNumber: true,
      cell: row => row.epoch
    },
    {
      key: 'step',
      title: trans.__('step'),
      width: { digits: digits(most.step), pixels: PADDING },
      sort: 'step',
      isNumber: true,
      cell: row => row.step
    },
    ...sorted.map((metric): IColumn => ({
      key: `metric ${metric}`,
      title: metric,
      width: { digits: 7, pixels: PADDING },
      grows: true,
      sort: { metric },
      isNumber: true,
      isMeasure: metric === measure?.metric,
      cell: row => {
        const value = row.metrics[metric];
        return value === undefined ? '' : formatNumber(value);
      },
      hint: row => row.metrics[metric]?.toString()
    })),
    {
      key: 'run',
      title: trans.__('run'),
      width: { digits: 6, pixels: 26 },
      sort: 'run',
      cell: row => (
        <>
          <span className="axon-Legend-colour" aria-hidden="true" />
          {runWord(trans, order, row.runId)}
        </>
      ),
      hint: row => row.runId
    },
    {
      key: 'tags',
      title: trans.__('tags'),
      width: { digits: 12, pixels: PADDING },
      grows: true,
      cell: row =>
        row.detail?.tags.map(tag => (
          <span key={tag} className="axon-Tag">
            {tag}
          </span>
        )),
      hint: row => row.detail?.tags.join(', ')
    },
    {
      key: 'created',
      title: trans.__('created'),
      width: { digits: 12, pixels: PADDING },
      sort: 'created',
      cell: row => timeAgo(row.createdAt),
      hint: row => timeInFull(row.createdAt)
    },
    {
      key: 'state',
      title: trans.__('state'),
      width: { digits: 8, pixels: PADDING },
      cell: row => state(row, trans)
    },
    { key: 'menu', title: trans.__('actions'), width: { digits: 0, pixels: 28 }, cell: () => null }
  ];
}

function state(row: IRow, trans: TranslationBundle): string {
  const { detail } = row;
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
  row: IRow;
  isBest: boolean;
  trans: TranslationBundle;
  onPin: (row: IRow) => void;
}

function Marks({ row, isBest, trans, onPin }: IMarksProps): React.ReactElement {
  const isPinned = row.detail?.pinned === true;
  const label = isPinned ? trans.__('Unpin') : trans.__('Pin');
  return (
    <>
      <button
        type="button"
        tabIndex={-1}
        className="axon-Pin"
        aria-pressed={isPinned}
        aria-label={label}
        title={label}
        onClick={() => {
          onPin(row);
        }}
      >
        {isPinned ? (
          <pinnedIcon.react tag="span" width="14px" />
        ) : (
          <pinIcon.react tag="span" width="14px" />
        )}
      </button>
      {isBest && (
        <span role="img" aria-label={trans.__('Best')} title={trans.__('Best')}>
          <starIcon.react tag="span" width="15px" />
        </span>
      )}
    </>
  );
}
