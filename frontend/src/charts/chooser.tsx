/** A button that opens a list of choices. */

import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { PopoverButton } from '../widgets/popover.tsx';

/** Number of choices from which on there is a search field. */
const MIN_SEARCHED = 8;

export interface IChooserProps {
  /** What is chosen, for example "Metrics". */
  label: string;
  /** The text on the button; the label if it is missing. */
  text?: string;
  options: readonly string[];
  chosen: readonly string[];
  /** Called with the chosen options in their order. */
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
  const found = options.filter(option => option.toLowerCase().includes(query.toLowerCase()));
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
          {found.map(option => (
            <label key={option} title={option}>
              <input
                type="checkbox"
                checked={isChosen.has(option)}
                onChange={event => {
                  const { checked } = event.target;
                  onChange(
                    options.filter(other => (other === option ? checked : isChosen.has(other)))
                  );
                }}
              />
              <span>{option}</span>
            </label>
          ))}
          {found.length === 0 && <p>{trans.__('Nothing found.')}</p>}
          {children}
        </>
      )}
    </PopoverButton>
  );
}
