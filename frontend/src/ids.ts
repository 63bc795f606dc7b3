/** Names by which JupyterLab and other extensions find parts of this one. */

export const PLUGIN_ID = 'jupyter-axon-notebooks:panel';
export const RUNS_PLUGIN_ID = 'jupyter-axon-notebooks:runs';
export const PANEL_ID = 'axon-panel';
export const TOOLBAR_ITEM = 'axon-status';
export const TRANSLATION_DOMAIN = 'jupyter_axon_notebooks';

/**
 * Commands, which act on the current notebook unless they take the id of one as `notebook`.
 *
 * Commands for checkpoints take `ids`; the default is the selected checkpoints.
 */
export const CommandIDs = {
  toggle: 'axon:toggle-panel',
  refresh: 'axon:refresh',
  record: 'axon:record',
  goToCell: 'axon:go-to-cell',
  openVersion: 'axon:open-version',
  /** Takes `notebook` and `run`. */
  openRunVersion: 'axon:open-run-version',
  /** Takes `notebook`, `version` and the `time` of the version. */
  restoreVersion: 'axon:restore-version',
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

/** Commands of the Training Runs page. Those for runs take `ids`; the default is the selected runs that are visible. */
export const RunCommandIDs = {
  /** Takes `run` (the id of one to show) and `where` (a filter). */
  open: 'axon:open-runs',
  showDetails: 'axon:show-run',
  openNotebook: 'axon:open-notebook-of-run',
  copyLink: 'axon:copy-run-link',
  copyId: 'axon:copy-run-id',
  toggleBaseline: 'axon:toggle-baseline',
  editTags: 'axon:edit-run-tags',
  editNotes: 'axon:edit-run-notes',
  archive: 'axon:archive-runs',
  unarchive: 'axon:unarchive-runs',
  delete: 'axon:delete-runs',
  exportCsv: 'axon:save-runs-as-csv',
  menu: 'axon:run-menu',
  refresh: 'axon:refresh-runs'
} as const;
