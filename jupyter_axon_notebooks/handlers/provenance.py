"""Where checkpoints came from."""

from __future__ import annotations

from functools import partial

from jupyter_server.auth.decorator import authorized
from tornado import web

from .call import Call
from .handler import AxonHandler
from .responses import Answer


class ProvenanceHandler(AxonHandler):
    """Where one checkpoint came from."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str, checkpoint_id: str) -> None:
        """Give what was executed, in what, and what speaks against it coming out again."""
        await self.respond(partial(_provenance, notebook_id, checkpoint_id))


class CheckpointDiffHandler(AxonHandler):
    """What changed between two checkpoints."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """Compare code, metrics and environment of ``from`` and ``to``."""
        await self.respond(partial(_diff, notebook_id))


def _provenance(notebook_id: str, checkpoint_id: str, call: Call) -> Answer:
    call.checkpoint(notebook_id, checkpoint_id)
    known = call.repository.provenance.get(checkpoint_id)
    known.version = None  # which its checkpoint names, and /versions has
    return Answer(known.to_json())


def _diff(notebook_id: str, call: Call) -> Answer:
    call.summary(notebook_id)
    before, after = call.query.required("from"), call.query.required("to")
    for checkpoint_id in (before, after):
        call.checkpoint(notebook_id, checkpoint_id)
    changes = call.repository.provenance.diff(before, after).to_json()
    return Answer({"from": changes.pop("before"), "to": changes.pop("after"), **changes})
