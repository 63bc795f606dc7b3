/** The table of runs. */

import type { SortingState } from '@tanstack/react-table';
import { getCoreRowModel, useReactTable } from '@tanstack/react-table';
import type { ColumnDef } from '@tanstack/react-table';
import { defaultRangeExtractor, useVirtualizer } from '@tanstack/react-virtual';
import * as React from 'react';

import { RunCommandIDs } from '../ids.ts';
import type { CellValue, IRunGroup, RunColumn } from '../pure/runs.ts';
import { automaticColumns, sortItems, toColumn } from '../pure/runs.ts';
import type { IRunRow } from '../records.ts';
import { KEY_TARGETS, ROW_HEIGHT, rowsBetween } from '../widgets/gridkeys.ts';
import { useMeasure } from '../widgets/measure.ts';
import {
  canSort,
  columnReader,
  columnTitle,
  columnValue,
  fittingWidth,
  groupLabel,
  isNumeric
} from './columns.tsx';
import type { IPageContext } from './context.ts';
import { usePage } from './context.ts';
import { groupRuns } from './groups.ts';
import { GroupRow, HeaderCell, RunRow, SelectAll } from './rows.tsx';

const SELECT_WIDTH = 34;
/** Milliseconds after the last scrolling until details of the visible rows are loaded. */
const SETTLE_TIME = 150;
const NO_ROWS: IRunRow[] = [];

/** Return the columns that the table shows. */
export function shownColumns({ model, settings }: IPageContext): RunColumn[] {
  const { columns } = settings.table;
  const ids =
    columns.length > 0
      ? columns
      : automaticColumns(model.shown, model.vocabulary, model.ranking?.metric);
  return [...new Set(ids)].flatMap(id => toColumn(id) ?? []);
}

/** The order of rows as TanStack Table has it, from the setting. */
function toSorting(sort: readonly string[]): SortingState {
  return sort.map(text =>
    text.startsWith('-') ? { id: text.slice(1), desc: true } : { id: text, desc: false }
  );
}

/** A line of the table. */
type Item =
  | { kind: 'group'; id: string; group: IRunGroup<IRunRow>; isOpen: boolean }
  | { kind: 'run'; id: string; run: IRunRow };

export function RunTable(): React.ReactElement {
  const page = usePage();
  const { model, settings, trans, commands } = page;
  const { widths, sort, group: grouping } = settings.table;
  const { shown } = model;
  const [scroller, setScroller] = React.useState<HTMLDivElement | null>(null);
  const { font } = useMeasure(scroller);
  const idPrefix = React.useId();
  const [activeId, setActiveId] = React.useState<string | undefined>(undefined);
  const anchor = React.useRef<string | undefined>(undefined);
  const [open, setOpen] = React.useState<ReadonlySet<string>>(new Set());

  const columns = React.useMemo(
    () => shownColumns(page),
    // What it is derived from; the directions of metrics do not matter.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [page, shown, model.vocabulary, model.ranking?.metric, settings.table.columns]
  );
  const hiddenSort = sort
    .map(text => text.replace(/^-/, ''))
    .filter(id => columns.every(column => column.id !== id));
  const rankingKey = JSON.stringify(model.ranking);
  const columnKey = JSON.stringify([columns.map(({ id }) => id), hiddenSort, grouping, rankingKey]);
  const definitions = React.useMemo((): ColumnDef<IRunRow, CellValue>[] => {
    return [...columns, ...hiddenSort.flatMap(id => toColumn(id) ?? [])].map(column => ({
      id: column.id,
      header: columnTitle(column, trans),
      accessorFn: run => columnValue(column, run, model), // without it, a column cannot be sorted
      sortDescFirst:
        column.kind === 'metric'
          ? model.direction(column.metric) !== 'min'
          : column.id === 'started_at',
      enableSorting: canSort(column),
      size: fittingWidth(column, columnTitle(column, trans), model, grouping !== '', font),
      minSize: 30,
      maxSize: 2000
    }));
    // `columns` is represented by its key. Widths follow the first runs, not every change.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [columnKey, model.runs.isComplete, model, trans, font]);
  const sorting = toSorting(sort);
  // It has the header only: an object for each of 10,000 rows would make sorting and filtering slow.
  const table = useReactTable({
    data: NO_ROWS,
    columns: definitions,
    state: {
      sorting,
      columnSizing: widths,
      columnOrder: columns.map(({ id }) => id),
      columnVisibility: Object.fromEntries(
        definitions.flatMap(({ id = '' }) =>
          columns.some(column => column.id === id) ? [] : [[id, false]]
        )
      )
    },
    onSortingChange: update => {
      const next = typeof update === 'function' ? update(sorting) : update;
      void settings.update({ sort: next.map(({ id, desc }) => (desc ? `-${id}` : id)) });
    },
    onColumnSizingChange: update => {
      const next = typeof update === 'function' ? update({ ...widths }) : update;
      void settings.update({ widths: next });
    },
    columnResizeMode: 'onEnd',
    autoResetAll: false,
    maxMultiSortColCount: 4,
    manualSorting: true,
    getCoreRowModel: getCoreRowModel()
  });
  const sorted = React.useMemo(
    () =>
      sortItems(
        shown,
        sorting.flatMap(({ id, desc }) => {
          const column = toColumn(id);
          return column === undefined || !canSort(column)
            ? []
            : [{ valueOf: columnReader(column, model), isDescending: desc }];
        })
      ),
    // The order is represented by its key, and the directions of metrics by that of the ranking.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [shown, sort.join('\n'), rankingKey, model]
  );
  const baseline = model.baseline?.id;
  const ordered = React.useMemo(() => moveToFront(sorted, baseline), [sorted, baseline]);
  const isPinned = ordered.length > 0 && ordered[0]?.id === baseline;
  const groupColumn = toColumn(grouping);
  const groups = React.useMemo((): readonly IRunGroup<IRunRow>[] | undefined => {
    if (groupColumn === undefined) {
      return undefined;
    }
    return groupRuns(sorted, groupColumn, model);
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [sorted, grouping, model]);
  const { selected } = model;
  const selectedCounts = React.useMemo(
    () =>
      groups === undefined || selected.size === 0
        ? undefined
        : new Map(
            groups.map(({ key, items }) => [key, items.filter(run => selected.has(run.id)).length])
          ),
    [groups, selected]
  );
  const rows = React.useMemo((): readonly Item[] => {
    if (groups === undefined) {
      return ordered.map(run => ({ kind: 'run', id: run.id, run }));
    }
    const first = ordered.slice(0, isPinned ? 1 : 0);
    const grouped = groups.flatMap((group): Item[] => {
      const isOpen = open.has(group.key);
      return [
        { kind: 'group', id: group.key, group, isOpen },
        ...group.items.flatMap((run): Item[] =>
          // A run may be in several groups.
          isOpen ? [{ kind: 'run', id: `${run.id} ${group.key}`, run }] : []
        )
      ];
    });
    return [...first.map((run): Item => ({ kind: 'run', id: run.id, run })), ...grouped];
  }, [ordered, isPinned, groups, open]);
  React.useEffect(() => {
    model.setOrder(ordered);
  }, [model, ordered]);
  const headers = table.getFlatHeaders();
  const sizes = headers.map(header => header.getSize());
  const template = `${SELECT_WIDTH}px ${sizes.map(size => `${size}px`).join(' ')}`;
  const width = sizes.reduce((sum, size) => sum + size, SELECT_WIDTH);
  const numeric = React.useMemo(
    () => new Set(columns.filter(column => isNumeric(column, shown)).map(({ id }) => id)),
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [columnKey, shown]
  );
  const virtualizer = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller,
    estimateSize: () => ROW_HEIGHT,
    scrollMargin: ROW_HEIGHT, // the header
    scrollPaddingStart: isPinned ? 2 * ROW_HEIGHT : ROW_HEIGHT,
    rangeExtractor: range => {
      const indices = defaultRangeExtractor(range);
      return isPinned && indices[0] !== 0 ? [0, ...indices] : indices;
    },
    overscan: 8
  });
  const items = virtualizer.getVirtualItems();
  const activeIndex = rows.findIndex(row => row.id === activeId);
  // Rows that did not change keep the functions of an earlier time.
  const latest = React.useRef({ rows, activeId });
  React.useLayoutEffect(() => {
    latest.current = { rows, activeId };
  });

  const needsReproducibility = columns.some(({ id }) => id === 'code' || id === 'reproducible');
  const visible = needsReproducibility
    ? items.flatMap(({ index }) => {
        const item = rows[index];
        return item?.kind === 'run' ? [item.run.id] : [];
      })
    : [];
  const visibleKey = visible.join(' ');
  React.useEffect(() => {
    const timer = setTimeout(() => model.watchReproducibility(visible), SETTLE_TIME);
    return () => clearTimeout(timer);
    // `visible` is represented by its key.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [model, visibleKey]);

  const runsOf = (item: Item | undefined): readonly IRunRow[] =>
    item === undefined ? [] : item.kind === 'group' ? item.group.items : [item.run];
  const toggle = (item: Item): void => {
    const ids = runsOf(item).map(({ id }) => id);
    const selected = new Set(model.selected.keys());
    const isSelected = ids.every(id => selected.has(id));
    for (const id of ids) {
      if (isSelected) {
        selected.delete(id);
      } else {
        selected.add(id);
      }
    }
    anchor.current = item.id;
    model.select(selected);
  };
  const toggleOpen = (id: string, isOpen: boolean): void => {
    setOpen(last => {
      const changed = new Set(last);
      if (isOpen) {
        changed.add(id);
      } else {
        changed.delete(id);
      }
      return changed;
    });
  };
  const extendTo = (index: number): void => {
    const { rows, activeId } = latest.current;
    const start = rows.findIndex(row => row.id === (anchor.current ?? activeId));
    const range = rowsBetween(rows, start, index);
    model.select([...model.selected.keys(), ...range.flatMap(runsOf).map(({ id }) => id)]);
  };
  /** Make a row the active one; returns its id. */
  const activate = (index: number): string | undefined => {
    const valid = Math.max(0, Math.min(rows.length - 1, index));
    const id = rows[valid]?.id;
    setActiveId(id);
    virtualizer.scrollToIndex(valid);
    return id;
  };
  /** Return the selected runs if the given one is among them, else the given one. */
  const targetIds = (item: Item): string[] => {
    const ids = runsOf(item).map(({ id }) => id);
    return ids.length === 1 && model.selected.has(ids[0] ?? '')
      ? model.visibleSelection.map(run => run.id)
      : ids;
  };
  const openMenu = (item: Item, x: number, y: number): void => {
    setActiveId(item.id);
    const run = item.kind === 'run' ? { run: item.run.id } : {};
    void commands.execute(RunCommandIDs.menu, { ids: targetIds(item), ...run, x, y });
  };
  const openDetails = (run: IRunRow): void => model.showDetails(run.id);

  const handleKey = ({ key, altKey, ctrlKey, metaKey, shiftKey }: React.KeyboardEvent): boolean => {
    const isControl = ctrlKey || metaKey;
    if (altKey || (isControl && key !== 'a') || (!isControl && key === 'a')) {
      return false; // a shortcut of the browser or JupyterLab, or none
    }
    const target = KEY_TARGETS[key]?.(activeIndex, rows.length - 1);
    const item = rows[activeIndex];
    const command = KEY_COMMANDS[key];
    if (target !== undefined) {
      if (shiftKey && key.startsWith('Arrow') && rows[target] !== undefined) {
        extendTo(target);
        activate(target);
      } else {
        anchor.current = activate(target);
      }
    } else if (key === 'a') {
      model.select(ordered.map(row => row.id));
    } else if (key === 'Escape' && model.selected.size > 0) {
      model.select([]);
    } else if (item === undefined) {
      return false;
    } else if (key === ' ') {
      toggle(item);
    } else if (item.kind === 'group' && ['ArrowRight', 'ArrowLeft', 'Enter'].includes(key)) {
      toggleOpen(item.id, key === 'ArrowRight' || (key === 'Enter' && !item.isOpen));
    } else if (item.kind === 'run' && key === 'Enter') {
      openDetails(item.run);
    } else if (key === 'ContextMenu' || (key === 'F10' && shiftKey)) {
      const element = document.getElementById(idPrefix + item.id);
      const { left = 0, bottom = 0 } = element?.getBoundingClientRect() ?? {};
      openMenu(item, left, bottom);
    } else if (command !== undefined) {
      void commands.execute(command, { ids: targetIds(item) });
    } else {
      return false;
    }
    return true;
  };

  return (
    <div
      ref={setScroller}
      className="axon-Grid axon-Runs-grid"
      role={groupColumn === undefined ? 'grid' : 'treegrid'}
      tabIndex={0}
      aria-label={trans.__(
        'Training runs. Arrow keys move, Space selects, Enter shows details or opens a group, T tags, N edits notes, Delete deletes.'
      )}
      aria-multiselectable="true"
      aria-rowcount={rows.length + 1}
      aria-colcount={headers.length + 1}
      aria-activedescendant={activeIndex < 0 ? undefined : idPrefix + (activeId ?? '')}
      onKeyDown={event => {
        // Not for the buttons in the header.
        if (event.target === scroller && handleKey(event)) {
          event.preventDefault();
          event.stopPropagation();
        }
      }}
      onFocus={event => {
        if (event.target === scroller && activeIndex < 0) {
          activate(virtualizer.range?.startIndex ?? 0);
        }
      }}
    >
      <div
        role="row"
        aria-rowindex={1}
        className="axon-Grid-head"
        style={{ gridTemplateColumns: template, width }}
      >
        <SelectAll runs={ordered} />
        {headers.map(header => (
          <HeaderCell
            key={header.id}
            header={header}
            isNumber={numeric.has(header.id)}
            sortCount={sort.length}
          />
        ))}
      </div>
      <div className="axon-Grid-body" style={{ height: virtualizer.getTotalSize(), width }}>
        {items.map(({ index, start }) => {
          const row = rows[index];
          if (row === undefined) {
            return null;
          }
          const common = {
            elementId: idPrefix + row.id,
            page,
            columns,
            columnKey,
            numeric,
            template,
            index,
            top: start - ROW_HEIGHT,
            isActive: row.id === activeId,
            onToggle: () => toggle(row),
            onMenu: (x: number, y: number) => openMenu(row, x, y),
            onClick: (event: React.MouseEvent) => {
              if (event.shiftKey) {
                extendTo(index);
              } else if (event.ctrlKey || event.metaKey) {
                toggle(row);
              } else {
                anchor.current = row.id;
              }
              setActiveId(row.id);
            }
          };
          if (row.kind === 'group') {
            return (
              <GroupRow
                key={index} // elements are used again for other rows, which is faster
                {...common}
                group={row.group}
                label={groupColumn === undefined ? '' : groupLabel(groupColumn, row.group, trans)}
                isOpen={row.isOpen}
                selectedCount={selectedCounts?.get(row.id) ?? 0}
                onOpen={() => toggleOpen(row.id, !row.isOpen)}
              />
            );
          }
          const { run } = row;
          return (
            <RunRow
              key={index}
              {...common}
              run={run}
              level={groupColumn === undefined ? undefined : row.id === run.id ? 1 : 2}
              isPinned={isPinned && index === 0}
              colour={model.selected.get(run.id)}
              isDetailed={model.details?.id === run.id}
              isBest={model.bestRuns.get(run.notebook_id) === run.id}
              baseline={model.baseline}
              reproducibility={model.reproducibility(run.id)}
              notebook={model.notebook(run.notebook_id)?.name}
              onOpen={() => openDetails(run)}
            />
          );
        })}
      </div>
    </div>
  );
}

/** Return runs with one of them, if it is there, before the others. */
function moveToFront(runs: readonly IRunRow[], id: string | undefined): readonly IRunRow[] {
  const first = id === undefined ? undefined : runs.find(run => run.id === id);
  return first === undefined ? runs : [first, ...runs.filter(run => run !== first)];
}

const KEY_COMMANDS: Partial<Record<string, string>> = {
  t: RunCommandIDs.editTags,
  n: RunCommandIDs.editNotes,
  Delete: RunCommandIDs.delete,
  Backspace: RunCommandIDs.delete
};
