/** A button that opens a popover below it. */

import { Button, caretDownEmptyIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

/** Least height in pixels of what is shown below an element. */
const MIN_HEIGHT = 120;

/** Place a popover below an element, within the window. */
export function placeBelow(popover: HTMLElement, anchor: HTMLElement): void {
  const { left, bottom } = anchor.getBoundingClientRect();
  popover.style.top = `${bottom + 2}px`;
  popover.style.maxHeight = `${Math.max(MIN_HEIGHT, innerHeight - bottom - 12)}px`;
  popover.style.left = `${Math.max(4, Math.min(left, innerWidth - popover.offsetWidth - 8))}px`;
}

interface IPopoverButtonProps {
  label: string;
  /** The text on the button. */
  text: string;
  className?: string;
  /** Called when the popover opens. */
  onOpen?: () => void;
  /** Rendered while the popover is open; its first input gets the focus. */
  children: () => React.ReactNode;
}

export function PopoverButton(props: IPopoverButtonProps): React.ReactElement {
  const { label, text, className = '', onOpen, children } = props;
  const id = React.useId();
  const popover = React.useRef<HTMLDivElement>(null);
  const button = React.useRef<HTMLSpanElement>(null);
  const [isOpen, setOpen] = React.useState(false);

  React.useEffect(() => {
    const node = popover.current;
    const onToggle = (event: Event): void => {
      setOpen((event as ToggleEvent).newState === 'open');
    };
    node?.addEventListener('toggle', onToggle);
    return () => node?.removeEventListener('toggle', onToggle);
  }, []);
  React.useLayoutEffect(() => {
    const node = popover.current;
    if (isOpen && node !== null && button.current !== null) {
      placeBelow(node, button.current); // its size is known only now
      node.querySelector('input')?.focus();
    }
  }, [isOpen]);

  return (
    <span ref={button} className="axon-Chooser">
      <Button
        minimal
        small
        className="axon-Chooser-button"
        title={label}
        aria-label={text === label ? label : `${label}: ${text}`}
        aria-haspopup="dialog"
        aria-expanded={isOpen}
        aria-controls={id}
        onClick={() => {
          onOpen?.();
          popover.current?.togglePopover();
        }}
      >
        <span className="axon-Chooser-text">{text}</span>
        <caretDownEmptyIcon.react tag="span" />
      </Button>
      <div
        ref={popover}
        id={id}
        className={`axon-Chooser-popover ${className}`}
        role="dialog"
        aria-label={label}
        {...{ popover: 'auto' }}
      >
        {isOpen && children()}
      </div>
    </span>
  );
}
