/** The names under which others find what is here. */

export const PLUGIN = 'jupyter-axon-notebooks:panel';
export const PANEL = 'axon-panel';
/** The item of the notebook's toolbar. */
export const TOOLBAR_ITEM = 'axon-status';
/** The translations' domain. */
export const DOMAIN = 'jupyter_axon_notebooks';

/**
 * Commands act on the notebook in front.
 *
 * Those on checkpoints take `ids`, or else what is selected in the table.
 */
export const CommandIDs = {
  toggle: 'axon:toggle-panel',
  refresh: 'axon:refresh',
  record: 'axon:record',
  goToCell: 'axon:go-to-cell',
  openVersion: 'axon:open-version',
  moreVersions: 'axon:more-versions',
  compareVersions: 'axon:compare-versions',
  compareCheckpoints: 'axon:compare-checkpoints',
  checkpointMenu: 'axon:checkpoint-menu',
  openNotebook: 'axon:open-notebook-of-checkpoint',
  insertRestore: 'axon:insert-restore',
  copyRestore: 'axon:copy-restore',
  downloadModel: 'axon:download-model',
  downloadOptimizer: 'axon:download-optimizer',
  togglePin: 'axon:toggle-pin',
  editTags: 'axon:edit-tags',
  deleteCheckpoints: 'axon:delete-checkpoints'
} as const;
