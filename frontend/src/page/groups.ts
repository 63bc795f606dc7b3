/** Groups of runs. */

import type { CellValue, IRunGroup, RunColumn } from '../pure/runs.ts';
import { configColumnId, groupItems, toColumn } from '../pure/runs.ts';
import type { IRunRow } from '../records.ts';
import { columnReader, columnTitle } from './columns.tsx';
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
