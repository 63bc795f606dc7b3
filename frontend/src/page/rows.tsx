/** The rows and the header of the table of runs. */

import type { Header } from '@tanstack/react-table';
import { caretDownIcon, caretRightIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { colourIndex } from '../charts/colours.ts';
import type { IRunGroup, RunColumn } from '../pure/runs.ts';
import { toColumn } from '../pure/runs.ts';
import type { IRunReproducibility, IRunRow } from '../records.ts';
import { ROW_HEIGHT } from '../widgets/gridkeys.ts';
import { GroupCell, RunCell, statisticLabel } from './columns.tsx';
import type { IPageContext } from './context.ts';
import { usePage } from './context.ts';

/** Selects all runs of the table, or none. */
export function SelectAll({ runs }: { runs: readonly { id: string }[] }): React.ReactElement {
  const { model, trans } = usePage();
  const count = model.visibleSelection.length;
  const isAll = count > 0 && count === runs.length;
  return (
    <div role="columnheader">
      <input
        type="checkbox"
        aria-label={trans.__('Select all runs')}
        title={isAll ? trans.__('Select none') : trans.__('Select all runs')}
        checked={isAll}
        ref={element => {
          if (element !== null) {
            element.indeterminate = count > 0 && !isAll;
          }
        }}
        onChange={() => model.select(isAll ? [] : runs.map(({ id }) => id))}
      />
    </div>
  );
}

interface IHeaderCellProps {
  header: Header<IRunRow, unknown>;
  isNumber: boolean;
  sortCount: number;
}

export function HeaderCell({ header, isNumber, sortCount }: IHeaderCellProps): React.ReactElement {
  const { model, trans } = usePage();
  const { column } = header;
  const run = toColumn(column.id);
  const direction = column.getIsSorted();
  const statistic = run === undefined ? undefined : statisticLabel(run, model, trans);
  const title = String(column.columnDef.header);
  const text = (
    <>
      <span>{title}</span>
      {statistic !== undefined && <small>{statistic}</small>}
      {direction !== false && (
        <span aria-hidden="true">
          {direction === 'desc' ? '▾' : '▴'}
          {sortCount > 1 && column.getSortIndex() + 1}
        </span>
      )}
    </>
  );
  return (
    <div
      role="columnheader"
      className={isNumber ? 'axon-mod-number' : ''}
      aria-sort={
        direction === false ? undefined : direction === 'desc' ? 'descending' : 'ascending'
      }
    >
      {column.getCanSort() ? (
        <button
          type="button"
          title={trans.__('%1. Click sorts; Shift with a click sorts by several columns.', title)}
          onClick={column.getToggleSortingHandler()}
        >
          {text}
        </button>
      ) : (
        <span className="axon-Grid-title" title={title}>
          {text}
        </span>
      )}
      <span
        className={`axon-Grid-resizer${column.getIsResizing() ? ' axon-mod-active' : ''}`}
        aria-hidden="true"
        onMouseDown={header.getResizeHandler()}
        onTouchStart={header.getResizeHandler()}
        onDoubleClick={() => column.resetSize()}
      />
    </div>
  );
}

interface IRowProps {
  elementId: string;
  page: IPageContext;
  columns: readonly RunColumn[];
  columnKey: string;
  numeric: ReadonlySet<string>;
  template: string;
  index: number;
  top: number;
  isActive: boolean;
  onToggle: () => void;
  onOpen: () => void;
  onMenu: (x: number, y: number) => void;
  onClick: (event: React.MouseEvent) => void;
}

interface IRunRowProps extends IRowProps {
  run: IRunRow;
  /** Missing unless the runs are grouped. */
  level: number | undefined;
  /** Missing unless the run is selected. */
  colour: number | undefined;
  isDetailed: boolean;
  isBest: boolean;
  /** Whether it stays at the top when the table is scrolled. */
  isPinned: boolean;
  /** The run with which the user compares the others. */
  baseline: IRunRow | undefined;
  reproducibility: IRunReproducibility | undefined;
  notebook: string | undefined;
}

/** A row, which is rendered again only if what it shows has changed. */
export const RunRow = React.memo(
  (props: IRunRowProps): React.ReactElement => {
    const { page, run, columns, numeric, colour } = props;
    const { model, trans } = page;
    const isSelected = colour !== undefined;
    const className = [
      'axon-Grid-row',
      ...(props.isActive ? ['axon-mod-active'] : []),
      ...(props.isDetailed ? ['axon-mod-detailed'] : []),
      ...(props.isPinned ? ['axon-mod-pinned'] : [])
    ];
    return (
      <div
        id={props.elementId}
        role="row"
        aria-rowindex={props.index + 2}
        aria-level={props.level}
        aria-selected={isSelected}
        className={className.join(' ')}
        data-run-id={run.id}
        data-run={isSelected ? colourIndex(colour) : undefined}
        style={{
          gridTemplateColumns: props.template,
          top: props.isPinned ? ROW_HEIGHT : props.top
        }}
        onClick={props.onClick}
        onDoubleClick={props.onOpen}
        onContextMenu={event => showMenu(event, props.onMenu)}
      >
        <div role="gridcell">
          <input
            type="checkbox"
            tabIndex={-1}
            checked={isSelected}
            aria-label={trans.__('Select %1', run.name)}
            onChange={props.onToggle}
            onClick={event => event.stopPropagation()}
          />
        </div>
        {columns.map(column => (
          <div
            key={column.id}
            role="gridcell"
            data-column={column.id}
            className={numeric.has(column.id) ? 'axon-mod-number' : ''}
          >
            <RunCell
              column={column}
              run={run}
              model={model}
              trans={trans}
              reproducibility={props.reproducibility}
              isBest={props.isBest}
              onOpen={props.onOpen}
            />
          </div>
        ))}
      </div>
    );
  },
  (a, b) => MEMO_KEYS.every(key => a[key] === b[key])
);
RunRow.displayName = 'RunRow';

const MEMO_KEYS = [
  'run',
  'columnKey',
  'numeric',
  'template',
  'level',
  'index',
  'top',
  'colour',
  'isActive',
  'isDetailed',
  'isBest',
  'isPinned',
  'baseline',
  'reproducibility',
  'notebook'
] as const satisfies (keyof IRunRowProps)[];

function showMenu(event: React.MouseEvent, onMenu: (x: number, y: number) => void): void {
  event.preventDefault();
  event.stopPropagation();
  onMenu(event.clientX, event.clientY);
}

interface IGroupRowProps extends IRowProps {
  group: IRunGroup<IRunRow>;
  label: string;
  isOpen: boolean;
  selectedCount: number;
}

/** A row that sums up a group of runs; like `RunRow`, it is rendered again only after changes. */
export const GroupRow = React.memo(
  (props: IGroupRowProps): React.ReactElement => {
    const { page, group, label, isOpen, columns, numeric, selectedCount } = props;
    const { model, trans } = page;
    const isSelected = selectedCount === group.items.length;
    const Caret = isOpen ? caretDownIcon : caretRightIcon;
    return (
      <div
        id={props.elementId}
        role="row"
        aria-level={1}
        aria-expanded={isOpen}
        aria-rowindex={props.index + 2}
        aria-selected={isSelected}
        className={`axon-Grid-row axon-Runs-group${props.isActive ? ' axon-mod-active' : ''}`}
        style={{ gridTemplateColumns: props.template, top: props.top }}
        onClick={props.onClick}
        onDoubleClick={props.onOpen}
        onContextMenu={event => showMenu(event, props.onMenu)}
      >
        <div role="gridcell">
          <input
            type="checkbox"
            tabIndex={-1}
            checked={isSelected}
            ref={element => {
              if (element !== null) {
                element.indeterminate = selectedCount > 0 && !isSelected;
              }
            }}
            aria-label={trans.__('Select all of %1', label)}
            onChange={props.onToggle}
            onClick={event => event.stopPropagation()}
          />
        </div>
        {columns.map((column, index) => (
          <div
            key={column.id}
            role="gridcell"
            data-column={column.id}
            className={numeric.has(column.id) ? 'axon-mod-number' : ''}
          >
            {index === 0 ? (
              <button type="button" tabIndex={-1} className="axon-Runs-name" onClick={props.onOpen}>
                <Caret.react tag="span" width="14px" />
                {label} <small>{group.items.length}</small>
              </button>
            ) : (
              <GroupCell column={column} runs={group.items} model={model} trans={trans} />
            )}
          </div>
        ))}
      </div>
    );
  },
  (a, b) => GROUP_MEMO_KEYS.every(key => a[key] === b[key])
);
GroupRow.displayName = 'GroupRow';

const GROUP_MEMO_KEYS = [
  'group',
  'label',
  'columnKey',
  'numeric',
  'template',
  'index',
  'top',
  'isActive',
  'isOpen',
  'selectedCount'
] as const satisfies (keyof IGroupRowProps)[];
