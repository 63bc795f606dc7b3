/** A button that opens a list of choices. */

import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { PopoverButton } from '../widgets/popover.tsx';

/** Number of choices from which on there is a search field. */
const MIN_SEARCHED = 8;

export interface IChoice {
  value: string;
  label: string;
}

export interface IChooserProps {
  /** What is chosen, for example "Metrics". */
  label: string;
  /** The text on the button; the label if it is missing. */
  text?: string;
  /** Their values are distinct. */
  options: readonly IChoice[];
  /** The values of the chosen options. */
  chosen: readonly string[];
  /** Called with the values of the chosen options in their order. */
  onChange: (chosen: string[]) => void;
  trans: TranslationBundle;
  /** Shown below the options. */
  children?: React.ReactNode;
}

export function Chooser({
  label,
  text = label,
  options,
  chosen,
  onChange,
  trans,
  children
}: IChooserProps): React.ReactElement {
  const [query, setQuery] = React.useState('');
  const isChosen = new Set(chosen);
  const found = options.filter(option => option.label.toLowerCase().includes(query.toLowerCase()));
  return (
    <PopoverButton label={label} text={text} onOpen={() => setQuery('')}>
      {() => (
        <>
          {options.length >= MIN_SEARCHED && (
            <input
              type="search"
              className="axon-Chooser-search"
              aria-label={trans.__('Search')}
              placeholder={trans.__('Search')}
              value={query}
              onChange={event => setQuery(event.target.value)}
            />
          )}
          {found.map(({ value, label }) => (
            <label key={value} title={label}>
              <input
                type="checkbox"
                checked={isChosen.has(value)}
                onChange={event => {
                  const { checked } = event.target;
                  onChange(
                    options
                      .map(option => option.value)
                      .filter(other => (other === value ? checked : isChosen.has(other)))
                  );
                }}
              />
              <span>{label}</span>
            </label>
          ))}
          {found.length === 0 && <p>{trans.__('Nothing found.')}</p>}
          {children}
        </>
      )}
    </PopoverButton>
  );
}
