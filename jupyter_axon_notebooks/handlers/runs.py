"""Runs of all notebooks that a user may see: search, comparison, changes, and series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from ..errors import Conflict, InvalidData
from ..metrics import encode_nonfinite
from ..provenance import RunReproducibility
from ..records import Record, TrainingRun, UpdateRun
from ..repository.run_queries import RunQuery
from .context import RequestContext
from .requests import Page
from .responses import NO_CONTENT, Response

if TYPE_CHECKING:
    from ..series import Series

#: The most runs that a request compares, asks for by id, or reads series or provenance of.
_MAX_COMPARED, _MAX_IDS, _MAX_LISTED = 20, 1_000, 100
#: A response with more values of a metric is large.
_MANY_POINTS = 50_000


class _RunsQuery(Page):
    where: str = ""
    sort: str = "-started_at"
    notebook_id: str | None = None


class RunTableQuery(Record):
    """The arguments of the table of runs."""

    where: str = ""
    sort: str = "-started_at"
    notebook_id: str | None = None
    ids: str | None = None
    id: list[str] = msgspec.field(default_factory=list)
    only_ids: bool = False
    limit: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


class ManySeriesQuery(Record):
    """The arguments of the series of several runs."""

    ids: str | None = None
    id: list[str] = msgspec.field(default_factory=list)
    key: list[str] = msgspec.field(default_factory=list)
    points: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 500


class ReproducibilityQuery(Record):
    """The arguments of the reproducibility of several runs."""

    ids: str | None = None
    id: list[str] = msgspec.field(default_factory=list)
    base: list[str] = msgspec.field(default_factory=list)


class _OneRunQuery(Record):
    notebook_id: str | None = None
    with_pinned: bool = False


class _SeriesQuery(_OneRunQuery):
    key: list[str] = msgspec.field(default_factory=list)
    points: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 2_000


class _CompareQuery(Record):
    ids: str = ""
    id: list[str] = msgspec.field(default_factory=list)


def is_whole_table(context: RequestContext) -> bool:
    """Return whether a request for the table is one for all runs."""
    query = context.query(RunTableQuery)
    is_part = query.where or query.notebook_id or query.id or query.ids is not None or query.limit
    return not is_part and not query.only_ids


def has_many_points(context: RequestContext) -> bool:
    """Return whether the answer to a request for series may be large."""
    query = context.query(ManySeriesQuery)
    count = len(query.id) or (query.ids or "").count(",") + 1
    return query.points * count > _MANY_POINTS


def search_runs(context: RequestContext) -> Response:
    """List the runs that match a filter."""
    query = context.query(_RunsQuery)
    page = context.repository.runs.search(
        RunQuery(
            where=query.where,
            sort=query.sort,
            limit=query.limit,
            offset=query.offset,
            user_id=None if context.is_admin else context.user_id,
            notebook_id=query.notebook_id,
        )
    )
    headers = {"X-Total-Count": str(page.total)}
    documents = [found.to_json() for found in page.runs]
    for document in documents:
        context.set_contents_path(document, document.pop("origin", None))
    return Response(documents, headers=headers)


def get_run_table(context: RequestContext) -> Response:
    """Return the runs that match a filter in a short form, or only their ids."""
    query, runs = context.query(RunTableQuery), context.repository.runs
    search = RunQuery(
        where=query.where,
        sort=query.sort,
        limit=query.limit or None,
        offset=query.offset,
        user_id=None if context.is_admin else context.user_id,
        notebook_id=query.notebook_id,
        ids=None if query.ids is None else _split_ids(query.ids, _MAX_IDS),
        keys=_split_keys(query.id, _MAX_IDS) if query.id else None,
    )
    if query.only_ids:
        found, total = runs.search_ids(search)
        notebook_ids, ids = [key[0] for key in found], [key[1] for key in found]
        headers = {"X-Total-Count": str(total)}
        return Response({"ids": ids, "notebook_ids": notebook_ids}, headers=headers)
    table = runs.read_table(search)
    notebooks = {}
    for id, notebook in table.notebooks.items():
        document = {"name": notebook.name}
        if notebook.path is not None:
            document["path"] = notebook.path
        context.set_contents_path(document, notebook.origin)
        notebooks[id] = document
    headers = {"X-Total-Count": str(table.total)}
    return Response({"runs": table.runs, "notebooks": notebooks}, headers=headers)


def _split_ids(text: str, most: int) -> list[str]:
    ids = list(dict.fromkeys(id for id in text.split(",") if id))
    if len(ids) > most:
        raise InvalidData("ids", f"expected at most {most} ids, separated by commas")
    return ids


def _split_keys(texts: list[str], most: int) -> list[tuple[str, str]]:
    """Return the ids of the notebook and the run in texts such as ``NOTEBOOK_ID/RUN_ID``."""
    keys = []
    for text in texts:
        notebook_id, separator, run_id = text.partition("/")
        if not separator:
            raise InvalidData("$.id", f"expected NOTEBOOK_ID/RUN_ID, got {text[:80]!r}")
        keys.append((notebook_id, run_id))
    if len(keys) > most:
        raise InvalidData("$.id", f"expected at most {most} runs")
    return keys


def list_run_columns(context: RequestContext) -> Response:
    """List the configuration keys and metrics that runs have."""
    runs, user_id = context.repository.runs, None if context.is_admin else context.user_id
    query = context.query(_OneRunQuery)
    return Response(
        {
            "config": runs.config_keys(user_id, query.notebook_id),
            "metrics": runs.metric_names(user_id, query.notebook_id),
        }
    )


def get_run(context: RequestContext, id: str) -> Response:
    """Return a run."""
    return Response(_find(context, id).to_json())


def update_run(context: RequestContext, id: str) -> Response:
    """Change name, configuration, tags, notes, group or rules of a run, or archive it."""
    run = _find(context, id, by_id=True)
    updates = UpdateRun.from_json(context.parse_body())
    return Response(context.repository.runs.update(run.notebook_id, run.id, updates).to_json())


def delete_run(context: RequestContext, id: str) -> Response:
    """Delete a run with its checkpoints and series."""
    run = _find(context, id, by_id=True)
    with_pinned = context.query(_OneRunQuery).with_pinned
    context.repository.checkpoints.delete_run(run.notebook_id, run.id, with_pinned=with_pinned)
    return NO_CONTENT


def get_run_series(context: RequestContext, id: str) -> Response:
    """Return series of a run in columns, sampled to a number of points."""
    run, query = _find(context, id), context.query(_SeriesQuery)
    series = context.repository.series
    names = query.key or series.names(run.notebook_id, run.id)
    found = series.read_all(run.notebook_id, run.id, names, points=query.points)
    return Response({"run_id": run.id, "series": _columns(found)})


def get_many_series(context: RequestContext) -> Response:
    """Return series of several runs in columns, sampled to a number of points."""
    query, repository = context.query(ManySeriesQuery), context.repository
    runs = _list_runs(context, query.ids, query.id)
    found = repository.series.read_runs([*runs.values()], query.key, points=query.points)
    series = {name: _columns(one) for name, one in zip(runs, found, strict=True)}
    return Response({"series": series})


def _list_runs(
    context: RequestContext, ids: str | None, keys: list[str], bases: Sequence[str] = ()
) -> dict[str, TrainingRun]:
    """Return those of the named runs that the user may see, and the bases, by what names them."""
    user_id = None if context.is_admin else context.user_id
    others = list(dict.fromkeys(bases))
    if len(others) > _MAX_LISTED:
        raise InvalidData("$.base", f"expected at most {_MAX_LISTED} runs")
    if not keys and ids is None:
        raise InvalidData("$.ids", "required, but missing")
    if keys:
        _split_keys(keys, _MAX_LISTED)
        names = [*keys, *others]
        search = RunQuery(keys=_split_keys(names, 2 * _MAX_LISTED), user_id=user_id)
    else:
        names = [*_split_ids(ids or "", _MAX_LISTED), *others]
        search = RunQuery(ids=names, user_id=user_id)
    runs = [found.run for found in context.repository.runs.search(search).runs]
    by_name = {f"{run.notebook_id}/{run.id}" if keys else run.id: run for run in runs}
    return {name: by_name[name] for name in names if name in by_name}


def get_reproducibility(context: RequestContext) -> Response:
    """Return whether runs can be reproduced, and whether their code is that of another run."""
    query = context.query(ReproducibilityQuery)
    runs = _list_runs(context, query.ids, query.id, query.base)
    bases = [runs[name] for name in dict.fromkeys(query.base) if name in runs]
    names = query.id or _split_ids(query.ids or "", _MAX_LISTED)
    listed = [runs[name] for name in names if name in runs]
    found = context.repository.provenance.summarize_runs(listed, bases)
    documents = [_reproducibility(run, one) for run, one in zip(listed, found, strict=True)]
    return Response({"runs": documents})


def _reproducibility(run: TrainingRun, found: RunReproducibility) -> dict[str, Any]:
    changed = found.changed_cells
    code = None if changed is None else "different" if changed else "same"
    return {"code": code, "notebook_id": run.notebook_id, **found.to_json()}


def _columns(series: Mapping[str, Series]) -> dict[str, Any]:
    return {
        name: {
            "step": one.steps.tolist(),
            "value": [
                value if math.isfinite(value) else encode_nonfinite(value)[0]
                for value in one.values.tolist()
            ],
            "time": one.times.tolist(),
        }
        for name, one in series.items()
    }


def compare_runs(context: RequestContext) -> Response:
    """Compare several runs with the first of them."""
    query = context.query(_CompareQuery)
    names = query.id or [id for id in query.ids.split(",") if id]
    if not 2 <= len(names) <= _MAX_COMPARED:
        raise InvalidData("ids", f"expected 2 to {_MAX_COMPARED} ids, separated by commas")
    if query.id:
        user_id = None if context.is_admin else context.user_id
        keys = _split_keys(names, _MAX_COMPARED)
        find = context.repository.runs.find
        runs = [find(id, notebook_id, user_id, by_id=True) for notebook_id, id in keys]
    else:
        runs = [_find(context, id) for id in names]
    comparison = context.repository.provenance.compare_runs(runs).to_json()
    for change in filter(None, comparison["changes"]):
        change["from"], change["to"] = change.pop("before"), change.pop("after")
    return Response(comparison)


def _find(context: RequestContext, id: str, *, by_id: bool = False) -> TrainingRun:
    user_id = None if context.is_admin else context.user_id
    notebook_id = context.query(_OneRunQuery).notebook_id
    try:
        return context.repository.runs.find(id, notebook_id, user_id, by_id=by_id)
    except ValueError as error:
        raise Conflict(f"{error}; give notebook_id, or the whole id") from None
