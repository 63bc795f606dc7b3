/** Names by which JupyterLab and other extensions find parts of this one. */

export const PLUGIN_ID = 'jupyter-axon-notebooks:panel';
export const PANEL_ID = 'axon-panel';
export const TOOLBAR_ITEM = 'axon-status';
export const TRANSLATION_DOMAIN = 'jupyter_axon_notebooks';

/**
 * Commands, which act on the current notebook.
 *
 * Commands for checkpoints take `ids`; the default is the selected checkpoints.
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
