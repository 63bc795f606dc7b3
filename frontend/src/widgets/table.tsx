/** The table of checkpoints; only the rows in view are drawn. */

import { Button, closeIcon, ellipsesIcon, FilterBox } from '@jupyterlab/ui-components';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { CommandIDs } from '../ids.ts';
import type { Checkpoints } from '../checkpoints.ts';
import { pinnedIcon, pinIcon, starIcon } from '../icons.ts';
import { formatBytes, formatNumber } from '../pure/metrics.ts';
import type { IRow, ISort, SortKey } from '../pure/rows.ts';
import { filterRows, sortRows } from '../pure/rows.ts';
import { rowsInView, scrollToRow } from '../pure/window.ts';
import { colourPlace } from './chart.ts';
import { usePanel } from './context.ts';
import { NoCheckpoints } from './curves.tsx';
import { MeasureSelect } from './measure.tsx';
import { runWord, timeAgo, timeInFull } from './words.ts';

/** Pixels, as the style sheet has them. */
const ROW_HEIGHT = 26;
/** Rows that Page Up and Page Down go by. */
const SCREEN = 10;

export function CheckpointTable(): React.ReactElement | null {
  const { model, trans } = usePanel();
  const { checkpoints } = model;
  const [query, setQuery] = React.useState('');
  const [sort, setSort] = React.useState<ISort>({ key: 'created', descending: true });
  const { rows, order } = checkpoints;
  const shown = React.useMemo(
    () =>
      sortRows(
        filterRows(rows, query, run => runWord(trans, order, run)),
        sort,
        order
      ),
    [rows, query, sort, order, trans]
  );
  if (rows.length === 0) {
    return <NoCheckpoints />;
  }
  return (
    <div className="axon-Table">
      <div className="axon-Table-controls">
        <FilterBox
          placeholder={trans.__('Filter: tag, pinned, epoch:7, loss<0.3')}
          useFuzzyFilter={false}
          updateFilter={(_filter, text) => {
            setQuery(text ?? '');
          }}
        />
        <MeasureSelect />
      </div>
      <Selected />
      <Grid shown={shown} sort={sort} onSort={setSort} />
      <p className="axon-Hint" role="status">
        {shown.length === rows.length
          ? trans._n('%1 checkpoint', '%1 checkpoints', rows.length)
          : trans._n('%1 of %2 checkpoints', '%1 of %2 checkpoints', shown.length, rows.length)}
      </p>
    </div>
  );
}

/** What can be done with the checkpoints that are selected. */
function Selected(): React.ReactElement | null {
  const { model, trans, commands } = usePanel();
  const { checkpoints } = model;
  const count = checkpoints.selected.size;
  if (count === 0) {
    return null;
  }
  const button = (command: string, label: string, enabled = true): React.ReactElement => (
    <Button minimal small disabled={!enabled} onClick={() => void commands.execute(command)}>
      {label}
    </Button>
  );
  return (
    <div
      className="axon-Table-selected"
      role="toolbar"
      aria-label={trans.__('Selected checkpoints')}
    >
      <span role="status">{trans.__('%1 selected', count)}</span>
      {button(CommandIDs.compareCheckpoints, trans.__('Compare'), count === 2)}
      {button(CommandIDs.togglePin, trans.__('Pin'))}
      {button(CommandIDs.editTags, trans.__('Tag…'))}
      {button(CommandIDs.deleteCheckpoints, trans.__('Delete…'))}
      <Button
        minimal
        small
        title={trans.__('Select none')}
        aria-label={trans.__('Select none')}
        onClick={() => {
          checkpoints.select([]);
        }}
      >
        <closeIcon.react tag="span" width="12px" />
      </Button>
    </div>
  );
}

interface IColumn {
  key: string;
  title: string;
  /** Pixels. */
  width: number;
  sort?: SortKey;
  isNumber?: boolean;
  /** A metric's column is marked when best is by that metric. */
  isMeasure?: boolean;
  cell: (row: IRow) => React.ReactNode;
  hint?: (row: IRow) => string | undefined;
}

interface IGridProps {
  shown: readonly IRow[];
  sort: ISort;
  onSort: (sort: ISort) => void;
}

function Grid({ shown, sort, onSort }: IGridProps): React.ReactElement {
  const { model, trans, commands } = usePanel();
  const { checkpoints } = model;
  const scroller = React.useRef<HTMLDivElement>(null);
  const [view, setView] = React.useState({ top: 0, height: 300 });
  const [active, setActive] = React.useState<string | undefined>(undefined);
  const prefix = React.useId();
  const columns = columnsOf(checkpoints, trans, row => {
    void commands.execute(CommandIDs.togglePin, { ids: [row.id] });
  });
  const template = columns.map(column => `${column.width}px`).join(' ');
  const width = columns.reduce((sum, column) => sum + column.width, 0);
  const activeRow = active === undefined ? -1 : shown.findIndex(row => row.id === active);
  const { start, end } = rowsInView(view.top, view.height, ROW_HEIGHT, shown.length);

  React.useEffect(() => {
    const node = scroller.current;
    if (node === null) {
      return;
    }
    const look = (): void => {
      setView({ top: node.scrollTop, height: node.clientHeight });
    };
    const observer = new ResizeObserver(look);
    observer.observe(node);
    node.addEventListener('scroll', look, { passive: true });
    return () => {
      observer.disconnect();
      node.removeEventListener('scroll', look);
    };
  }, []);

  const toggle = (id: string): void => {
    const other = new Set(checkpoints.selected);
    if (!other.delete(id)) {
      other.add(id);
    }
    checkpoints.select(other);
  };
  const extend = (to: number): void => {
    const from = activeRow < 0 ? to : activeRow;
    const range = shown.slice(Math.min(from, to), Math.max(from, to) + 1);
    checkpoints.select([...checkpoints.selected, ...range.map(row => row.id)]);
  };
  const activate = (index: number): void => {
    const row = shown[Math.max(0, Math.min(shown.length - 1, index))];
    const node = scroller.current;
    if (row === undefined || node === null) {
      return;
    }
    setActive(row.id);
    const room = node.clientHeight - ROW_HEIGHT; // the header stays
    node.scrollTop = scrollToRow(shown.indexOf(row), node.scrollTop, room, ROW_HEIGHT);
  };
  const openMenu = (id: string, x: number, y: number): void => {
    setActive(id);
    void commands.execute(CommandIDs.checkpointMenu, { ids: [id], x, y });
  };

  const onKeyDown = (event: React.KeyboardEvent): void => {
    if (event.target !== scroller.current) {
      return; // a button in the header
    }
    const row = shown[activeRow];
    const done = ((): boolean => {
      switch (event.key) {
        case 'ArrowDown':
        case 'ArrowUp': {
          const to = activeRow + (event.key === 'ArrowDown' ? 1 : -1);
          if (event.shiftKey && to >= 0 && to < shown.length) {
            extend(to);
          }
          activate(to);
          return true;
        }
        case 'PageDown':
        case 'PageUp':
          activate(activeRow + (event.key === 'PageDown' ? SCREEN : -SCREEN));
          return true;
        case 'Home':
          activate(0);
          return true;
        case 'End':
          activate(shown.length - 1);
          return true;
        case 'a':
          if (!event.ctrlKey && !event.metaKey) {
            return false;
          }
          checkpoints.select(shown.map(({ id }) => id));
          return true;
        case 'Escape':
          checkpoints.select([]);
          return true;
      }
      if (row === undefined) {
        return false;
      }
      const ids = checkpoints.selected.has(row.id) ? [...checkpoints.selected] : [row.id];
      switch (event.key) {
        case ' ':
          toggle(row.id);
          return true;
        case 'p':
          void commands.execute(CommandIDs.togglePin, { ids });
          return true;
        case 't':
          void commands.execute(CommandIDs.editTags, { ids });
          return true;
        case 'Delete':
        case 'Backspace':
          void commands.execute(CommandIDs.deleteCheckpoints, { ids });
          return true;
        case 'Enter':
        case 'ContextMenu': {
          const node = document.getElementById(prefix + row.id);
          const { left = 0, bottom = 0 } = node?.getBoundingClientRect() ?? {};
          openMenu(row.id, left, bottom);
          return true;
        }
        default:
          return false;
      }
    })();
    if (done) {
      event.preventDefault();
      event.stopPropagation();
    }
  };

  return (
    <div
      ref={scroller}
      className="axon-Grid"
      role="grid"
      tabIndex={0}
      aria-label={trans.__(
        'Checkpoints. Arrow keys move, Space selects, Enter opens a menu, P pins, T tags, Delete deletes.'
      )}
      aria-multiselectable="true"
      aria-rowcount={shown.length + 1}
      aria-activedescendant={activeRow < 0 ? undefined : prefix + (active ?? '')}
      onKeyDown={onKeyDown}
      onFocus={event => {
        if (event.target === scroller.current && activeRow < 0) {
          activate(start);
        }
      }}
    >
      <div
        role="row"
        aria-rowindex={1}
        className="axon-Grid-head"
        style={{ gridTemplateColumns: template, width }}
      >
        {columns.map(column => (
          <Head key={column.key} column={column} sort={sort} onSort={onSort} />
        ))}
      </div>
      <div className="axon-Grid-body" style={{ height: shown.length * ROW_HEIGHT, width }}>
        {shown.slice(start, end).map((row, place) => {
          const index = start + place;
          const isSelected = checkpoints.selected.has(row.id);
          return (
            <div
              key={row.id}
              id={prefix + row.id}
              role="row"
              aria-rowindex={index + 2}
              aria-selected={isSelected}
              className={`axon-Grid-row${row.id === active ? ' axon-mod-active' : ''}`}
              data-checkpoint={row.id}
              data-run={colourPlace(checkpoints.order.indexOf(row.runId))}
              style={{ gridTemplateColumns: template, top: index * ROW_HEIGHT }}
              onClick={event => {
                if (event.shiftKey) {
                  extend(index);
                } else if (event.ctrlKey || event.metaKey) {
                  toggle(row.id);
                }
                setActive(row.id);
              }}
              onContextMenu={event => {
                event.preventDefault();
                event.stopPropagation();
                openMenu(row.id, event.clientX, event.clientY);
              }}
            >
              <div role="gridcell">
                <input
                  type="checkbox"
                  tabIndex={-1}
                  checked={isSelected}
                  aria-label={trans.__('Select epoch %1, step %2', row.epoch, row.step)}
                  onChange={() => {
                    toggle(row.id);
                  }}
                />
              </div>
              {columns.slice(1, -1).map(column => (
                <div
                  key={column.key}
                  role="gridcell"
                  className={column.isNumber === true ? 'axon-mod-number' : ''}
                  title={column.hint?.(row)}
                >
                  {column.cell(row)}
                </div>
              ))}
              <div role="gridcell">
                <Button
                  minimal
                  small
                  tabIndex={-1}
                  title={trans.__('What to do with it')}
                  aria-label={trans.__('What to do with epoch %1, step %2', row.epoch, row.step)}
                  aria-haspopup="menu"
                  onClick={event => {
                    const { left, bottom } = event.currentTarget.getBoundingClientRect();
                    openMenu(row.id, left, bottom);
                  }}
                >
                  <ellipsesIcon.react tag="span" />
                </Button>
              </div>
            </div>
          );
        })}
      </div>
    </div>
  );
}

interface IHeadProps {
  column: IColumn;
  sort: ISort;
  onSort: (sort: ISort) => void;
}

function Head({ column, sort, onSort }: IHeadProps): React.ReactElement {
  const key = column.sort;
  const isSorted = key !== undefined && name(key) === name(sort.key);
  const direction = sort.descending ? 'descending' : 'ascending';
  const kind = `${column.isNumber === true ? 'axon-mod-number' : ''} ${column.isMeasure === true ? 'axon-mod-measure' : ''}`;
  return (
    <div role="columnheader" className={kind} aria-sort={isSorted ? direction : undefined}>
      {key === undefined ? (
        <span className="axon-Hidden">{column.title}</span>
      ) : (
        <button
          type="button"
          title={column.title}
          onClick={() => {
            onSort({ key, descending: isSorted ? !sort.descending : key !== 'run' });
          }}
        >
          <span>{column.title}</span>
          {isSorted && <span aria-hidden="true">{sort.descending ? '▾' : '▴'}</span>}
        </button>
      )}
    </div>
  );
}

function name(key: SortKey): string {
  return typeof key === 'object' ? `metric ${key.metric}` : key;
}

function columnsOf(
  checkpoints: Checkpoints,
  trans: TranslationBundle,
  onPin: (row: IRow) => void
): IColumn[] {
  const { best, measure, metrics, order } = checkpoints;
  const sorted =
    measure === undefined
      ? metrics
      : [measure.metric, ...metrics.filter(metric => metric !== measure.metric)];
  return [
    { key: 'select', title: trans.__('selected'), width: 26, cell: () => null },
    {
      key: 'marks',
      title: trans.__('pin'),
      width: 46,
      sort: 'pinned',
      cell: row => <Marks row={row} isBest={row.id === best} trans={trans} onPin={onPin} />
    },
    {
      key: 'epoch',
      title: trans.__('epoch'),
      width: 54,
      sort: 'epoch',
      isNumber: true,
      cell: row => row.epoch
    },
    {
      key: 'step',
      title: trans.__('step'),
      width: 58,
      sort: 'step',
      isNumber: true,
      cell: row => row.step
    },
    ...sorted.map((metric): IColumn => ({
      key: `metric ${metric}`,
      title: metric,
      width: 84,
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
      width: 64,
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
      width: 110,
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
      title: trans.__('made'),
      width: 92,
      sort: 'created',
      cell: row => timeAgo(row.createdAt),
      hint: row => timeInFull(row.createdAt)
    },
    { key: 'state', title: trans.__('state'), width: 76, cell: row => state(row, trans) },
    { key: 'menu', title: trans.__('actions'), width: 30, cell: () => null }
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
