/** The table of checkpoints: sorted by TanStack Table, of which TanStack Virtual renders the visible rows. */

import { Button, ellipsesIcon } from '@jupyterlab/ui-components';
import type { Column as TableColumn, OnChangeFn, SortingState } from '@tanstack/react-table';
import {
  flexRender,
  getCoreRowModel,
  getSortedRowModel,
  useReactTable
} from '@tanstack/react-table';
import { useVirtualizer } from '@tanstack/react-virtual';
import * as React from 'react';

import { CommandIDs } from '../ids.ts';
import type { ICheckpointRow } from '../pure/rows.ts';
import { colourIndex } from '../charts/colours.ts';
import type { Column, IShownColumns } from './columns.tsx';
import { usePanel } from './context.tsx';
import { KEY_TARGETS, ROW_HEIGHT, rowsBetween } from './gridkeys.ts';

const KEY_COMMANDS: Partial<Record<string, string>> = {
  p: CommandIDs.togglePin,
  t: CommandIDs.editTags,
  Delete: CommandIDs.deleteCheckpoints,
  Backspace: CommandIDs.deleteCheckpoints
};

export interface IGridProps {
  /** Newest first. */
  rows: ICheckpointRow[];
  columns: Column[];
  shown: IShownColumns;
  sorting: SortingState;
  onSort: OnChangeFn<SortingState>;
  /** Called with the element that contains the rows. */
  onMount: (node: HTMLDivElement | null) => void;
}

/** A grid of rows, of which one is active (it has the focus) and any number are selected. */
export function Grid(props: IGridProps): React.ReactElement {
  const { rows, columns, shown, sorting, onSort, onMount } = props;
  const { model, trans, commands } = usePanel();
  const { checkpoints } = model;
  const scroller = React.useRef<HTMLDivElement | null>(null);
  const [activeId, setActiveId] = React.useState<string | undefined>(undefined);
  const idPrefix = React.useId();
  const { runOrder } = checkpoints;
  const { style } = shown;
  const columnVisibility = React.useMemo(
    () => Object.fromEntries(columns.map(({ id = '' }) => [id, shown.ids.has(id)])),
    [columns, shown]
  );
  const table = useReactTable({
    data: rows,
    columns,
    state: { sorting, columnVisibility },
    onSortingChange: onSort,
    autoResetAll: false,
    sortDescFirst: true,
    enableMultiSort: false,
    getRowId: row => row.id,
    getCoreRowModel: getCoreRowModel(),
    getSortedRowModel: getSortedRowModel()
  });
  const sorted = table.getRowModel().rows;
  const virtualizer = useVirtualizer({
    count: sorted.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT,
    scrollMargin: ROW_HEIGHT, // the header
    scrollPaddingStart: ROW_HEIGHT,
    overscan: 6
  });
  const activeIndex = sorted.findIndex(row => row.id === activeId);
  const [revealed, setRevealed] = React.useState<string | undefined>(undefined);

  const toggle = (id: string): void => {
    const selected = new Set(checkpoints.selected);
    if (!selected.delete(id)) {
      selected.add(id);
    }
    checkpoints.select(selected);
  };
  const extendTo = (index: number): void => {
    const range = rowsBetween(sorted, activeIndex, index);
    checkpoints.select([...checkpoints.selected, ...range.map(row => row.id)]);
  };
  const activate = (index: number): void => {
    const valid = Math.max(0, Math.min(sorted.length - 1, index));
    setActiveId(sorted[valid]?.id);
    virtualizer.scrollToIndex(valid);
  };
  React.useEffect(() => {
    const onRevealed = (_sender: unknown, id: string): void => setRevealed(id);
    checkpoints.revealed.connect(onRevealed);
    return () => void checkpoints.revealed.disconnect(onRevealed);
  }, [checkpoints]);
  React.useEffect(() => {
    const index = sorted.findIndex(row => row.id === revealed);
    if (index >= 0) {
      setRevealed(undefined);
      scroller.current?.focus(); // activates the first row if there is no active one
      activate(index);
    }
    // Only when a row is to be revealed, or may be there now.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [revealed, sorted]);

  /** Return the selected checkpoints if the given one is among them, else the given one. */
  const targetIds = (id: string): string[] =>
    checkpoints.selected.has(id) ? [...checkpoints.selected] : [id];
  const openMenu = (id: string, x: number, y: number): void => {
    setActiveId(id);
    void commands.execute(CommandIDs.checkpointMenu, { ids: targetIds(id), x, y });
  };

  /** Handle a key; returns whether it is used. */
  const handleKey = ({ key, altKey, ctrlKey, metaKey, shiftKey }: React.KeyboardEvent): boolean => {
    const isControl = ctrlKey || metaKey;
    if (altKey || (isControl && key !== 'a') || (!isControl && key === 'a')) {
      return false; // a shortcut of the browser or JupyterLab, or none
    }
    const target = KEY_TARGETS[key]?.(activeIndex, sorted.length - 1);
    const id = sorted[activeIndex]?.id;
    const command = KEY_COMMANDS[key];
    if (target !== undefined) {
      if (shiftKey && key.startsWith('Arrow') && sorted[target] !== undefined) {
        extendTo(target);
      }
      activate(target);
    } else if (key === 'a') {
      checkpoints.select(sorted.map(row => row.id));
    } else if (key === 'Escape' && checkpoints.selected.size > 0) {
      checkpoints.clearSelection();
    } else if (id !== undefined && command !== undefined) {
      void commands.execute(command, { ids: targetIds(id) });
    } else if (id !== undefined && key === ' ') {
      toggle(id);
    } else if (id !== undefined && (key === 'Enter' || key === 'ContextMenu')) {
      const element = document.getElementById(idPrefix + id);
      const { left = 0, bottom = 0 } = element?.getBoundingClientRect() ?? {};
      openMenu(id, left, bottom);
    } else {
      return false;
    }
    return true;
  };

  return (
    <div
      ref={node => {
        scroller.current = node;
        onMount(node);
      }}
      className="axon-Grid"
      role="grid"
      tabIndex={0}
      aria-label={trans.__(
        'Checkpoints. Arrow keys move, Space selects, Enter opens a menu, P pins, T tags, Delete deletes.'
      )}
      aria-multiselectable="true"
      aria-rowcount={sorted.length + 1}
      aria-activedescendant={activeIndex < 0 ? undefined : idPrefix + (activeId ?? '')}
      onKeyDown={event => {
        // Not for the buttons in the header.
        if (event.target === scroller.current && handleKey(event)) {
          event.preventDefault();
          event.stopPropagation();
        }
      }}
      onFocus={event => {
        if (event.target === scroller.current && activeIndex < 0) {
          activate(virtualizer.range?.startIndex ?? 0);
        }
      }}
    >
      <div role="row" aria-rowindex={1} className="axon-Grid-head" style={style}>
        {table.getFlatHeaders().map(header => (
          <HeaderCell key={header.id} column={header.column} />
        ))}
      </div>
      <div
        className="axon-Grid-body"
        style={{ height: virtualizer.getTotalSize(), minWidth: style.minWidth }}
      >
        {virtualizer.getVirtualItems().flatMap(({ index, start }) => {
          const row = sorted[index];
          if (row === undefined) {
            return [];
          }
          const { id, original } = row;
          const { epoch, step } = original;
          const isSelected = checkpoints.selected.has(id);
          return (
            <div
              key={id}
              id={idPrefix + id}
              role="row"
              aria-rowindex={index + 2}
              aria-selected={isSelected}
              className={`axon-Grid-row${id === activeId ? ' axon-mod-active' : ''}`}
              data-checkpoint={id}
              data-run={colourIndex(runOrder.indexOf(original.runId))}
              style={{ ...style, top: start - ROW_HEIGHT }}
              onClick={event => {
                if (event.shiftKey) {
                  extendTo(index);
                } else if (event.ctrlKey || event.metaKey) {
                  toggle(id);
                }
                setActiveId(id);
              }}
              onContextMenu={event => {
                event.preventDefault();
                event.stopPropagation();
                openMenu(id, event.clientX, event.clientY);
              }}
            >
              {row.getVisibleCells().map(({ id: cellId, column, getContext }) => (
                <div
                  key={cellId}
                  role="gridcell"
                  className={column.columnDef.meta?.isNumber === true ? 'axon-mod-number' : ''}
                  title={column.columnDef.meta?.tooltip?.(original)}
                >
                  {column.id === 'select' ? (
                    <input
                      type="checkbox"
                      tabIndex={-1}
                      checked={isSelected}
                      aria-label={trans.__('Select epoch %1, step %2', epoch, step)}
                      onChange={() => toggle(id)}
                    />
                  ) : column.id === 'menu' ? (
                    <Button
                      minimal
                      small
                      tabIndex={-1}
                      title={trans.__('Actions')}
                      aria-label={trans.__('Actions for epoch %1, step %2', epoch, step)}
                      aria-haspopup="menu"
                      onClick={event => {
                        const { left, bottom } = event.currentTarget.getBoundingClientRect();
                        openMenu(id, left, bottom);
                      }}
                    >
                      <ellipsesIcon.react tag="span" />
                    </Button>
                  ) : (
                    flexRender(column.columnDef.cell, getContext())
                  )}
                </div>
              ))}
            </div>
          );
        })}
      </div>
    </div>
  );
}

function HeaderCell({ column }: { column: TableColumn<ICheckpointRow> }): React.ReactElement {
  const { header, meta } = column.columnDef;
  const title = String(header);
  const direction = column.getIsSorted();
  const className = [
    meta?.isNumber === true ? 'axon-mod-number' : '',
    meta?.isRanking === true ? 'axon-mod-ranking' : ''
  ];
  return (
    <div
      role="columnheader"
      className={className.join(' ')}
      aria-sort={
        direction === false ? undefined : direction === 'desc' ? 'descending' : 'ascending'
      }
    >
      {column.getCanSort() ? (
        <button type="button" title={title} onClick={column.getToggleSortingHandler()}>
          <span>{title}</span>
          {direction !== false && (
            <span aria-hidden="true">{direction === 'desc' ? '▾' : '▴'}</span>
          )}
        </button>
      ) : (
        <span className="axon-Hidden">{title}</span>
      )}
    </div>
  );
}
