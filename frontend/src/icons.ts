/** The panel's own icons; the rest are JupyterLab's. */

import { LabIcon } from '@jupyterlab/ui-components';

function icon(name: string, body: string): LabIcon {
  const svgstr = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">${body}</svg>`;
  return new LabIcon({ name: `jupyter-axon-notebooks:${name}`, svgstr });
}

/** A descending curve with points. */
export const trainingIcon = icon(
  'training',
  `<g class="jp-icon3" style="fill: none" stroke="#616161" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">
    <path d="M3.5 3v17.5H21"/><path d="M7 6c2 7 4.5 9.5 13 10.5"/></g>
  <g class="jp-icon3" fill="#616161"><circle cx="7" cy="6" r="2.2"/><circle cx="11.2" cy="13.3" r="2.2"/>
    <circle cx="19.5" cy="16.4" r="2.2"/></g>`
);

const STAR = 'M12 3.5l2.6 5.5 6 .8-4.4 4.2 1.1 6L12 17.1 6.7 20l1.1-6-4.4-4.2 6-.8z';

/** The best checkpoint. */
export const starIcon = icon('star', `<path class="jp-icon-warn0" fill="#f57c00" d="${STAR}"/>`);

const PIN =
  'M15 3l6 6-3.2.9-3.4 3.4-.4 4.2-2.3-.2-3.4-3.4-4.8 4.8-1.2.3.3-1.2 4.8-4.8-3.4-3.4-.2-2.3 4.2-.4L14.1 6.2z';

/** Protection from pruning. */
export const pinIcon = icon(
  'pin',
  `<path class="jp-icon3" style="fill: none" stroke="#616161" stroke-width="1.5" stroke-linejoin="round" d="${PIN}"/>`
);
export const pinnedIcon = icon(
  'pinned',
  `<path class="jp-icon-brand0" fill="#1976d2" d="${PIN}"/>`
);

/** Two pages with a change between them. */
export const compareIcon = icon(
  'compare',
  `<g class="jp-icon3" style="fill: none" stroke="#616161" stroke-width="2" stroke-linejoin="round">
    <path d="M9.5 4.5H4v15h5.5M14.5 4.5H20v15h-5.5M12 2v20"/></g>`
);

/** A state that needs attention, and one that does not. */
export const warningIcon = icon(
  'warning',
  `<path class="jp-icon-warn0" fill="#f57c00" fill-rule="evenodd"
    d="M12 3l10 18H2zm-1 6.5v6h2v-6zm0 7.5v2h2v-2z"/>`
);
export const checkIcon = icon(
  'check',
  `<path class="jp-icon3" style="fill: none" stroke="#616161" stroke-width="2.5" stroke-linecap="round"
    stroke-linejoin="round" d="M5 12.5l4.5 4.5L19 7.5"/>`
);
