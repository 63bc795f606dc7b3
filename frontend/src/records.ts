/** Types of the REST API; the fields are those of the server's records. */

export type NotebookStatus = 'draft' | 'running' | 'completed' | 'failed' | 'stopped';
export type CellStatus = 'idle' | 'running' | 'completed' | 'error';

export interface INotebookMetadata {
  kernel?: string;
  language?: string;
  framework?: string;
  tags: string[];
  extra: Record<string, unknown>;
}

/** The fields of a record besides its cells. */
interface INotebookFields {
  id: string;
  user_id: string;
  name: string;
  description?: string;
  metadata: INotebookMetadata;
  model_id?: string;
  dataset_id?: string;
  status: NotebookStatus;
  created_at: string;
  updated_at: string;
  path?: string;
  synced_at?: string;
  version_id?: string;
}

/** A record as it is listed, without its cells. */
export interface INotebookSummary extends INotebookFields {
  cell_count: number;
}

export interface ICellOutput {
  output_type: string;
  text?: string;
  data?: unknown;
  execution_count?: number;
  error_name?: string;
  error_value?: string;
  traceback?: string[];
  name?: string;
  metadata?: Record<string, unknown>;
}

export interface INotebookCell {
  id: string;
  cell_type: 'code' | 'markdown';
  source: string;
  outputs: ICellOutput[];
  status: CellStatus;
  execution_count?: number;
  metadata: Record<string, unknown>;
  attachments?: Record<string, unknown>;
  nbformat_type?: string;
}

/** A record without the outputs of its cells, which may be large. */
export interface INotebook extends INotebookFields {
  cells: Omit<INotebookCell, 'outputs'>[];
}

/** A record as the panel has it: with its cells once they are loaded. */
export type INotebookRecord = INotebookSummary & Partial<Pick<INotebook, 'cells'>>;

export interface IVersionSummary {
  id: string;
  notebook_id: string;
  created_at: string;
  cell_count: number;
}

export interface IVersion extends IVersionSummary {
  cells: INotebookCell[];
  metadata: INotebookMetadata;
}

export interface ICellChange {
  cell_id: string;
  change: 'added' | 'removed' | 'changed' | 'moved';
  before?: string;
  after?: string;
}

export interface ICheckpoint {
  id: string;
  notebook_id: string;
  epoch: number;
  step: number;
  /** The step if it does not fit in 32 bits. */
  large_step?: number;
  metrics: unknown;
  nonfinite?: string[];
  model_state_path: string;
  optimizer_state_path?: string;
  created_at: string;
  run_id?: string;
  version_id?: string;
  sizes?: Record<string, number>;
  format?: string;
  tags: string[];
  pinned: boolean;
  pruned_at?: string;
}

export type RunStatus = 'running' | 'completed' | 'failed' | 'stopped';

export interface IRun {
  id: string;
  notebook_id: string;
  parent_checkpoint_id?: string;
  status: RunStatus;
  started_at: string;
  ended_at?: string;
  name?: string;
  /** Missing for runs that an older version recorded. */
  number?: number;
  config?: Record<string, unknown>;
  config_source?: 'given' | 'derived' | 'parameters';
  /** The number of steps for which values were logged. */
  step_count?: number;
  last_step?: number;
  /** Of logged values and of checkpoints. */
  metrics?: Record<string, IMetricSummary>;
}

/** A metric in a column of values; non-finite numbers are strings. */
export type MetricValue = number | 'NaN' | 'Infinity' | '-Infinity' | null;

/** The logged values of one metric of a run as columns; times in seconds since the epoch. */
export interface ILoggedSeries {
  step: readonly number[];
  value: readonly MetricValue[];
  time: readonly number[];
}

/** The checkpoints of one run as columns. */
export interface IRunSeries {
  /** Missing for checkpoints without a run. */
  run_id?: string;
  parent_checkpoint_id?: string;
  status?: RunStatus;
  checkpoint_id: string[];
  epoch: number[];
  step: number[];
  created_at: string[];
  metrics: Record<string, MetricValue[]>;
}

export interface IValueChange {
  name: string;
  before?: unknown;
  after?: unknown;
}

export interface ICheckpointDiff {
  /** Whether the sources are those that were executed, not those that were saved. */
  executed: boolean;
  sources: ICellChange[];
  metrics: IValueChange[];
  /** Missing unless it is known for both checkpoints. */
  environment?: { values: IValueChange[]; packages: IValueChange[] };
}

/** A reason why a checkpoint may not be reproducible. */
export interface IFlag {
  kind: 'drifted' | 'edited' | 'out_of_order' | 'rerun' | 'unseeded' | 'deleted' | 'not_run';
  message: string;
  cell_id?: string;
}

export interface IProvenance {
  checkpoint_id: string;
  /** Empty if the checkpoint was not created in a kernel. */
  executed: unknown[];
  flags: IFlag[];
}

export interface INotebookChange {
  name?: string;
  description?: string;
  model_id?: string;
  dataset_id?: string;
  tags?: string[];
}

export interface ICheckpointChange {
  tags?: string[];
  pinned?: boolean;
}

/** The values of a metric of a run; non-finite numbers are strings. */
export interface IMetricSummary {
  last?: MetricValue;
  last_step?: number;
  min?: MetricValue;
  min_step?: number;
  max?: MetricValue;
  max_step?: number;
}

/** A run as the table of all runs lists it. */
export interface IRunRow {
  /** The ids of the notebook and the run, since that of the run is unique only within the notebook. */
  id: string;
  run_id: string;
  notebook_id: string;
  /** Missing for runs that an older version recorded. */
  number?: number;
  /** The name as it is displayed. */
  name: string;
  status: RunStatus;
  started_at: string;
  ended_at?: string;
  group?: string;
  notes?: string;
  tags: readonly string[];
  archived?: boolean;
  parent_checkpoint_id?: string;
  /** By dotted keys. */
  config: Readonly<Record<string, unknown>>;
  config_source?: 'given' | 'derived' | 'parameters';
  metrics: Readonly<Record<string, IMetricSummary>>;
  step_count?: number;
  checkpoint_count: number;
  pinned_count: number;
  /** Bytes on disk. */
  size: number;
}

export interface IRunTable {
  runs: IRunRow[];
  /** By id. */
  notebooks: Record<string, { name: string; path?: string }>;
}

export interface IRunChange {
  name?: string | null;
  tags?: readonly string[];
  notes?: string | null;
  group?: string | null;
  archived?: boolean;
}

/** Whether the last checkpoint of a run can be reproduced, and whether its code is that of another run. */
export interface IRunReproducibility {
  /** As `id` of `IRunRow`. */
  run_id: string;
  notebook_id: string;
  checkpoint_id?: string;
  /** Whether the executed cells are known. Without them, there are no flags. */
  is_recorded?: boolean;
  /** Missing or null if it is unknown. */
  code?: 'same' | 'different' | null;
  /** The number of cells that differ. */
  changed_cells?: number;
  flags: (IFlag & { cell_number?: number })[];
}

/** The differences between runs; the lists are in the order of the runs. */
export interface IRunComparison {
  runs: { id: string; notebook_id: string; name: string; checkpoint_id?: string }[];
  /** From the first run to each of the others, by their last checkpoints; null if one of the two has none. */
  changes: (ICheckpointDiff | null)[];
}
