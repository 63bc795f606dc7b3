"""Runs of a notebook, and what they measured."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import NamedTuple

from jupyter_server.auth.decorator import authorized
from tornado import web

from ..records import RunStatus
from .call import Call
from .handler import AxonHandler
from .queries import Page, Query
from .responses import Answer


class RunsHandler(AxonHandler):
    """The runs of a notebook."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """List them, newest first."""
        await self.respond_tagged(notebook_id, _Listed.read, partial(_list, notebook_id))


class MetricsHandler(AxonHandler):
    """The metrics of a notebook's checkpoints."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """Give them as series, by run, in columns."""
        await self.respond_tagged(notebook_id, _Measured.read, partial(_series, notebook_id))


class _Listed(NamedTuple):
    """Which runs are asked for."""

    page: Page
    status: RunStatus | None

    @classmethod
    def read(cls, query: Query) -> _Listed:
        """Read it from the query."""
        return cls(query.page(), query.choice("status", RunStatus))


class _Measured(NamedTuple):
    """Which metrics are asked for."""

    keys: list[str]
    run_id: str | None
    since: datetime | None

    @classmethod
    def read(cls, query: Query) -> _Measured:
        """Read it from the query."""
        return cls(query.texts("key"), query.text("run_id"), query.since())


def _list(notebook_id: str, call: Call, listed: _Listed) -> Answer:
    (limit, offset), status = listed
    found = call.repository.runs.list(notebook_id, limit, offset, status=status)
    total = call.repository.runs.count(notebook_id, status=status)
    return Answer([run.to_json() for run in found], headers={"X-Total-Count": str(total)})


def _series(notebook_id: str, call: Call, measured: _Measured) -> Answer:
    keys, run_id, since = measured
    found = call.repository.series.list(notebook_id, keys, run_id=run_id, since=since)
    return Answer({"runs": [series.to_json() for series in found]})
