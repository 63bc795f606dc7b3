/** The table of checkpoints itself; only the rows in view are drawn. */

import { Button, ellipsesIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CommandIDs } from '../ids.ts';
import type { IRow, ISort } from '../pure/rows.ts';
import { rowsInView, scrollToRow } from '../pure/window.ts';
import { colourPlace } from './chart.ts';
import type { IColumn } from './columns.tsx';
import { columnsOf, sortName, widthsOf } from './columns.tsx';
import { usePanel } from './context.ts';

/** Pixels, as the style sheet has them. */
const ROW_HEIGHT = 26;
/** Rows that Page Up and Page Down go by. */
const SCREEN = 10;

interface IGridProps {
  shown: readonly IRow[];
  sort: ISort;
  onSort: (sort: ISort) => void;
}

/** A grid in which one row is active, and any number selected. */
export function Grid({ shown, sort, onSort }: IGridProps): React.ReactElement {
  const { model, trans, commands } = usePanel();
  const { checkpoints } = model;
  const scroller = React.useRef<HTMLDivElement>(null);
  const [view, setView] = React.useState({ top: 0, height: 300 });
  const [active, setActive] = React.useState<string | undefined>(undefined);
  const prefix = React.useId();
  const columns = columnsOf(checkpoints, trans, row => {
    void commands.execute(CommandIDs.togglePin, { ids: [row.id] });
  });
  const { template, least } = widthsOf(columns);
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
  /** What is done with a row is done with all that are selected, if it is one of them. */
  const meant = (id: string): string[] =>
    checkpoints.selected.has(id) ? [...checkpoints.selected] : [id];
  const openMenu = (id: string, x: number, y: number): void => {
    setActive(id);
    void commands.execute(CommandIDs.checkpointMenu, { ids: meant(id), x, y });
  };

  const onKeyDown = (event: React.KeyboardEvent): void => {
    if (event.target !== scroller.current) {
      return; // a button in the header
    }
    const isCommand = event.ctrlKey || event.metaKey;
    if (event.altKey || (isCommand && event.key !== 'a')) {
      return; // the browser's or JupyterLab's
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
          if (!isCommand) {
            return false;
          }
          checkpoints.select(shown.map(({ id }) => id));
          return true;
        case 'Escape':
          if (checkpoints.selected.size === 0) {
            return false;
          }
          checkpoints.select([]);
          return true;
      }
      if (row === undefined) {
        return false;
      }
      const ids = meant(row.id);
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
        style={{ gridTemplateColumns: template, minWidth: least }}
      >
        {columns.map(column => (
          <Head key={column.key} column={column} sort={sort} onSort={onSort} />
        ))}
      </div>
      <div
        className="axon-Grid-body"
        style={{ height: shown.length * ROW_HEIGHT, minWidth: least }}
      >
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
                  title={trans.__('Actions')}
                  aria-label={trans.__('Actions for epoch %1, step %2', row.epoch, row.step)}
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
  const isSorted = key !== undefined && sortName(key) === sortName(sort.key);
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
