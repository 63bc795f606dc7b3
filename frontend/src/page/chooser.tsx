/** The choice of columns, and of the column by which runs are grouped. */

import { Button, HTMLSelect, moveDownIcon, moveUpIcon } from '@jupyterlab/ui-components';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import type { IVocabulary, RunColumn, Statistic } from '../pure/runs.ts';
import { configColumnId, FIELD_COLUMNS, metricColumnId, toColumn } from '../pure/runs.ts';
import { columnTitle } from './columns.tsx';
import { usePage } from './context.ts';
import { groupOptions } from './groups.ts';
import { PopoverButton } from '../widgets/popover.tsx';
import { shownColumns } from './table.tsx';

/** The most columns that are listed at a time, beside those that are shown. */
const MAX_LISTED = 200;
const STATISTICS: readonly Statistic[] = ['best', 'last', 'min', 'max'];

/** A button that opens the choice of columns below it. */
export function ColumnChooser(): React.ReactElement {
  const { trans } = usePage();
  const label = trans.__('Columns');
  return (
    <PopoverButton label={label} text={label} className="axon-Columns">
      {() => <ColumnList />}
    </PopoverButton>
  );
}

function ColumnList(): React.ReactElement {
  const page = usePage();
  const { model, settings, trans } = page;
  const [query, setQuery] = React.useState('');
  const shown = shownColumns(page);
  const ids = shown.map(column => column.id);
  const set = (columns: string[]): void => void settings.update({ columns });
  const move = (index: number, step: number): void => {
    const columns = [...ids];
    columns.splice(index + step, 0, ...columns.splice(index, 1));
    set(columns);
  };
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (column: RunColumn): boolean => {
    const text = columnLabel(column, trans).toLowerCase();
    return words.every(word => text.includes(word));
  };
  const others = allColumns(model.vocabulary).filter(
    column =>
      !ids.includes(column.id) &&
      matches(column) &&
      (words.length > 0 || column.kind !== 'metric' || column.statistic === 'best')
  );
  return (
    <>
      <input
        type="text"
        className="jp-mod-styled"
        placeholder={trans.__('Search columns')}
        aria-label={trans.__('Search columns')}
        value={query}
        onChange={event => setQuery(event.target.value)}
      />
      <div className="axon-Columns-lists">
        <ul aria-label={trans.__('Shown')}>
          {shown.map((column, index) =>
            matches(column) ? (
              <li key={column.id}>
                <label>
                  <input
                    type="checkbox"
                    checked
                    disabled={shown.length === 1}
                    onChange={() => set(ids.filter(other => other !== column.id))}
                  />
                  {columnLabel(column, trans)}
                </label>
                <Button
                  minimal
                  small
                  disabled={index === 0}
                  title={trans.__('Move to the left')}
                  aria-label={trans.__('Move %1 to the left', columnLabel(column, trans))}
                  onClick={() => move(index, -1)}
                >
                  <moveUpIcon.react tag="span" width="14px" />
                </Button>
                <Button
                  minimal
                  small
                  disabled={index === shown.length - 1}
                  title={trans.__('Move to the right')}
                  aria-label={trans.__('Move %1 to the right', columnLabel(column, trans))}
                  onClick={() => move(index, 1)}
                >
                  <moveDownIcon.react tag="span" width="14px" />
                </Button>
              </li>
            ) : null
          )}
        </ul>
        <ul aria-label={trans.__('Hidden')}>
          {others.slice(0, MAX_LISTED).map(column => (
            <li key={column.id}>
              <label>
                <input type="checkbox" checked={false} onChange={() => set([...ids, column.id])} />
                {columnLabel(column, trans)}
              </label>
            </li>
          ))}
        </ul>
        {others.length > MAX_LISTED && (
          <p className="axon-Hint">
            {trans.__('%1 more; search for them', others.length - MAX_LISTED)}
          </p>
        )}
      </div>
      <Button
        minimal
        small
        disabled={settings.table.columns.length === 0 && widthCount(settings.table.widths) === 0}
        title={trans.__('Choose the columns from the runs again, with widths that fit')}
        onClick={() => void settings.update({ columns: [], widths: {} })}
      >
        {trans.__('Automatic')}
      </Button>
    </>
  );
}

function widthCount(widths: Readonly<Record<string, number>>): number {
  return Object.keys(widths).length;
}

function allColumns({ config, metrics }: IVocabulary): RunColumn[] {
  const ids = [
    ...FIELD_COLUMNS,
    ...config.map(configColumnId),
    ...metrics.flatMap(metric => STATISTICS.map(statistic => metricColumnId(metric, statistic)))
  ];
  return ids.flatMap(id => toColumn(id) ?? []);
}

/** Return the title of a column with its kind. */
export function columnLabel(column: RunColumn, trans: TranslationBundle): string {
  const title = columnTitle(column, trans);
  switch (column.kind) {
    case 'config':
      return trans.__('%1 (configuration)', title);
    case 'metric':
      return {
        best: trans.__('%1 (best)', title),
        last: trans.__('%1 (last)', title),
        min: trans.__('%1 (min)', title),
        max: trans.__('%1 (max)', title)
      }[column.statistic];
    case 'field':
      return title;
  }
}

/** The choice of the column by which runs are grouped. */
export function GroupSelect(): React.ReactElement {
  const page = usePage();
  const { settings, trans } = page;
  return (
    <label className="axon-Runs-select">
      {trans.__('Group by')}
      <HTMLSelect
        aria-label={trans.__('Group by')}
        value={settings.table.group}
        options={groupOptions(page, trans.__('nothing'))}
        onChange={event => void settings.update({ group: event.target.value })}
      />
    </label>
  );
}

/** The choice of the metric by which runs are compared. */
export function BestSelect(): React.ReactElement | null {
  const { model, trans } = usePage();
  const { ranking, vocabulary } = model;
  if (ranking === undefined) {
    return null;
  }
  const { metric, minimize } = ranking;
  const label = minimize
    ? trans.__('Lower %1 is better; switch', metric)
    : trans.__('Higher %1 is better; switch', metric);
  return (
    <label className="axon-Runs-select">
      {trans.__('Best by')}
      <HTMLSelect
        aria-label={trans.__('Best by')}
        value={metric}
        options={vocabulary.metrics.map(value => ({ value }))}
        onChange={event => model.rankBy(event.target.value)}
      />
      <Button
        minimal
        small
        title={label}
        aria-label={label}
        onClick={() => model.rankBy(metric, !minimize)}
      >
        {minimize ? trans.__('↓ lower') : trans.__('↑ higher')}
      </Button>
    </label>
  );
}
