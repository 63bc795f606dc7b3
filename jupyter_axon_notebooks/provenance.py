"""Where a checkpoint came from: the code as it was executed, what it ran in, and what of both differs elsewhere.

As :mod:`.records`, plain data. A checkpoint refers to its provenance by ``provenance_id``; what is stored once is stored
once per notebook: a source text, an environment, a list of executions.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from .records import U32, CellChange, CellStatus, Moment, NotebookVersion, Record


class ExecutedCell(Record, kw_only=True):
    """A cell as it was executed; for a script, the script.

    Attributes
    ----------
    source : str
        What was executed, not what stands in the file.
    execution_count : int, optional
        As in ``In [3]``; a script has none.
    cell_id : str, optional
        As the front end named it. Not every one does: nbclient and papermill name none, and Visual Studio Code uses ids of
        its own, which are not those in the file.
    status : CellStatus, optional
        ``running``, ``completed`` or ``error``; None where nobody saw it end.
    executed_at : datetime, optional
        When it began; None for what ran before anybody looked.
    """

    source: str
    execution_count: U32 | None = None
    cell_id: str | None = None
    status: CellStatus | None = None
    executed_at: Moment | None = None


class GitState(Record, kw_only=True):
    """The commit that a folder is at; no remote, whose URL may hold a password.

    ``dirty`` tells whether tracked files differ from it; None where git took too long to tell.
    """

    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None


class Environment(Record, kw_only=True):
    """What code ran in. Neither the host's name nor environment variables are in it.

    Attributes
    ----------
    python, implementation, platform : str
        As ``3.11.9``, ``CPython``, ``Linux-6.1-x86_64``.
    packages : dict
        The installed distributions and their versions.
    git : GitState, optional
        Of the notebook's folder.
    gpus : list of str
        Their names.
    cuda, cudnn, driver : str, optional
        Their versions, the framework's where one was imported.
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
    """What was executed before a checkpoint, in order, and in what."""

    id: str
    notebook_id: str
    executed: list[ExecutedCell]
    environment: Environment


class FlagKind(str, enum.Enum):
    """What a flag warns of; :mod:`.repository.flags` says exactly when."""

    DRIFTED = "drifted"
    EDITED = "edited"
    OUT_OF_ORDER = "out_of_order"
    RERUN = "rerun"
    DELETED = "deleted"
    NOT_RUN = "not_run"


class Flag(Record, kw_only=True):
    """One reason why running the notebook from top to bottom may not give the checkpoint again.

    Attributes
    ----------
    message : str
        For people, in a sentence.
    cell_id : str, optional
        The cell in the notebook; None where it is there no more.
    executed, source : str, optional
        What was executed, and what stands in the notebook instead.
    execution_counts : list of int
        The executions that it is about.
    """

    kind: FlagKind
    message: str
    cell_id: str | None = None
    executed: str | None = None
    source: str | None = None
    execution_counts: list[U32] = msgspec.field(default_factory=list)


class ResumedFrom(Record, kw_only=True):
    """The checkpoint that a checkpoint's run was resumed from.

    Attributes
    ----------
    checkpoint_id : str
        Also of one that was deleted since.
    epoch, run_id : optional
        The checkpoint's; None where it is not there any more, or belongs to no run.
    last_checkpoint_id : str
        The newest checkpoint of the run that was resumed.
    code_changed : bool
        Whether a cell that was executed for both checkpoints had another source for ``last_checkpoint_id``.
    """

    checkpoint_id: str
    epoch: U32 | None = None
    run_id: str | None = None
    last_checkpoint_id: str
    code_changed: bool = False


class CheckpointProvenance(Record, kw_only=True):
    """All that is known of where a checkpoint came from.

    Attributes
    ----------
    executed : list of ExecutedCell
        Empty where nobody recorded it, as for a checkpoint made over REST.
    version : NotebookVersion, optional
        The notebook as it was last saved then, without outputs; None where the version is no longer kept.
    resumed_from : ResumedFrom, optional
        None where the checkpoint's run began from scratch, or it belongs to no run.
    """

    checkpoint_id: str
    executed: list[ExecutedCell] = msgspec.field(default_factory=list)
    environment: Environment | None = None
    flags: list[Flag] = msgspec.field(default_factory=list)
    version: NotebookVersion | None = None
    resumed_from: ResumedFrom | None = None


class Change(Record, kw_only=True):
    """A value that differs; None where there is none on that side."""

    name: str
    before: Any = None
    after: Any = None


class MetricChange(Change, kw_only=True):
    """A metric of either of two checkpoints; ``delta`` is after minus before, where both are finite numbers."""

    delta: float | None = None


class EnvironmentDiff(Record, kw_only=True):
    """What differs between two environments: ``values`` are all but the packages."""

    values: list[Change] = msgspec.field(default_factory=list)
    packages: list[Change] = msgspec.field(default_factory=list)


class CheckpointDiff(Record, kw_only=True):
    """What changed from one checkpoint to another.

    Attributes
    ----------
    executed : bool
        Whether ``sources`` compares what was executed; else the notebook's versions, since of one of the checkpoints no
        more is known.
    sources : list of CellChange
        By cell; ``moved`` tells that it ran at another turn.
    metrics : list of MetricChange
        All metrics of both that are finite numbers, and what else is at the same place and differs.
    environment : EnvironmentDiff, optional
        None where it is not known of both.
    """

    before: str
    after: str
    executed: bool = False
    sources: list[CellChange] = msgspec.field(default_factory=list)
    metrics: list[MetricChange] = msgspec.field(default_factory=list)
    environment: EnvironmentDiff | None = None
