/** The sections of the panel. */

import { SidePanel } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import type { Widget } from '@lumino/widgets';
import { AccordionPanel } from '@lumino/widgets';

/** Height of a title in pixels, less than elsewhere in JupyterLab, for the sake of what is below it. */
const TITLE_HEIGHT = 25;

/**
 * An accordion whose open sections share the height in fixed proportions.
 *
 * The proportions change only if the user drags a border or JupyterLab restores the layout. Lumino's accordion takes
 * missing height from all sections alike, until a small one has none, and a section that was closed at first never gets
 * any.
 */
export class SectionAccordion extends AccordionPanel {
  readonly #proportions = new Map<Widget, number>();

  constructor() {
    super(sidePanelOptions());
    this.expansionToggled.connect(this.#applyProportions, this);
    this.handleMoved.connect(() => this.#readProportions(super.relativeSizes()));
  }

  /** Insert a section with its proportion of the height. */
  insertSection(index: number, widget: Widget, proportion: number): void {
    if (!this.#proportions.has(widget)) {
      this.#proportions.set(widget, proportion);
    }
    this.insertWidget(index, widget);
    // Lumino appends the new nodes, but the keyboard and screen readers need them in order.
    this.widgets.forEach(({ node }, i) => this.node.append(...this.titles.slice(i, i + 1), node));
  }

  /** Return the proportions of the sections for JupyterLab's layout restorer. */
  override relativeSizes(): number[] {
    const open = this.#openProportions();
    const sum = total(open);
    return sum === 0 ? super.relativeSizes() : open.map(size => size / sum);
  }

  /** Set the proportions of the open sections. `update` is false for guesses of the accordion, which are ignored. */
  override setRelativeSizes(sizes: number[], update = true): void {
    if (update) {
      this.#readProportions(sizes);
      this.#applyProportions();
    }
  }

  override processMessage(message: Message): void {
    if (message.type === 'resize') {
      this.#applyProportions();
    }
    super.processMessage(message);
  }

  /** Return the proportions of the open sections and 0 for the others. */
  #openProportions(): number[] {
    return this.widgets.map(widget => (widget.isHidden ? 0 : (this.#proportions.get(widget) ?? 0)));
  }

  #readProportions(sizes: readonly number[]): void {
    const open = this.#openProportions();
    const openSizes = open.map((proportion, index) => (proportion > 0 ? (sizes[index] ?? 0) : 0));
    const scale = total(open) / total(openSizes);
    this.widgets.forEach((widget, index) => {
      const size = openSizes[index] ?? 0;
      if (size > 0) {
        this.#proportions.set(widget, size * scale);
      }
    });
  }

  #applyProportions(): void {
    super.setRelativeSizes(this.#openProportions());
  }
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}

/** Return the renderer of other side panels; JupyterLab 4.2 has no other way to get it. */
function sidePanelOptions(): AccordionPanel.IOptions {
  const { content } = new SidePanel();
  return content instanceof AccordionPanel
    ? { renderer: content.renderer, titleSpace: TITLE_HEIGHT }
    : {};
}
