/** Groups of runs, in the table and in the curves. */

import type { CellValue, IRunGroup, RunColumn } from '../pure/runs.ts';
import { configColumnId, groupItems, toColumn } from '../pure/runs.ts';
import type { IRunRow } from '../records.ts';
import { columnReader, columnTitle, groupLabel } from './columns.tsx';
import type { IPageContext } from './context.ts';
import type { RunsModel } from './model.ts';

/** Return the columns by which runs can be grouped, as options; `none` is the label of the first one. */
export function groupOptions(
  { model, settings, trans }: IPageContext,
  none: string
): { value: string; label: string }[] {
  const { config, differing } = model.vocabulary;
  const { group } = settings.table;
  const keys = [
    ...['group', 'notebook', 'status', 'tags'],
    ...config.filter(key => differing.has(key)).map(configColumnId),
    ...config.filter(key => !differing.has(key)).map(configColumnId)
  ];
  const ids = group === '' || keys.includes(group) ? keys : [group, ...keys];
  return [
    { value: '', label: none },
    ...ids.flatMap(id => {
      const column = toColumn(id);
      return column === undefined ? [] : [{ value: id, label: columnTitle(column, trans) }];
    })
  ];
}

/** Put runs with the same value of a column together; a run with several tags is in several groups. */
export function groupRuns(
  runs: readonly IRunRow[],
  column: RunColumn,
  model: RunsModel
): IRunGroup<IRunRow>[] {
  const read = columnReader(column, model);
  const valuesOf = (run: IRunRow): readonly CellValue[] =>
    column.id === 'tags' ? run.tags : [read(run)];
  return groupItems(runs, valuesOf);
}

/** What is drawn as one curve: a run, or the mean of a group of runs. */
export interface ICurveGroup {
  id: string;
  label: string;
  colour: number;
  runs: readonly IRunRow[];
}

/**
 * Return the curves of runs that are grouped by a column.
 *
 * The colours of groups follow those of their runs, so that they do not change with the order of the table.
 */
export function curveGroups(
  { model, trans }: IPageContext,
  runs: readonly IRunRow[],
  column: RunColumn,
  colours: ReadonlyMap<string, number>
): ICurveGroup[] {
  const groups = groupRuns(runs, column, model);
  const first = ({ items }: IRunGroup<IRunRow>): number =>
    Math.min(...items.map(({ id }) => colours.get(id) ?? 0));
  const ordered = [...groups].sort((a, b) => first(a) - first(b));
  return groups.map(group => ({
    id: group.key,
    label: groupLabel(column, group, trans),
    colour: ordered.indexOf(group),
    runs: group.items
  }));
}
