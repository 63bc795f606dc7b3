/** A button that opens a list of choices. */

import { Button, caretDownEmptyIcon } from '@jupyterlab/ui-components';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

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
}

export function Chooser({
  label,
  text = label,
  options,
  chosen,
  onChange,
  trans
}: IChooserProps): React.ReactElement {
  const id = React.useId();
  const popover = React.useRef<HTMLDivElement>(null);
  const [query, setQuery] = React.useState('');
  const [isOpen, setOpen] = React.useState(false);

  React.useEffect(() => {
    const node = popover.current;
    const onToggle = (event: Event): void => {
      setOpen((event as ToggleEvent).newState === 'open');
      node?.querySelector('input')?.focus();
    };
    node?.addEventListener('toggle', onToggle);
    return () => node?.removeEventListener('toggle', onToggle);
  }, []);

  const open = (button: HTMLElement): void => {
    const node = popover.current;
    if (node === null) {
      return;
    }
    const { left, bottom } = button.getBoundingClientRect();
    node.style.left = `${left}px`;
    node.style.top = `${bottom + 2}px`;
    node.style.maxHeight = `${Math.max(120, innerHeight - bottom - 12)}px`;
    setQuery('');
    node.togglePopover();
    // Inside of the window.
    node.style.left = `${Math.max(4, Math.min(left, innerWidth - node.offsetWidth - 8))}px`;
  };
  const isChosen = new Set(chosen);
  const found = options.filter(option => option.toLowerCase().includes(query.toLowerCase()));
  return (
    <span className="axon-Chooser">
      <Button
        minimal
        small
        className="axon-Chooser-button"
        title={label}
        aria-label={text === label ? label : `${label}: ${text}`}
        aria-haspopup="dialog"
        aria-expanded={isOpen}
        aria-controls={id}
        onClick={event => open(event.currentTarget)}
      >
        <span className="axon-Chooser-text">{text}</span>
        <caretDownEmptyIcon.react tag="span" />
      </Button>
      <div
        ref={popover}
        id={id}
        className="axon-Chooser-popover"
        role="dialog"
        aria-label={label}
        {...{ popover: 'auto' }}
      >
        {isOpen && options.length >= MIN_SEARCHED && (
          <input
            type="search"
            className="axon-Chooser-search"
            aria-label={trans.__('Search')}
            placeholder={trans.__('Search')}
            value={query}
            onChange={event => setQuery(event.target.value)}
          />
        )}
        {isOpen &&
          found.map(option => (
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
        {isOpen && found.length === 0 && <p>{trans.__('Nothing found.')}</p>}
      </div>
    </span>
  );
}
