/** The columns of the table of runs: titles, widths and cells. */

import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { starIcon } from '../icons.ts';
import { statusLabel } from '../labels.ts';
import { formatDuration } from '../pure/duration.ts';
import { formatBytes, formatNumber } from '../pure/metrics.ts';
import { verdict } from '../pure/comparison.ts';
import type { CellValue, FieldColumn, IAggregate, IRunGroup, RunColumn } from '../pure/runs.ts';
import { aggregate, configValue, duration, metricValue, resolveStatistic } from '../pure/runs.ts';
import type { IRunReproducibility, IRunRow, RunStatus } from '../records.ts';
import { TimeAgo } from '../widgets/context.tsx';
import { textWidth } from '../widgets/measure.ts';
import { StatusBadge } from '../widgets/status.tsx';
import type { RunsModel } from './model.ts';

/** Pixels beside the text of a cell. */
const PADDING = 18;
/** Pixels beside a title: the mark of the order, and which value of a metric is shown. */
const MARK_WIDTH = 16;
const STATISTIC_WIDTH = 44;
/** The longest texts of a number, and of the mean and spread of numbers. */
const LONGEST_NUMBER = '-0.001234';
const LONGEST_AGGREGATE = '0.00123 ± 0.00123';
const MAX_WIDTH = 220;
/** Width of a metric of groups: mean, spread and best. */
const AGGREGATE_WIDTH = 220;
/** Number of runs whose values determine the width of a column. */
const SAMPLE = 100;
const FIXED_WIDTHS: Partial<Record<FieldColumn, number>> = {
  name: 144,
  status: 110,
  started_at: 88,
  duration: 96,
  tags: 130,
  notes: 180,
  checkpoints: 92,
  size: 76,
  step_count: 76,
  code: 82,
  reproducible: 104
};
const NUMBER_FIELDS: readonly FieldColumn[] = ['duration', 'checkpoints', 'size', 'step_count'];

/** Return the title of a column. */
export function columnTitle(column: RunColumn, trans: TranslationBundle): string {
  switch (column.kind) {
    case 'config':
      return column.key;
    case 'metric':
      return column.metric;
    case 'field':
      return {
        name: trans.__('name'),
        status: trans.__('status'),
        notebook: trans.__('notebook'),
        started_at: trans.__('started'),
        duration: trans.__('duration'),
        group: trans.__('group'),
        tags: trans.__('tags'),
        notes: trans.__('notes'),
        step_count: trans.__('steps'),
        checkpoints: trans.__('checkpoints'),
        size: trans.__('size'),
        code: trans.__('code'),
        reproducible: trans.__('reproducible')
      }[column.field];
  }
}

/** Return which value of a metric a column shows; undefined for other columns. */
export function statisticLabel(
  column: RunColumn,
  model: RunsModel,
  trans: TranslationBundle
): string | undefined {
  if (column.kind !== 'metric') {
    return undefined;
  }
  const { metric, statistic } = column;
  const value = resolveStatistic(metric, statistic, name => model.direction(name));
  return { last: trans.__('last'), min: trans.__('min'), max: trans.__('max') }[value];
}

/** Return the value by which a run is sorted, grouped and exported; undefined if it has none. */
export function columnValue(column: RunColumn, run: IRunRow, model: RunsModel): CellValue {
  return columnReader(column, model)(run);
}

/** Return a function for the values of many runs in a column. */
export function columnReader(column: RunColumn, model: RunsModel): (run: IRunRow) => CellValue {
  switch (column.kind) {
    case 'config':
      return run => configValue(run, column.key);
    case 'metric': {
      const { metric } = column;
      const statistic = resolveStatistic(metric, column.statistic, name => model.direction(name));
      return run => metricValue(run, metric, statistic);
    }
    case 'field':
      return run => fieldValue(column.field, run, model);
  }
}

function fieldValue(field: FieldColumn, run: IRunRow, model: RunsModel): CellValue {
  switch (field) {
    case 'notebook':
      return model.notebook(run.notebook_id)?.name;
    case 'duration':
      return duration(run);
    case 'tags':
      return run.tags.length === 0 ? undefined : run.tags.join(', ');
    case 'checkpoints':
      return run.checkpoint_count;
    case 'code': {
      const { code, changed_cells } = model.reproducibility(run.id) ?? {};
      return code === 'different' ? changed_cells : code === 'same' ? 0 : undefined;
    }
    case 'reproducible': {
      const { is_recorded, flags } = model.reproducibility(run.id) ?? {};
      return is_recorded ? flags?.length : undefined;
    }
    default:
      return run[field];
  }
}

/** Return whether the values of a column are numbers, which are aligned at the right. */
export function isNumeric(column: RunColumn, runs: readonly IRunRow[]): boolean {
  switch (column.kind) {
    case 'config':
      return runs.every(run => {
        const value = run.config[column.key];
        return value === undefined || value === null || typeof value === 'number';
      });
    case 'metric':
      return true;
    case 'field':
      return NUMBER_FIELDS.includes(column.field);
  }
}

/** Return whether a column can be sorted; others are only loaded for the rows that are visible. */
export function canSort(column: RunColumn): boolean {
  return column.kind !== 'field' || (column.field !== 'code' && column.field !== 'reproducible');
}

/** Return the width of a column that fits its title and its values. */
export function fittingWidth(
  column: RunColumn,
  title: string,
  model: RunsModel,
  isGrouped: boolean,
  font: string
): number {
  const fixed = column.kind === 'field' ? FIXED_WIDTHS[column.field] : undefined;
  if (fixed !== undefined) {
    return fixed;
  }
  if (isGrouped && column.kind === 'metric') {
    return AGGREGATE_WIDTH;
  }
  let longest = isGrouped && column.kind === 'config' ? LONGEST_AGGREGATE : LONGEST_NUMBER;
  for (const run of model.shown.slice(0, SAMPLE)) {
    const text = cellText(column, columnValue(column, run, model));
    longest = text.length > longest.length ? text : longest;
  }
  const marks = column.kind === 'metric' ? MARK_WIDTH + STATISTIC_WIDTH : MARK_WIDTH;
  const width = Math.max(textWidth(title, font) + marks, textWidth(longest, font));
  return Math.min(MAX_WIDTH, Math.ceil(width) + PADDING);
}

/** Return a value as it is displayed. */
export function cellText(column: RunColumn, value: CellValue): string {
  if (value === undefined) {
    return '';
  }
  if (typeof value === 'string') {
    return value;
  }
  if (column.kind === 'field') {
    switch (column.field) {
      case 'duration':
        return formatDuration(value);
      case 'size':
        return formatBytes(value);
      default:
        return String(value);
    }
  }
  return formatNumber(value);
}

/** Return what a group of runs has in common. */
export function groupLabel(
  column: RunColumn,
  { value }: IRunGroup<IRunRow>,
  trans: TranslationBundle
): string {
  if (value === undefined) {
    return trans.__('none');
  }
  return column.kind === 'field' && column.field === 'status'
    ? statusLabel(trans, value as RunStatus)
    : cellText(column, value);
}

/** What a group of runs has in a column: mean, spread and best of numbers, and a text that all have. */
export function GroupCell({
  column,
  runs,
  model,
  trans
}: {
  column: RunColumn;
  runs: readonly IRunRow[];
  model: RunsModel;
  trans: TranslationBundle;
}): React.ReactElement | null {
  if (!canSort(column)) {
    return null;
  }
  const values = runs.map(columnReader(column, model));
  const distinct = new Set(values);
  const numbers = isNumeric(column, runs) ? aggregate(values) : undefined;
  if (numbers !== undefined && (column.kind === 'metric' || distinct.size > 1)) {
    const { mean, deviation, count } = numbers;
    const best = column.kind === 'metric' ? bestOf(column.metric, numbers, model) : undefined;
    return (
      <span title={spreadTitle(count, trans)}>
        {aggregateText(column, mean)}
        {count > 1 && ` ± ${aggregateText(column, deviation)}`}
        {best !== undefined && <small>{trans.__('best %1', formatNumber(best))}</small>}
      </span>
    );
  }
  if (column.kind === 'field' && column.field === 'started_at') {
    return null;
  }
  const [only] = distinct;
  return distinct.size === 1 ? (
    <>
      {column.kind === 'field' && column.field === 'status'
        ? statusLabel(trans, only as RunStatus)
        : cellText(column, only)}
    </>
  ) : (
    <small>{trans.__('%1 values', distinct.size)}</small>
  );
}

/** Return what `mean ± deviation` is about. */
export function spreadTitle(count: number, trans: TranslationBundle): string {
  return trans._n(
    'Mean ± standard deviation of %1 run',
    'Mean ± standard deviation of %1 runs',
    count
  );
}

function bestOf(metric: string, { min, max }: IAggregate, model: RunsModel): number | undefined {
  const direction = model.direction(metric);
  return direction === undefined ? undefined : { min, max }[direction];
}

function aggregateText(column: RunColumn, value: number): string {
  return cellText(column, Number(value.toPrecision(3)));
}

interface ICellProps {
  column: RunColumn;
  run: IRunRow;
  model: RunsModel;
  trans: TranslationBundle;
  reproducibility: IRunReproducibility | undefined;
  isBest: boolean;
  onOpen: () => void;
}

/** The content of a cell. */
export function RunCell(props: ICellProps): React.ReactElement | null {
  const { column, run, model, trans } = props;
  switch (column.kind === 'field' ? column.field : column.kind) {
    case 'name':
      return <NameCell {...props} />;
    case 'status':
      return <StatusBadge status={run.status} trans={trans} />;
    case 'started_at':
      return <TimeAgo time={run.started_at} trans={trans} />;
    case 'duration':
      return <Duration key={run.id} run={run} />;
    case 'tags':
      return (
        <>
          {run.tags.map(tag => (
            <span key={tag} className="axon-Tag">
              {tag}
            </span>
          ))}
        </>
      );
    case 'code':
      return <CodeCell {...props} />;
    case 'reproducible':
      return <ReproducibleCell {...props} />;
    case 'metric':
      return <MetricCell {...props} />;
    default:
      return <>{cellText(column, columnValue(column, run, model))}</>;
  }
}

/** A metric, marked if it is better or worse than that of the baseline. */
function MetricCell({ column, run, model, trans }: ICellProps): React.ReactElement {
  const { baseline } = model;
  const value = columnValue(column, run, model);
  const text = cellText(column, value);
  if (column.kind !== 'metric' || baseline === undefined || baseline.id === run.id) {
    return <>{text}</>;
  }
  const base = columnValue(column, baseline, model);
  const result = verdict(column.metric, base, value, metric => model.direction(metric));
  if (result === undefined) {
    return <>{text}</>;
  }
  const label = { better: trans.__('better'), worse: trans.__('worse') }[result];
  const title = trans.__('%1 than the baseline, which has %2', label, cellText(column, base));
  return (
    <span className="axon-Difference" data-verdict={result} title={title}>
      {text}
      <span role="img" aria-label={title}>
        {result === 'better' ? ' ▲' : ' ▼'}
      </span>
    </span>
  );
}

function NameCell({ run, model, trans, isBest, onOpen }: ICellProps): React.ReactElement {
  const best = trans.__('Best run of its notebook');
  return (
    <>
      <button type="button" tabIndex={-1} className="axon-Runs-name" onClick={onOpen}>
        {run.name}
      </button>
      {isBest && (
        <span role="img" aria-label={best} title={best}>
          <starIcon.react tag="span" width="14px" />
        </span>
      )}
      {run.id === model.baseline?.id && <em>{trans.__('baseline')}</em>}
      {run.archived === true && <em>{trans.__('archived')}</em>}
    </>
  );
}

/** Milliseconds between two updates of the duration of a run. */
const TICK = 1000;

function Duration({ run }: { run: IRunRow }): React.ReactElement {
  const [now, setNow] = React.useState(Date.now);
  React.useEffect(() => {
    if (run.status !== 'running') {
      return undefined;
    }
    const timer = setInterval(() => {
      if (!document.hidden) {
        setNow(Date.now());
      }
    }, TICK);
    return () => clearInterval(timer);
  }, [run.status]);
  const seconds = duration(run, now);
  return <>{seconds === undefined ? '' : formatDuration(seconds)}</>;
}

function CodeCell({ reproducibility, run, model, trans }: ICellProps): React.ReactElement | null {
  if (reproducibility === undefined) {
    return null;
  }
  const { code, changed_cells } = reproducibility;
  const base = model.baseOf(run);
  const isBaseline = base !== undefined && base === model.baseline?.id;
  if (base === run.id) {
    return isBaseline ? (
      <span title={trans.__('The run with which the others are compared')}>
        {trans.__('baseline')}
      </span>
    ) : (
      <span title={trans.__('The best run of the notebook')}>{trans.__('best run')}</span>
    );
  }
  switch (code) {
    case 'same':
      return (
        <span
          title={
            isBaseline
              ? trans.__('The code is that of the baseline')
              : trans.__('The code is that of the best run of the notebook')
          }
        >
          {trans.__('same')}
        </span>
      );
    case 'different':
      return (
        <span
          className="axon-mod-differs"
          title={
            isBaseline
              ? trans.__('The code differs from that of the baseline')
              : trans.__('The code differs from that of the best run of the notebook')
          }
        >
          {changed_cells === undefined
            ? trans.__('differs')
            : trans._n('≠ %1 cell', '≠ %1 cells', changed_cells)}
        </span>
      );
    default:
      return (
        <span title={trans.__('No best run to compare with, or executed code is not recorded')}>
          {'–'}
        </span>
      );
  }
}

function ReproducibleCell({
  reproducibility,
  trans,
  onOpen
}: ICellProps): React.ReactElement | null {
  if (reproducibility === undefined) {
    return null;
  }
  const { checkpoint_id, is_recorded, flags } = reproducibility;
  if (flags.length > 0) {
    return (
      <button
        type="button"
        tabIndex={-1}
        className="axon-Runs-reasons"
        title={flags.map(({ message }) => message).join('\n')}
        onClick={onOpen}
      >
        {trans._n('⚠ %1 reason', '⚠ %1 reasons', flags.length)}
      </button>
    );
  }
  return !is_recorded ? (
    <span
      title={
        checkpoint_id === undefined
          ? trans.__('The run has no checkpoint')
          : trans.__('What was executed is not recorded')
      }
    >
      {'–'}
    </span>
  ) : (
    <span title={trans.__('Nothing suggests that the result cannot be reproduced')}>
      {trans.__('✓ yes')}
    </span>
  );
}
