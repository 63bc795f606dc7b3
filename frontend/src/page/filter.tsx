/** The box with the filter of runs: completion, and errors at their place. */

import { Button, closeIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { ICompletion, IFilterNames, OptionKind } from '../pure/where.ts';
import { applySuggestion, complete, errorRange, errorReason, indexOf } from '../pure/where.ts';
import type { RunStatus } from '../records.ts';
import { placeBelow } from '../widgets/popover.tsx';
import { usePage } from './context.ts';
import type { RunsModel } from './model.ts';

/** Milliseconds after the last key until the filter is applied. */
const DELAY = 300;
/** The most values of a field or configuration key that are offered. */
const MAX_VALUES = 30;
const STATUSES: RunStatus[] = ['running', 'completed', 'failed', 'stopped'];
const NO_OPTIONS: ICompletion = { from: 0, to: 0, options: [] };

export function FilterInput(): React.ReactElement {
  const { model, trans } = usePage();
  const input = React.useRef<HTMLInputElement>(null);
  const mirror = React.useRef<HTMLDivElement>(null);
  const list = React.useRef<HTMLUListElement>(null);
  const id = React.useId();
  const [text, setText] = React.useState(model.where);
  const [completion, setCompletion] = React.useState(NO_OPTIONS);
  const [active, setActive] = React.useState(-1);
  const [known, setKnown] = React.useState(model.where);
  const timer = React.useRef<ReturnType<typeof setTimeout>>(undefined);

  // Others may set the filter: the panel, the URL.
  if (model.where !== known) {
    setKnown(model.where);
    setText(model.where);
  }

  const apply = (where: string): void => {
    clearTimeout(timer.current);
    setKnown(where.trim());
    model.filter(where).catch(() => undefined); // the next poll reports the problem
  };
  React.useEffect(() => () => clearTimeout(timer.current), []);

  const change = (value: string, cursor: number, mayComplete = true): void => {
    setText(value);
    setCompletion(mayComplete ? complete(value, cursor, filterNames(model)) : NO_OPTIONS);
    setActive(-1);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => apply(value), DELAY);
  };
  const close = (): void => {
    setCompletion(NO_OPTIONS);
    setActive(-1);
  };
  const accept = (index: number): void => {
    const option = completion.options[index];
    if (option !== undefined) {
      const { from, to } = completion;
      const rest = text.slice(to).trimStart();
      const isOpen = option.text === '[';
      const value = `${text.slice(0, from)}${option.text}${isOpen ? '' : ' '}${rest}`;
      const cursor = from + option.text.length + (isOpen ? 0 : 1);
      change(value, cursor);
      requestAnimationFrame(() => {
        input.current?.focus();
        input.current?.setSelectionRange(cursor, cursor);
      });
    }
  };
  const handleKey = (event: React.KeyboardEvent): void => {
    const count = completion.options.length;
    switch (event.key) {
      case 'ArrowDown':
      case 'ArrowUp': {
        if (count === 0) {
          const cursor = input.current?.selectionStart ?? text.length;
          setCompletion(complete(text, cursor, filterNames(model)));
          setActive(0);
        } else {
          const step = event.key === 'ArrowDown' ? 1 : -1;
          setActive((Math.max(active, step > 0 ? -1 : 0) + step + count) % count);
        }
        event.preventDefault();
        break;
      }
      case 'Enter':
        if (active >= 0) {
          accept(active);
        } else {
          close();
          apply(text);
        }
        event.preventDefault();
        break;
      case 'Tab':
        if (active >= 0) {
          accept(active);
          event.preventDefault();
        } else {
          close();
        }
        break;
      case 'Escape':
        if (count > 0) {
          close();
          event.stopPropagation();
        }
        break;
    }
  };

  const error = model.filterError?.where === text.trim() ? model.filterError : undefined;
  const indent = text.length - text.trimStart().length;
  const at =
    error?.position === undefined ? undefined : indent + indexOf(error.where, error.position);
  const [from, to] = at === undefined ? [0, 0] : errorRange(text, at);
  const isOpen = completion.options.length > 0;
  React.useLayoutEffect(() => {
    list.current?.togglePopover(isOpen);
    if (isOpen && list.current !== null && input.current !== null) {
      placeBelow(list.current, input.current);
    }
  }, [isOpen]);
  return (
    <div className="axon-Where">
      <div className="axon-Where-box" data-invalid={error !== undefined}>
        <div ref={mirror} className="axon-Where-mirror" aria-hidden="true">
          {text.slice(0, from)}
          <mark>{text.slice(from, to)}</mark>
        </div>
        <input
          ref={input}
          type="text"
          role="combobox"
          aria-label={trans.__('Filter of runs')}
          aria-autocomplete="list"
          aria-expanded={isOpen}
          aria-controls={`${id}list`}
          aria-activedescendant={active < 0 ? undefined : `${id}${active}`}
          aria-invalid={error !== undefined}
          aria-describedby={error === undefined ? undefined : `${id}error`}
          autoComplete="off"
          spellCheck={false}
          placeholder={trans.__('Filter, such as config.lr < 0.01 and status == "completed"')}
          value={text}
          onChange={({ target }) =>
            change(target.value, target.selectionStart ?? target.value.length)
          }
          onKeyDown={handleKey}
          onScroll={({ currentTarget }) => {
            if (mirror.current !== null) {
              mirror.current.scrollLeft = currentTarget.scrollLeft;
            }
          }}
          onBlur={close}
        />
        {text !== '' && (
          <Button
            minimal
            small
            title={trans.__('Show all runs')}
            aria-label={trans.__('Show all runs')}
            onClick={() => {
              change('', 0, false);
              apply('');
              input.current?.focus();
            }}
          >
            <closeIcon.react tag="span" width="14px" />
          </Button>
        )}
      </div>
      <ul
        ref={list}
        id={`${id}list`}
        role="listbox"
        aria-label={trans.__('Completions')}
        className="axon-Where-options"
        {...{ popover: 'manual' }}
      >
        {completion.options.map((option, index) => (
          <li
            key={option.text}
            id={`${id}${index}`}
            role="option"
            aria-selected={index === active}
            ref={element => {
              if (index === active) {
                element?.scrollIntoView({ block: 'nearest' });
              }
            }}
            onMouseDown={event => {
              event.preventDefault(); // the focus remains in the box
              accept(index);
            }}
          >
            <span>{option.text}</span>
            <small>{kindLabel(option.kind)}</small>
          </li>
        ))}
      </ul>
      <div role="status" id={`${id}error`}>
        {error !== undefined && (
          <p className="axon-Where-error">
            {errorReason(error.message)}
            {error.suggestions.length > 0 && trans.__('; did you mean')}
            {error.suggestions.map(suggestion => (
              <Button
                key={suggestion}
                minimal
                small
                className="axon-Link"
                onClick={() => {
                  const value = applySuggestion(text, at ?? 0, suggestion);
                  change(value, value.length, false);
                  apply(value);
                  input.current?.focus();
                }}
              >
                {suggestion}
              </Button>
            ))}
          </p>
        )}
      </div>
    </div>
  );

  function kindLabel(kind: OptionKind): string {
    return {
      field: trans.__('field'),
      config: trans.__('configuration'),
      metric: trans.__('metric'),
      value: trans.__('value'),
      operator: '',
      word: ''
    }[kind];
  }
}

/** Return what filters can name, from the runs that are loaded. */
function filterNames(model: RunsModel): IFilterNames {
  const { config, metrics, tags, groups } = model.vocabulary;
  return {
    config,
    metrics,
    tags,
    valuesOf: name => {
      switch (name) {
        case 'status':
          return STATUSES;
        case 'group':
          return groups;
        case 'notebook':
          return model.notebookNames;
        default:
          return configValues(model, name);
      }
    }
  };
}

/** Return some values of a configuration key of runs. */
function configValues(model: RunsModel, name: string): (string | number | boolean)[] {
  const key = model.vocabulary.config.find(
    key => name === `config.${key}` || name === `config[${JSON.stringify(key)}]`
  );
  const values = new Set<string | number | boolean>();
  for (const run of key === undefined ? [] : model.shown) {
    const value = run.config[key ?? ''];
    if (typeof value === 'boolean' || typeof value === 'number' || typeof value === 'string') {
      values.add(value);
    }
    if (values.size >= MAX_VALUES) {
      break;
    }
  }
  return [...values].sort((a, b) => (a < b ? -1 : 1));
}
