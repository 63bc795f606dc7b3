"""Runs of a notebook, and what they measured."""

from __future__ import annotations

from functools import partial

from jupyter_server.auth.decorator import authorized
from tornado import web

from ..records import RunStatus
from .call import Call
from .handler import AxonHandler
from .responses import Answer


class RunsHandler(AxonHandler):
    """The runs of a notebook."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """List them, newest first."""
        await self.respond_tagged(notebook_id, partial(_list, notebook_id), ("limit", "offset", "status"))


class MetricsHandler(AxonHandler):
    """The metrics of a notebook's checkpoints."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """Give them as series, by run, in columns."""
        await self.respond_tagged(notebook_id, partial(_series, notebook_id), ("key", "run_id", "since"))


def _list(notebook_id: str, call: Call) -> Answer:
    page = call.query.page()
    status = call.query.choice("status", RunStatus)
    found = call.repository.list_runs(notebook_id, page.limit, page.offset, status=status)
    total = call.repository.count_runs(notebook_id, status=status)
    return Answer([run.to_json() for run in found], headers={"X-Total-Count": str(total)})


def _series(notebook_id: str, call: Call) -> Answer:
    keys, run_id, since = call.query.texts("key"), call.query.text("run_id"), call.query.since()
    found = call.repository.metric_series(notebook_id, keys, run_id=run_id, since=since)
    return Answer({"runs": [series.to_json() for series in found]})
