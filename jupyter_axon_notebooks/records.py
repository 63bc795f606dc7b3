"""The data model: notebooks, cells, outputs, versions, checkpoints and runs.

Field names, types, defaults and JSON form are those of the upstream's document store, so that each
side can read the other's records. JSON omits fields that are ``None``, enum values are lower case,
and times are RFC 3339 in UTC with microseconds and ``Z``. Fields that the upstream lacks are
optional and follow a ``# additions`` comment.

Records are plain data, independent of stores, files and HTTP.
"""

from __future__ import annotations

import enum
import re
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, ClassVar, Final, Literal, TypeGuard, TypeVar

import msgspec

from .errors import InvalidData
from .metrics import decode_nonfinite, encode_nonfinite
from .printable import short_repr
from .trust import untrusted_metadata, without_trust

#: An epoch, step or execution count, which the upstream stores in 32 bits.
U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
MAX_U32: Final = 2**32 - 1
#: The largest step: the largest integer that JavaScript represents exactly.
MAX_STEP: Final = 2**53 - 1
#: A step that does not fit into 32 bits.
LargeStep = Annotated[int, msgspec.Meta(gt=2**32 - 1, le=2**53 - 1)]
#: A time with a time zone; other offsets are converted to UTC.
Moment = Annotated[datetime, msgspec.Meta(tz=True)]

_R = TypeVar("_R", bound="Record")


class CellType(str, enum.Enum):
    """The kind of a cell; a raw cell is ``markdown`` with ``nbformat_type: "raw"``."""

    CODE = "code"
    MARKDOWN = "markdown"


class CellStatus(str, enum.Enum):
    """The state of a cell's last execution."""

    IDLE = "idle"
    RUNNING = "running"
    COMPLETED = "completed"
    ERROR = "error"


class NotebookStatus(str, enum.Enum):
    """The state of a notebook's training."""

    DRAFT = "draft"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


class RunStatus(str, enum.Enum):
    """The state of a training run."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


def new_id() -> str:
    """Return a random id: a version 4 UUID in its usual 36 characters."""
    return str(uuid.uuid4())


_RECORD_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_record_id(value: Any) -> TypeGuard[str]:
    """Return whether ``value`` has the form of :func:`new_id`, which is safe in paths and URLs."""
    return isinstance(value, str) and _RECORD_ID.fullmatch(value) is not None


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(timezone.utc)


def now_after(previous: datetime | str | None) -> datetime:
    """Return the current time, or ``previous`` plus a microsecond if that is later.

    Records that are sorted by time use this function, since clocks are set back and differ between
    machines.

    Parameters
    ----------
    previous : datetime, str or None
        A time or its JSON form. A string that is not a time is ignored.
    """
    moment = now()
    if isinstance(previous, str):
        try:
            previous = datetime.fromisoformat(previous.replace("Z", "+00:00"))
        except ValueError:
            return moment
    if previous is None or previous.tzinfo is None or moment > previous:
        return moment
    try:
        return previous + _TICK
    except OverflowError:  # the last representable time
        return previous


_TICK = timedelta(microseconds=1)


def format_time(moment: datetime) -> str:
    """Return ``moment`` as RFC 3339 in UTC: ``2026-04-16T23:15:00.000000Z``.

    All strings have the same length, so they sort like the times.
    """
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")[:-6] + "Z"


class Record(msgspec.Struct, kw_only=True):
    """The base class of records: conversion from and to JSON."""

    #: The fields that are displayed; all if there are none.
    _displayed: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if type(value) is datetime and value.tzinfo is not timezone.utc:
                if value.tzinfo is None:
                    raise InvalidData(f"$.{name}", "a time without a time zone")
                try:
                    setattr(self, name, value.astimezone(timezone.utc))
                except OverflowError:
                    reason = "a time outside the years 1 to 9999 in UTC"
                    raise InvalidData(f"$.{name}", reason) from None

    def __repr__(self) -> str:
        """Return the fields that have a value, each cut to a short text.

        A record that ends a cell is displayed, and its cells and outputs would fill pages.
        """
        names = self._displayed or self.__struct_fields__
        fields = ((name, getattr(self, name)) for name in names)
        texts = [
            f"{name}={_short(value)}"
            for name, value in fields
            if value is not None and value != [] and value != {}
        ]
        return f"{type(self).__name__}({', '.join(texts)})"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without fields that are None.

        Free-form values (``metadata``, ``data``, ``extra``) are not copied, and keep their nulls.
        """
        return {
            name: _plain(value)
            for name in self.__struct_fields__
            if (value := getattr(self, name)) is not None
        }

    @classmethod
    def from_json(cls: type[_R], value: Any) -> _R:
        """Return the record that ``value``, parsed JSON, describes; unknown fields are ignored.

        Raises
        ------
        InvalidData
            When a field is missing, has a wrong type or is out of range. The error names the field.
        """
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from None
        except UnicodeEncodeError:
            raise InvalidData(
                "$", "a lone surrogate in a field's name, a time or a status"
            ) from None
        except RecursionError:
            raise InvalidData("$", "nested too deeply") from None


_MISSING_FIELD = re.compile(r"Object missing required field `(.*)`")
#: The maximum length of a reason. msgspec quotes the value, which may be megabytes long.
_MAX_REASON = 300


def _invalid(message: str) -> InvalidData:
    reason, _, path = message.rpartition(" - at ")
    if reason and path.endswith("`"):
        path = path.removeprefix("`key` in ")[1:-1]
    else:
        reason, path = message, "$"
    if missing := _MISSING_FIELD.fullmatch(reason):
        return InvalidData(f"{path}.{missing[1]}", "required, but missing")
    reason = reason[:1].lower() + reason[1:_MAX_REASON].replace("`", "")
    return InvalidData(path, reason)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, list) and any(isinstance(item, Record) for item in value):
        return [item.to_json() if isinstance(item, Record) else item for item in value]
    return value


def _short(value: Any) -> str:
    if isinstance(value, list) and isinstance(value[0], Record):
        return f"[{len(value)} × {type(value[0]).__name__}]"
    return short_repr(_plain(value) if isinstance(value, (enum.Enum, datetime)) else value)


class CellOutput(Record, kw_only=True):
    """An output of a code cell in the upstream's flat form.

    ``text`` is a stream's text, ``data`` a MIME bundle, the ``error_*`` fields and ``traceback``
    an exception.
    """

    output_type: str
    text: str | None = None
    data: Any = None
    execution_count: U32 | None = None
    error_name: str | None = None
    error_value: str | None = None
    traceback: list[str] | None = None
    # additions
    name: str | None = None
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metadata:
            self.metadata = untrusted_metadata(self.metadata)


class NotebookCell(Record, kw_only=True):
    """A cell with its outputs, without ``trusted`` in its metadata."""

    id: str = msgspec.field(default_factory=new_id)
    cell_type: CellType = CellType.CODE
    source: str
    outputs: list[CellOutput] = []
    status: CellStatus = CellStatus.IDLE
    execution_count: U32 | None = None
    metadata: dict[str, Any] = {}
    # additions
    attachments: dict[str, Any] | None = None
    nbformat_type: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metadata:
            self.metadata = untrusted_metadata(self.metadata)


class NotebookMetadata(Record, kw_only=True):
    """The metadata of a notebook.

    ``extra["nbformat"]`` holds the data that rebuilds the file, and ``extra["axon"]`` the notes of
    this package.
    """

    kernel: str | None = None
    language: str | None = None
    framework: str | None = None
    tags: list[str] = []
    extra: dict[str, Any] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        nbformat = self.extra.get("nbformat")
        clean = without_trust(nbformat)
        if clean is not nbformat:
            self.extra = {**self.extra, "nbformat": clean}


class NotebookHeader(Record, kw_only=True):
    """The fields of a notebook record without its cells."""

    id: str
    user_id: str
    name: str
    description: str | None = None
    metadata: NotebookMetadata = msgspec.field(default_factory=NotebookMetadata)
    model_id: str | None = None
    dataset_id: str | None = None
    status: NotebookStatus = NotebookStatus.DRAFT
    created_at: Moment
    updated_at: Moment
    # additions
    path: str | None = None
    origin: str | None = None
    synced_at: Moment | None = None
    version_id: str | None = None


class TrainingNotebook(NotebookHeader, kw_only=True):
    """A notebook record with its cells."""

    _displayed: ClassVar[tuple[str, ...]] = ("name", "status", "cells", "path", "updated_at", "id")

    cells: list[NotebookCell]

    def summary(self) -> NotebookSummary:
        """Return the record without its cells and ``extra["nbformat"]``."""
        header = {name: getattr(self, name) for name in NotebookHeader.__struct_fields__}
        extra = {name: value for name, value in self.metadata.extra.items() if name != "nbformat"}
        header["metadata"] = msgspec.structs.replace(self.metadata, extra=extra)
        return NotebookSummary(**header, cell_count=len(self.cells))


class NotebookSummary(NotebookHeader, kw_only=True):
    """A notebook record with the number of its cells instead of the cells."""

    cell_count: int


class VersionSummary(Record, kw_only=True):
    """A version of a notebook without its cells."""

    id: str
    notebook_id: str
    created_at: Moment
    cell_count: int


class NotebookVersion(VersionSummary, kw_only=True):
    """The cells and metadata of a notebook at one moment."""

    cells: list[NotebookCell]
    metadata: NotebookMetadata = msgspec.field(default_factory=NotebookMetadata)


class CellChange(Record, kw_only=True):
    """A cell that differs between two versions.

    ``change`` is ``added``, ``removed``, ``changed`` or ``moved``; ``before`` and ``after`` are
    its sources.
    """

    cell_id: str
    change: str
    before: str | None = None
    after: str | None = None


def decode_step(step: int, large_step: int | None) -> int:
    """Return the step of a stored checkpoint from the two fields that store it."""
    return large_step if step == MAX_U32 and large_step is not None else step


def state_size(checkpoint: Mapping[str, Any]) -> int:
    """Return the bytes of the state files of a checkpoint's document; 0 if it was pruned."""
    sizes = checkpoint.get("sizes")
    if checkpoint.get("pruned_at") is not None or not isinstance(sizes, dict):
        return 0
    return sum(size for size in sizes.values() if isinstance(size, int))


class _CheckpointFields(Record, kw_only=True):
    """The fields of a checkpoint that have another form in JSON than in Python.

    In JSON, non-finite metrics are strings whose names are listed in ``nonfinite``, and a step
    above 2³²-1 is in ``large_step``. In Python, ``metrics`` and ``step`` are the numbers.
    """

    metrics: Any
    step: U32
    nonfinite: list[str] | None = None
    large_step: LargeStep | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.step = decode_step(self.step, self.large_step)
        self.large_step = None
        if self.nonfinite:
            self.metrics = decode_nonfinite(self.metrics, self.nonfinite)
        self.nonfinite = encode_nonfinite(self.metrics)[1] or None

    def to_json(self) -> dict[str, Any]:
        document = super().to_json()
        # msgspec does not validate assignments, and an invalid document could not be read again.
        for name, largest in (("epoch", MAX_U32), ("step", MAX_STEP)):
            if not 0 <= document[name] <= largest:
                raise InvalidData(f"$.{name}", f"expected a number from 0 to {largest}")
        document["metrics"], names = encode_nonfinite(self.metrics)
        document.pop("nonfinite", None)
        if names:
            document["nonfinite"] = names
        if self.step > MAX_U32:
            document["step"], document["large_step"] = MAX_U32, self.step
        return document


class NotebookCheckpoint(_CheckpointFields, kw_only=True):
    """A point of a training: its position, metrics and state files.

    Attributes
    ----------
    model_state_path : str
        ``""`` if there is no state file yet or it was pruned.
    digests, sizes : dict, optional
        SHA-256 in hex and bytes of the state files, by part (``model``, ``optimizer``).
    """

    id: str
    notebook_id: str
    epoch: U32
    step: U32
    model_state_path: str
    optimizer_state_path: str | None = None
    created_at: Moment
    # additions
    run_id: str | None = None
    version_id: str | None = None
    digests: dict[str, str] | None = None
    sizes: dict[str, int] | None = None
    format: str | None = None
    provenance_id: str | None = None
    tags: list[str] = []
    pinned: bool = False
    pruned_at: Moment | None = None


class RunProcess(Record, kw_only=True):
    """The process of a run. The start time distinguishes it from later processes with its pid."""

    host: str
    pid: int
    started_at: Moment


class ConfigSource(str, enum.Enum):
    """The source of a run's configuration."""

    GIVEN = "given"
    DERIVED = "derived"
    PARAMETERS = "parameters"

    @property
    def label(self) -> str:
        """A remark for people; empty if the user gave the configuration."""
        return {"derived": "derived from code", "parameters": "from parameters"}.get(self.value, "")


#: A metric's value in JSON; ``NaN`` and the infinities are strings.
MetricValue = float | Literal["NaN", "Infinity", "-Infinity"]


class MetricSummary(Record, kw_only=True):
    """The last, the least and the greatest value of a metric in a run, and their steps.

    ``min`` and ``max`` are None if no value is a number.
    """

    last: MetricValue
    last_step: int
    min: MetricValue | None = None
    min_step: int | None = None
    max: MetricValue | None = None
    max_step: int | None = None


class TrainingRun(Record, kw_only=True):
    """An attempt at training: its configuration, series, checkpoints, and where it resumed from.

    Attributes
    ----------
    lease_until : datetime, optional
        The time when a ``running`` run expires.
    process : RunProcess, optional
        The process that trains.
    key : str, optional
        The name under which ``resume(key=…)`` finds the run, such as ``fold 2``.
    cell : str, optional
        The cell in which the run began: its id, or ``sha256:…`` of its source if the front end
        sends no ids.
    ordinal : int, optional
        The number of runs that the same execution of the cell had started before this one.
    skipped_run_id : str, optional
        The unfinished run that was not resumed because its process seemed to be alive.
    name : str, optional
        :attr:`display_name` is shown if there is none.
    number : int, optional
        1, 2, 3, … in the order in which the notebook's runs began. No other run ever gets it.
    config : dict, optional
        The hyperparameters: a JSON object.
    config_source : ConfigSource, optional
        Whether the configuration was given by the user, derived from the code, or set by
        papermill's parameters.
    group : str, optional
        The name that runs of one search share.
    keep : str, optional
        The rules by which the run's own state files are pruned, such as ``last:2``.
    step_count, last_step : int, optional
        The number of steps for which values were logged, and the last of them.
    archived : bool, optional
        Whether the run is hidden from lists; None if it is not.
    metrics : dict of MetricSummary, optional
        By the name of the metric. They are not part of the stored document.
    """

    id: str
    notebook_id: str
    parent_checkpoint_id: str | None = None
    status: RunStatus = RunStatus.RUNNING
    started_at: Moment
    ended_at: Moment | None = None
    lease_until: Moment | None = None
    process: RunProcess | None = None
    key: str | None = None
    cell: str | None = None
    ordinal: int | None = None
    skipped_run_id: str | None = None
    name: str | None = None
    number: int | None = None
    config: dict[str, Any] | None = None
    config_source: ConfigSource | None = None
    tags: list[str] = []
    notes: str | None = None
    group: str | None = None
    keep: str | None = None
    step_count: int | None = None
    last_step: int | None = None
    archived: bool | None = None
    metrics: dict[str, MetricSummary] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without fields that are None."""
        document = super().to_json()
        if self.metrics is not None:
            document["metrics"] = {name: one.to_json() for name, one in self.metrics.items()}
        return document

    @property
    def display_name(self) -> str:
        """The name, or ``run 3``."""
        if self.name:
            return self.name
        return f"run {self.id[:8]}" if self.number is None else f"run {self.number}"


class UpdateRun(Record, kw_only=True):
    """The changes to a run; fields that are None stay unchanged, and ``""`` removes a text."""

    name: str | None = None
    config: dict[str, Any] | None = None
    config_source: ConfigSource | None = None
    tags: list[str] | None = None
    notes: str | None = None
    group: str | None = None
    keep: str | None = None
    archived: bool | None = None


class NewNotebook(Record, kw_only=True):
    """The fields of a notebook record to create."""

    user_id: str
    name: str
    description: str | None = None
    cells: list[NotebookCell] = []
    model_id: str | None = None
    dataset_id: str | None = None
    # additions
    id: str | None = None
    metadata: NotebookMetadata | None = None
    status: NotebookStatus | None = None
    path: str | None = None
    origin: str | None = None


class NewCheckpoint(_CheckpointFields, kw_only=True):
    """The fields of a checkpoint to create."""

    notebook_id: str
    epoch: U32
    step: U32
    model_state_path: str = ""
    optimizer_state_path: str | None = None
    # additions
    id: str | None = None
    run_id: str | None = None
    version_id: str | None = None
    digests: dict[str, str] | None = None
    sizes: dict[str, int] | None = None
    format: str | None = None
    provenance_id: str | None = None
    tags: list[str] = []
    pinned: bool = False


class UpdateNotebook(Record, kw_only=True):
    """The changes to a notebook record; fields that are None stay unchanged."""

    name: str | None = None
    description: str | None = None
    cells: list[NotebookCell] | None = None
    model_id: str | None = None
    dataset_id: str | None = None
    status: NotebookStatus | None = None
    # additions
    tags: list[str] | None = None


class UpdateCheckpoint(Record, kw_only=True):
    """The changes to a checkpoint's labels; fields that are None stay unchanged."""

    tags: list[str] | None = None
    pinned: bool | None = None
