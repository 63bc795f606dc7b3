"""The history of a notebook."""

from __future__ import annotations

from functools import partial

from jupyter_server.auth.decorator import authorized
from tornado import web

from ..errors import NotFound
from .call import Call
from .handler import AxonHandler
from .responses import Answer


class VersionsHandler(AxonHandler):
    """The versions of a notebook."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """List them, newest first."""
        await self.respond(partial(_list, notebook_id))


class VersionHandler(AxonHandler):
    """One version."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str, version_id: str) -> None:
        """Give it, with its cells."""
        await self.respond(partial(_get, notebook_id, version_id), large=True)


class DiffHandler(AxonHandler):
    """What changed between two versions."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """Compare the sources of ``from`` and ``to``."""
        await self.respond(partial(_diff, notebook_id))


def _list(notebook_id: str, call: Call) -> Answer:
    call.summary(notebook_id)
    page = call.query.page()
    found = call.repository.versions.list(notebook_id, page.limit, page.offset)
    total = call.repository.versions.count(notebook_id)
    return Answer([version.to_json() for version in found], headers={"X-Total-Count": str(total)})


def _get(notebook_id: str, version_id: str, call: Call) -> Answer:
    call.summary(notebook_id)
    version = call.repository.versions.get(notebook_id, version_id)
    if version is None:
        raise NotFound("version", version_id)
    return Answer(version.to_json())


def _diff(notebook_id: str, call: Call) -> Answer:
    call.summary(notebook_id)
    before, after = call.query.required("from"), call.query.required("to")
    changes = call.repository.versions.diff(notebook_id, before, after)
    return Answer(
        {"from": before, "to": after, "changes": [change.to_json() for change in changes]}
    )
