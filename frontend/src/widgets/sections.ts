/** Sections below one another that open and close, as in JupyterLab's other side panels, and share the room fairly. */

import { SidePanel } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import { AccordionPanel } from '@lumino/widgets';

/**
 * Each open section has its part of the room, whatever opens, closes or takes room elsewhere; parts change only where
 * somebody drags a border, or JupyterLab restores what they were. An accordion itself knows heights alone: what is lacking
 * it takes from all alike, until a small section has none, and one that was closed at first never gets any.
 */
export class Sections extends AccordionPanel {
  /** As they are shared if all are open. */
  readonly #parts: number[];

  constructor(atFirst: readonly number[]) {
    super(looks());
    this.#parts = [...atFirst];
    this.expansionToggled.connect(this.#share, this);
    this.handleMoved.connect(() => {
      this.#learn(super.relativeSizes());
    });
  }

  /** The parts of those that are open, together 1; JupyterLab keeps them until the next visit. */
  override relativeSizes(): number[] {
    const open = this.#open();
    const whole = open.reduce((sum, part) => sum + part, 0);
    return whole === 0 ? super.relativeSizes() : open.map(part => part / whole);
  }

  /** Give the open ones other parts. Without `update` it is the accordion's own guess of what fits next, and not taken. */
  override setRelativeSizes(sizes: number[], update = true): void {
    if (update) {
      this.#learn(sizes);
      this.#share();
    }
  }

  override processMessage(message: Message): void {
    if (message.type === 'resize') {
      this.#share();
    }
    super.processMessage(message);
  }

  /** The parts of those that are open; 0 for the others. */
  #open(): number[] {
    return this.#parts.map((part, index) => (this.widgets[index]?.isHidden === false ? part : 0));
  }

  #learn(sizes: readonly number[]): void {
    const open = this.#open();
    const given = open.map((part, index) => (part > 0 ? (sizes[index] ?? 0) : 0));
    const whole =
      open.reduce((sum, part) => sum + part, 0) / given.reduce((sum, size) => sum + size, 0);
    given.forEach((size, index) => {
      if (size > 0) {
        this.#parts[index] = size * whole;
      }
    });
  }

  #share(): void {
    super.setRelativeSizes(this.#open());
  }
}

/** How other side panels' sections look. JupyterLab 4.2 gives no other way to ask for it. */
function looks(): AccordionPanel.IOptions {
  const { content } = new SidePanel();
  return content instanceof AccordionPanel
    ? { renderer: content.renderer, titleSpace: content.titleSpace }
    : {};
}
