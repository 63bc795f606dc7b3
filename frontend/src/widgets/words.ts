/** Statuses and times as people read them. */

import type { TranslationBundle } from '@jupyterlab/translation';

import type { CellStatus, IFlag, NotebookStatus } from '../records.ts';

export function statusWord(trans: TranslationBundle, status: NotebookStatus | CellStatus): string {
  switch (status) {
    case 'draft':
      return trans.__('Draft');
    case 'running':
      return trans.__('Running');
    case 'completed':
      return trans.__('Completed');
    case 'failed':
      return trans.__('Failed');
    case 'stopped':
      return trans.__('Stopped');
    case 'idle':
      return trans.__('Not run');
    case 'error':
      return trans.__('Error');
  }
}

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['second', 60],
  ['minute', 60],
  ['hour', 24],
  ['day', 7],
  ['week', 5],
  ['month', 12],
  ['year', Infinity]
];
const LENGTHS = { second: 1, minute: 60, hour: 3600, day: 86_400, week: 604_800 } as const;
const MONTH = 2_629_800;
const YEAR = 31_557_600;

/** `3 minutes ago`, in the language of the page. */
export function timeAgo(moment: string | Date, now: number = Date.now()): string {
  const seconds = Math.min(0, (new Date(moment).getTime() - now) / 1000);
  const unit =
    UNITS.find(([name, most]) => Math.abs(seconds) / lengthOf(name) < most)?.[0] ?? 'year';
  const language = document.documentElement.lang || undefined;
  const format = new Intl.RelativeTimeFormat(language, { numeric: 'auto', style: 'short' });
  return format.format(Math.ceil(seconds / lengthOf(unit)), unit);
}

function lengthOf(unit: Intl.RelativeTimeFormatUnit): number {
  if (unit === 'month') {
    return MONTH;
  }
  return unit === 'year' ? YEAR : LENGTHS[unit as keyof typeof LENGTHS];
}

/** Date and time, in the language of the page. */
export function timeInFull(moment: string | Date): string {
  return new Date(moment).toLocaleString(document.documentElement.lang || undefined);
}

/** What a kind of flag says of so many cells, which are named before it. */
export function flagWord(trans: TranslationBundle, kind: IFlag['kind'], cells: number): string {
  switch (kind) {
    case 'drifted':
      return trans._n(
        'has changed since this checkpoint was saved.',
        'have changed since this checkpoint was saved.',
        cells
      );
    case 'edited':
      return trans._n('was edited and not run again.', 'were edited and not run again.', cells);
    case 'out_of_order':
      return trans._n('was run out of order.', 'were run out of order.', cells);
    case 'rerun':
      return trans._n(
        'was executed more than once; leftover variables may affect the result.',
        'were executed more than once; leftover variables may affect the result.',
        cells
      );
    case 'deleted':
      return trans._n(
        'A cell that was executed for it is no longer in the notebook.',
        '%1 cells that were executed for it are no longer in the notebook.',
        cells
      );
    case 'not_run':
      return trans._n(
        'above the training cell, was not executed.',
        'above the training cell, were not executed.',
        cells
      );
  }
}

/** What a run is called: its number among the notebook's. */
export function runWord(trans: TranslationBundle, order: readonly string[], runId: string): string {
  return runId === '' ? trans.__('no run') : trans.__('run %1', order.indexOf(runId) + 1);
}
