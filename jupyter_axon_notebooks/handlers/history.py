"""Versions and runs of a notebook, and the metrics of its checkpoints."""

from __future__ import annotations

import msgspec

from ..errors import NotFound
from ..records import Moment, NotebookVersion, Record, RunStatus
from .context import RequestContext
from .requests import Page
from .responses import Response, list_response


class Comparison(Record):
    """The arguments of a comparison."""

    before: str = msgspec.field(name="from")
    after: str = msgspec.field(name="to")


class RunQuery(Page):
    """The arguments of a list of runs."""

    status: RunStatus | None = None


class MetricQuery(Record):
    """The arguments of the metrics."""

    key: list[str] = msgspec.field(default_factory=list)
    run_id: str | None = None
    since: Moment | None = None


def list_versions(context: RequestContext, notebook_id: str) -> Response:
    """List the versions, newest first."""
    context.check_current(notebook_id)
    query, versions = context.query(Page), context.repository.versions
    found = versions.list(notebook_id, query.limit, query.offset)
    return list_response(found, versions.count(notebook_id))


def get_version(context: RequestContext, notebook_id: str, version_id: str) -> Response:
    """Return a version with its cells."""
    context.check_access(notebook_id)
    return Response(find_version(context, notebook_id, version_id).to_json())


def find_version(context: RequestContext, notebook_id: str, version_id: str) -> NotebookVersion:
    """Return a version of a notebook; raises NotFound."""
    version = context.repository.versions.get(notebook_id, version_id)
    if version is None:
        raise NotFound("version", version_id)
    return version


def diff_versions(context: RequestContext, notebook_id: str) -> Response:
    """Compare the sources of the versions ``from`` and ``to``."""
    context.check_access(notebook_id)
    query = context.query(Comparison)
    changes = context.repository.versions.diff(notebook_id, query.before, query.after)
    return Response(
        {
            "from": query.before,
            "to": query.after,
            "changes": [change.to_json() for change in changes],
        }
    )


def list_runs(context: RequestContext, notebook_id: str) -> Response:
    """List the runs, newest first."""
    query, runs = context.query(RunQuery), context.repository.runs
    found = runs.list(notebook_id, query.limit, query.offset, status=query.status)
    return list_response(found, runs.count(notebook_id, status=query.status))


def list_series(context: RequestContext, notebook_id: str) -> Response:
    """Return a series of values per run and metric."""
    query = context.query(MetricQuery)
    found = context.repository.series.list(
        notebook_id, query.key, run_id=query.run_id, since=query.since
    )
    return Response({"runs": [series.to_json() for series in found]})
