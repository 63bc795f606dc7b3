"""Versions and runs of a notebook, and the metrics of its checkpoints."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from jupyter_server.auth.decorator import authorized
from tornado import web

from ..errors import NotFound
from ..records import RunStatus
from .base import AxonHandler
from .context import RequestContext
from .queries import Page, Query
from .responses import Response, list_response


class VersionsHandler(AxonHandler):
    """The versions of a notebook."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """List the versions, newest first."""
        await self.respond(_list_versions, notebook_id)


class VersionHandler(AxonHandler):
    """One version."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str, version_id: str) -> None:
        """Return the version with its cells."""
        await self.respond_large(_get_version, notebook_id, version_id)


class DiffHandler(AxonHandler):
    """The differences between two versions."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """Compare the sources of the versions ``from`` and ``to``."""
        await self.respond(_diff_versions, notebook_id)


class RunsHandler(AxonHandler):
    """The runs of a notebook."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """List the runs, newest first."""
        await self.respond_cached(notebook_id, _RunQuery.parse, _list_runs)


class MetricsHandler(AxonHandler):
    """The metrics of a notebook's checkpoints."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """Return a series of values per run and metric."""
        await self.respond_cached(notebook_id, _MetricQuery.parse, _list_series)


class _RunQuery(NamedTuple):
    page: Page
    status: RunStatus | None

    @classmethod
    def parse(cls, query: Query) -> _RunQuery:
        return cls(query.page(), query.choice("status", RunStatus))


class _MetricQuery(NamedTuple):
    keys: list[str]
    run_id: str | None
    since: datetime | None

    @classmethod
    def parse(cls, query: Query) -> _MetricQuery:
        return cls(query.texts("key"), query.text("run_id"), query.since())


def _list_versions(context: RequestContext, notebook_id: str) -> Response:
    context.get_summary(notebook_id)
    versions = context.repository.versions
    found = versions.list(notebook_id, *context.query.page())
    return list_response(found, versions.count(notebook_id))


def _get_version(context: RequestContext, notebook_id: str, version_id: str) -> Response:
    context.check_access(notebook_id)
    version = context.repository.versions.get(notebook_id, version_id)
    if version is None:
        raise NotFound("version", version_id)
    return Response(version.to_json())


def _diff_versions(context: RequestContext, notebook_id: str) -> Response:
    context.check_access(notebook_id)
    before, after = context.query.required("from"), context.query.required("to")
    changes = context.repository.versions.diff(notebook_id, before, after)
    return Response(
        {"from": before, "to": after, "changes": [change.to_json() for change in changes]}
    )


def _list_runs(context: RequestContext, notebook_id: str, query: _RunQuery) -> Response:
    runs = context.repository.runs
    found = runs.list(notebook_id, *query.page, status=query.status)
    return list_response(found, runs.count(notebook_id, status=query.status))


def _list_series(context: RequestContext, notebook_id: str, query: _MetricQuery) -> Response:
    found = context.repository.series.list(
        notebook_id, query.keys, run_id=query.run_id, since=query.since
    )
    return Response({"runs": [series.to_json() for series in found]})
