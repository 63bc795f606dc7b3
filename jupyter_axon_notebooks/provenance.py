"""The data model of provenance: executed cells, environments, flags and differences.

Plain data like :mod:`.records`. A checkpoint refers to its provenance by ``provenance_id``.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from .records import U32, CellChange, CellStatus, Moment, NotebookVersion, Record


class ExecutedCell(Record, kw_only=True):
    """A cell as it was executed, or a script.

    Attributes
    ----------
    source : str
        The executed source, which may differ from the file.
    execution_count : int, optional
        The number in ``In [3]``; None for a script.
    cell_id : str, optional
        The id that the front end sent. nbclient and papermill send none, and Visual Studio Code
        sends ids that are not those in the file.
    status : CellStatus, optional
        ``running``, ``completed`` or ``error``; None if unknown.
    executed_at : datetime, optional
        The start of the execution; None if it ran before tracking began.
    """

    source: str
    execution_count: U32 | None = None
    cell_id: str | None = None
    status: CellStatus | None = None
    executed_at: Moment | None = None


class GitState(Record, kw_only=True):
    """The commit of a folder. Remotes are left out, since their URLs may contain passwords.

    ``dirty`` is whether tracked files differ from the commit; None if git took too long.
    """

    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None


class Environment(Record, kw_only=True):
    """The environment of an execution, without the host's name and environment variables.

    Attributes
    ----------
    python, implementation, platform : str
        For example ``3.11.9``, ``CPython``, ``Linux-6.1-x86_64``.
    packages : dict
        The installed distributions and their versions.
    git : GitState, optional
        The state of the notebook's folder.
    gpus : list of str
        The names of the GPUs.
    cuda, cudnn, driver : str, optional
        The versions of CUDA, cuDNN and the driver.
    """

    python: str
    implementation: str = "CPython"
    platform: str = ""
    packages: dict[str, str] = msgspec.field(default_factory=dict)
    git: GitState | None = None
    gpus: list[str] = msgspec.field(default_factory=list)
    cuda: str | None = None
    cudnn: str | None = None
    driver: str | None = None


class Provenance(Record, kw_only=True):
    """The cells that were executed before a checkpoint, in order, and their environment."""

    id: str
    notebook_id: str
    executed: list[ExecutedCell]
    environment: Environment


class FlagKind(str, enum.Enum):
    """The kind of a flag, as defined in :mod:`.repository.flags`."""

    DRIFTED = "drifted"
    EDITED = "edited"
    OUT_OF_ORDER = "out_of_order"
    RERUN = "rerun"
    UNSEEDED = "unseeded"
    DELETED = "deleted"
    NOT_RUN = "not_run"


class Flag(Record, kw_only=True):
    """A reason why running the notebook from top to bottom may not reproduce the checkpoint.

    Attributes
    ----------
    message : str
        A sentence for display.
    cell_id : str, optional
        The cell in the notebook; None if it is no longer there.
    cell_number : int, optional
        The position of the cell among all cells of the notebook as it is now, from 1.
    executed, source : str, optional
        The executed source, and the source in the notebook.
    execution_counts : list of int
        The executions concerned.
    """

    kind: FlagKind
    message: str
    cell_id: str | None = None
    cell_number: int | None = None
    executed: str | None = None
    source: str | None = None
    execution_counts: list[U32] = msgspec.field(default_factory=list)


class ResumedFrom(Record, kw_only=True):
    """The checkpoint that a checkpoint's run was resumed from.

    Attributes
    ----------
    checkpoint_id : str
        Its id, even if it was deleted since.
    epoch, run_id : optional
        Its epoch and run; None if it was deleted or belongs to no run.
    last_checkpoint_id : str
        The newest checkpoint of the run that was resumed.
    code_changed : bool
        Whether a cell that was executed for both checkpoints had another source for
        ``last_checkpoint_id``.
    """

    checkpoint_id: str
    epoch: U32 | None = None
    run_id: str | None = None
    last_checkpoint_id: str
    code_changed: bool = False


class CheckpointProvenance(Record, kw_only=True):
    """The provenance of a checkpoint, as far as it is known.

    Attributes
    ----------
    executed : list of ExecutedCell
        Empty if it was not recorded, as for a checkpoint made over REST.
    version : NotebookVersion, optional
        The notebook as it was last saved then, without outputs; None if the version was removed.
    resumed_from : ResumedFrom, optional
        None if the checkpoint's run began from scratch, or it belongs to no run.
    """

    checkpoint_id: str
    executed: list[ExecutedCell] = msgspec.field(default_factory=list)
    environment: Environment | None = None
    flags: list[Flag] = msgspec.field(default_factory=list)
    version: NotebookVersion | None = None
    resumed_from: ResumedFrom | None = None


class RunReproducibility(Record, kw_only=True):
    """The flags of a run, and the comparison of its code with another run; by last checkpoints.

    Attributes
    ----------
    checkpoint_id : str, optional
        None if the run has no checkpoint.
    is_recorded : bool
        Whether the executed cells are known. Without them, there are no flags.
    changed_cells : int, optional
        The number of cells whose code differs; None if the code of one of the two is unknown.
    flags : list of Flag
        Without the sources of the cells.
    """

    run_id: str
    checkpoint_id: str | None = None
    is_recorded: bool = False
    changed_cells: int | None = None
    flags: list[Flag] = msgspec.field(default_factory=list)


class Change(Record, kw_only=True):
    """A value that differs; None if it is missing on one side."""

    name: str
    before: Any = None
    after: Any = None


class MetricChange(Change, kw_only=True):
    """A metric of two checkpoints; ``delta`` is after minus before if both are finite numbers."""

    delta: float | None = None


class EnvironmentDiff(Record, kw_only=True):
    """The differences between two environments."""

    values: list[Change] = msgspec.field(default_factory=list)
    packages: list[Change] = msgspec.field(default_factory=list)


class CheckpointDiff(Record, kw_only=True):
    """The differences between two checkpoints.

    Attributes
    ----------
    executed : bool
        Whether ``sources`` compares executed cells. Otherwise it compares the saved versions,
        because the executed cells of a checkpoint are unknown.
    sources : list of CellChange
        The changes by cell; a ``moved`` cell ran in another order.
    metrics : list of MetricChange
        All metrics that are finite numbers in both, and other values that differ.
    environment : EnvironmentDiff, optional
        None if an environment is unknown.
    """

    before: str
    after: str
    executed: bool = False
    sources: list[CellChange] = msgspec.field(default_factory=list)
    metrics: list[MetricChange] = msgspec.field(default_factory=list)
    environment: EnvironmentDiff | None = None
