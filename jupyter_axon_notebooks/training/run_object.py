"""A run as the notebook API returns it, and lists of runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..metrics import column_names, flatten_metrics
from ..records import ConfigSource, RunStatus, TrainingRun, UpdateRun
from ..repository.run_comparison import differing_keys
from ..repository.run_queries import flat_config
from .checkpoint import Checkpoint
from .display import ShortDict
from .run_config import normalize_config
from .run_display import (
    ListedRun,
    own_metrics,
    run_html,
    run_text,
    runs_html,
    runs_text,
)
from .session import current_session
from .validation import validate_keep, validate_run_fields

if TYPE_CHECKING:
    from types import TracebackType

    from ..series import Series
    from .run import ActiveRun
    from .session import Session


class RunConfig(Mapping[str, Any]):
    """The configuration of a run; :meth:`update` changes it."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getitem__(self, key: str) -> Any:
        config = self._run.record.config or {}
        return config[key] if key in config else flatten_metrics(config)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._run.record.config or {})

    def __len__(self) -> int:
        return len(self._run.record.config or {})

    def __repr__(self) -> str:
        return repr(ShortDict(self._run.record.config or {}))

    def update(self, config: Any = None, **values: Any) -> None:
        """Add values to the configuration; those of the same name are replaced.

        Parameters
        ----------
        config : mapping or object, optional
            As for :func:`.api.start_run`.
        **values
            Single values.

        Raises
        ------
        TypeError, ValueError
            If the configuration cannot be recorded.
        StoreError
            If the store is unavailable and the run is not trained by this process.
        """
        added = {**({} if config is None else normalize_config(config)), **normalize_config(values)}
        merged = normalize_config({**(self._run.record.config or {}), **added})
        self._run._change(UpdateRun(config=merged, config_source=ConfigSource.GIVEN))


class Run:
    """A run of this process, or a recorded one.

    As a context manager, it ends the run: as completed, as failed after an exception, as stopped
    after KeyboardInterrupt.
    """

    def __init__(
        self,
        session: Session,
        record: TrainingRun,
        active: ActiveRun | None = None,
        *,
        notebook: str | None = None,
    ) -> None:
        self._session = session
        self._record = record
        self._active = active
        self._notebook = notebook
        self._pid = os.getpid()

    @property
    def record(self) -> TrainingRun:
        """All that is recorded of the run."""
        return self._record

    @property
    def id(self) -> str:
        """The id."""
        return self._record.id

    @property
    def number(self) -> int | None:
        """The number within the notebook; None while the store is unavailable."""
        return self._record.number

    @property
    def name(self) -> str:
        """The name, or ``run 3``."""
        return self._record.display_name

    @property
    def notebook(self) -> str | None:
        """The name of its notebook, of a run that :func:`.api.runs` returned."""
        return self._notebook

    @property
    def status(self) -> RunStatus:
        """The status."""
        return self._record.status

    @property
    def tags(self) -> list[str]:
        """The tags."""
        return list(self._record.tags)

    @property
    def config(self) -> RunConfig:
        """The hyperparameters."""
        return RunConfig(self)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric, by name."""
        found = self._measured().metrics or {}
        return ShortDict({name: float(summary.last) for name, summary in found.items()})

    def _measured(self) -> TrainingRun:
        """Return the record with the metrics, which change while this process trains the run."""
        if self._active is None:
            return self._record
        session, active = self._session_and_run()
        metrics = session.metrics(self._record, active)
        return msgspec.structs.replace(self._record, metrics=metrics)

    def log(
        self, metrics: Mapping[str, Any], *, step: int | None = None, epoch: int | None = None
    ) -> None:
        """Log values of this run; see :func:`.api.log`.

        A forked process logs to a run of its own.
        """
        if self._is_inherited:
            current_session().log(metrics, step=step, epoch=epoch)
            return
        self._session.log(metrics, step=step, epoch=epoch, run=self._training())

    def checkpoint(self, model: Any, optimizer: Any = None, **options: Any) -> Checkpoint | None:
        """Save a checkpoint of this run; see :func:`.api.checkpoint`.

        If it does not come after the last one, it is saved at the next step, with a warning. A
        forked process saves it in a run of its own.
        """
        run = self._training()
        extra = options.pop("extra", None)
        defaults = {"epoch": None, "step": None, "metrics": None, "tags": (), "overwrite": False}
        options = {**defaults, **options}
        if self._is_inherited:
            return current_session().checkpoint(model, optimizer, extra, **options)
        return self._session.checkpoint(model, optimizer, extra, run=run, **options)

    def series(self, name: str) -> Series:
        """Return the logged values of a metric over the steps, with ``steps`` and ``values``.

        Raises
        ------
        NotFound
            If the run never logged the metric. The message names similar ones.
        """
        session, active = self._session_and_run()
        return session.series(self._record, active, name)

    def update(
        self,
        *,
        name: str | None = None,
        tags: str | Iterable[str] | None = None,
        notes: str | None = None,
        group: str | None = None,
        keep: str | None = None,
    ) -> None:
        """Change name, tags, notes, group or rules; ``""`` removes a text, and ``[]`` all tags.

        The next checkpoint prunes by the new rules. Checkpoints that were made while the run had no
        rules are kept.

        Raises
        ------
        TypeError, ValueError
            If a text or a rule cannot be recorded.
        StoreError
            If the store is unavailable and the run is not trained by this process.
        """
        fields = validate_run_fields(name, tags, notes, group)
        if tags is None:
            del fields["tags"]
        fields["keep"] = validate_keep(keep) if keep else keep
        self._change(UpdateRun(**fields))

    def _change(self, updates: UpdateRun) -> None:
        session, active = self._session_and_run()
        session.update_run(self._record, updates, is_training=active is not None)

    def finish(self, status: RunStatus | str = RunStatus.COMPLETED) -> None:
        """End the run; a forked process cannot end a run of its parent."""
        if self._is_inherited:
            return
        self._session.finish_run(self._training(), RunStatus(status))

    @property
    def _is_inherited(self) -> bool:
        """True in a process that was forked from the one that trains the run."""
        return self._pid != os.getpid()

    def _session_and_run(self) -> tuple[Session, ActiveRun | None]:
        """Return the session of this process, and the run if this process trains it.

        A forked process inherits locks that threads of its parent may have held.
        """
        return (current_session(), None) if self._is_inherited else (self._session, self._active)

    def _training(self) -> ActiveRun:
        if self._active is None:
            raise RuntimeError(f"{self.name} is not trained by this process")
        return self._active

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        status = RunStatus.COMPLETED
        if isinstance(error, KeyboardInterrupt):
            status = RunStatus.STOPPED
        elif error is not None and not isinstance(error, GeneratorExit):
            status = RunStatus.FAILED
        self.finish(status)

    def __repr__(self) -> str:
        return run_text(self._measured())

    def _repr_html_(self) -> str:
        return run_html(self._measured())


class RunList(list[Run]):
    """Runs, displayed as a table.

    Parameters
    ----------
    runs : iterable of Run
    sort : str
        The order they are in: the metric or key that it names is displayed.
    """

    def __init__(self, runs: Iterable[Run] = (), *, sort: str = "-started_at") -> None:
        super().__init__(runs)
        self._sort = sort

    def table(self) -> list[dict[str, Any]]:
        """Return a row for each run: its fields, the configuration that differs, its metrics.

        Runs of several notebooks have the names of their notebooks, too.
        """
        configs = [flat_config(run.record) for run in self]
        differing = differing_keys(configs)
        names = dict.fromkeys(name for run in self for name in own_metrics(run.record))
        has_notebooks = len({run.record.notebook_id for run in self}) > 1
        rows = []
        fields = ("name", "number", "notebook", "status", "started_at", "id")
        columns = column_names(list(names), (*fields, *differing))
        for run, config in zip(self, configs, strict=True):
            row: dict[str, Any] = {"name": run.name, "number": run.number}
            row |= {"notebook": run.notebook} if has_notebooks else {}
            row |= {"status": run.status.value}
            row |= {key: config.get(key) for key in differing}
            metrics = run.metrics
            row |= dict(zip(columns, (metrics.get(name) for name in names), strict=True))
            rows.append({**row, "started_at": run.record.started_at, "id": run.id})
        return rows

    def to_pandas(self) -> Any:
        """Return the table as a pandas DataFrame; pandas must be installed."""
        import pandas as pd

        return pd.DataFrame(self.table())

    def _listed(self) -> list[ListedRun]:
        return [ListedRun(run.record, run.notebook) for run in self]

    def __repr__(self) -> str:
        return runs_text(self._listed(), self._sort)

    def _repr_html_(self) -> str:
        return runs_html(self._listed(), self._sort)
