/** Texts for statuses, times and other values. */

import type { TranslationBundle } from '@jupyterlab/translation';

import type { IProblem } from './model.ts';
import type { IFilterError } from './pure/filter.ts';
import { NO_RUN } from './pure/rows.ts';
import type { CellStatus, IFlag, IRun, NotebookStatus } from './records.ts';

/** Number of characters of the id of a run without a number. */
const ID_LENGTH = 8;

export function statusLabel(trans: TranslationBundle, status: NotebookStatus | CellStatus): string {
  return {
    draft: trans.__('Draft'),
    running: trans.__('Running'),
    completed: trans.__('Completed'),
    failed: trans.__('Failed'),
    stopped: trans.__('Stopped'),
    idle: trans.__('Not run'),
    error: trans.__('Error')
  }[status];
}

/** Return the name of a run, or its number within the notebook, as everywhere else. */
export function runLabel(
  trans: TranslationBundle,
  runs: ReadonlyMap<string, IRun>,
  runId: string
): string {
  if (runId === NO_RUN) {
    return trans.__('no run');
  }
  const run = runs.get(runId);
  return run?.name || trans.__('run %1', run?.number ?? runId.slice(0, ID_LENGTH));
}

/** Return the epochs of checkpoints of a run: `wide, epochs 3–5`. */
export function checkpointsLabel(
  trans: TranslationBundle,
  run: string,
  checkpoints: readonly { epoch: number; step: number }[]
): string {
  const epochs = checkpoints.map(({ epoch }) => epoch);
  const [first, last] = [Math.min(...epochs), Math.max(...epochs)];
  const [only] = checkpoints;
  if (checkpoints.length === 1 && only !== undefined) {
    return trans.__('%1, epoch %2, step %3', run, only.epoch, only.step);
  }
  return first === last
    ? trans.__('%1, epoch %2', run, first)
    : trans.__('%1, epochs %2–%3', run, first, last);
}

/** Return where a configuration comes from, unless the user gave it. */
export function configSourceLabel(
  trans: TranslationBundle,
  run: Pick<IRun, 'config_source'>
): string | undefined {
  switch (run.config_source) {
    case 'derived':
      return trans.__('derived from code');
    case 'parameters':
      return trans.__('from parameters');
    default:
      return undefined;
  }
}

/** Units of time with their length in seconds. */
const UNITS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ['year', 31_557_600],
  ['month', 2_629_800],
  ['week', 604_800],
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60]
];

/** Return how long ago a time was, in the language of the page: `3 min. ago`. */
export function formatTimeAgo(
  trans: TranslationBundle,
  time: string | Date,
  now: number = Date.now()
): string {
  const seconds = (now - new Date(time).getTime()) / 1000;
  const [unit, length] = UNITS.find(([, length]) => seconds >= length) ?? [];
  if (unit === undefined || length === undefined) {
    return trans.__('just now');
  }
  const format = new Intl.RelativeTimeFormat(language(), { numeric: 'auto', style: 'short' });
  return format.format(-Math.floor(seconds / length), unit);
}

/** Return date and time in the language of the page. */
export function formatTime(time: string | Date): string {
  return new Date(time).toLocaleString(language());
}

function language(): string | undefined {
  return document.documentElement.lang || undefined;
}

/** Return what a flag that was derived from saved code reports about a cell, which is named before it. */
export function flagLabel(trans: TranslationBundle, kind: IFlag['kind']): string {
  return kind === 'deleted'
    ? trans.__('A cell that the checkpoint was saved with is no longer in the notebook.')
    : trans.__('has changed since this checkpoint was saved.');
}

/** Return why a filter of checkpoints is invalid, and what to write instead. */
export function filterErrorLabel(trans: TranslationBundle, { kind, text }: IFilterError): string {
  switch (kind) {
    case 'unknown name':
      return trans.__('No checkpoint has a metric or column “%1”.', text);
    case 'unknown run':
      return trans.__('This notebook has no run “%1”.', text);
    case 'no operator':
      return trans.__('Compare “%1” with a value: %1<0.3 or %1:2.', text);
    case 'no value':
      return trans.__('Write a value after “%1”.', text);
    case 'no name':
      return trans.__('Write a name before “%1”.', text);
    case 'no number':
      return trans.__('“%1” is not a number.', text);
    case 'no order':
      return trans.__('“%1” has no order: use : or !=.', text);
    case 'unclosed quote':
      return trans.__('The quotation mark is not closed.');
    case 'unsupported word':
      return trans.__('“%1” is not supported: all words of a filter must match.', text);
  }
}

/** Return what a problem with the server means for what is shown. */
export function problemText(trans: TranslationBundle, problem: IProblem): string {
  switch (problem.kind) {
    case 'unreachable':
      return trans.__(
        'The server cannot be reached since %1. Showing the last known data; reconnecting…',
        problem.since.toLocaleTimeString()
      );
    case 'extension missing':
      return problem.message;
    case 'response':
      return trans.__('The server could not answer: %1', problem.message);
  }
}
