"""Checkpoints of a notebook."""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NamedTuple, get_args

from jupyter_server.auth.decorator import authorized
from tornado import web

from ..errors import InvalidData
from ..records import NewCheckpoint, UpdateCheckpoint, new_id
from ..states import Part, StoredState
from .call import Call
from .handler import AxonHandler
from .queries import Page, Query
from .responses import NO_CONTENT, Answer

_PARTS: Final[tuple[Part, ...]] = get_args(Part)
#: What a POST may say; the rest is the server's to know.
_GIVEN: Final = (
    "epoch",
    "step",
    "large_step",
    "metrics",
    "nonfinite",
    "run_id",
    "version_id",
    "format",
    "tags",
    "pinned",
)
_METRIC: Final = "loss"
#: Bytes read at once from a state that is there already.
_CHUNK: Final = 1 << 20


class CheckpointsHandler(AxonHandler):
    """The checkpoints of a notebook."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """List them, newest first."""
        await self.respond_tagged(notebook_id, _Listed.read, partial(_list, notebook_id))

    @web.authenticated
    @authorized
    async def post(self, notebook_id: str) -> None:
        """Create one, with its states, with the paths of states that are there, or without."""
        await self.respond(partial(_create, notebook_id))


class BestCheckpointHandler(AxonHandler):
    """The best checkpoint of a notebook."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """Give it, or null where none has a finite number as that metric."""
        await self.respond(partial(_best, notebook_id))


class CheckpointHandler(AxonHandler):
    """One checkpoint."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str, checkpoint_id: str) -> None:
        """Give it."""
        await self.respond(partial(_get, notebook_id, checkpoint_id))

    @web.authenticated
    @authorized
    async def put(self, notebook_id: str, checkpoint_id: str) -> None:
        """Change its tags or its pin."""
        await self.respond(partial(_update, notebook_id, checkpoint_id))

    @web.authenticated
    @authorized
    async def delete(self, notebook_id: str, checkpoint_id: str) -> None:
        """Delete it with its states."""
        await self.respond(partial(_delete, notebook_id, checkpoint_id))


class _Listed(NamedTuple):
    """Which checkpoints are asked for."""

    page: Page
    since: datetime | None
    run_id: str | None

    @classmethod
    def read(cls, query: Query) -> _Listed:
        """Read it from the query."""
        return cls(query.page(), query.since(), query.text("run_id"))


def _list(notebook_id: str, call: Call, listed: _Listed) -> Answer:
    (limit, offset), since, run_id = listed
    found = call.repository.list_checkpoints(notebook_id, limit, offset, since=since, run_id=run_id)
    total = call.repository.checkpoints.count(notebook_id, since=since, run_id=run_id)
    return Answer(
        [checkpoint.to_json() for checkpoint in found], headers={"X-Total-Count": str(total)}
    )


def _best(notebook_id: str, call: Call) -> Answer:
    call.summary(notebook_id)
    metric = call.query.text("metric")
    minimize = call.query.flag("minimize", default=True)
    best = call.repository.get_best_checkpoint(
        notebook_id, _METRIC if metric is None else metric, minimize
    )
    return Answer(None if best is None else best.to_json())


def _get(notebook_id: str, checkpoint_id: str, call: Call) -> Answer:
    return Answer(call.checkpoint(notebook_id, checkpoint_id).to_json())


def _update(notebook_id: str, checkpoint_id: str, call: Call) -> Answer:
    call.checkpoint(notebook_id, checkpoint_id)
    updates = UpdateCheckpoint.from_json(call.body())
    return Answer(call.repository.checkpoints.update(checkpoint_id, updates).to_json())


def _delete(notebook_id: str, checkpoint_id: str, call: Call) -> Answer:
    call.checkpoint(notebook_id, checkpoint_id)
    call.repository.delete_checkpoint(checkpoint_id)
    return NO_CONTENT


def _create(notebook_id: str, call: Call) -> Answer:
    call.summary(notebook_id)
    body = call.body(nonfinite_in="metrics")
    given = {name: body[name] for name in _GIVEN if body.get(name) is not None}
    if "metrics" in body:
        given["metrics"] = body["metrics"]  # null is as good as any JSON
    new = NewCheckpoint.from_json({**given, "notebook_id": notebook_id})
    new.id = new_id()
    named, sent = _decode_states(call, notebook_id, body)
    stored = {part: _measured(call, notebook_id, part, path) for part, path in named.items()}
    try:
        stored.update((part, _write(call, new, part, octets)) for part, octets in sent.items())
        created = call.repository.create_checkpoint(_with_states(new, stored))
    except BaseException:
        if sent:
            call.services.states.remove_checkpoint(notebook_id, new.id)
        raise
    if sent:
        call.services.states.mark_recorded(notebook_id, new.id)
    return Answer(created.to_json(), HTTPStatus.CREATED)


def _decode_states(
    call: Call, notebook_id: str, body: dict[str, Any]
) -> tuple[dict[Part, str], dict[Part, bytes]]:
    """The states that a body names by their paths, and those that it holds."""
    named: dict[Part, str] = {}
    sent: dict[Part, bytes] = {}
    for part in _PARTS:
        path, text = body.get(f"{part}_state_path"), body.get(f"{part}_state_base64")
        for name, value in (("path", path), ("base64", text)):
            if value is not None and not isinstance(value, str):
                raise InvalidData(f"$.{part}_state_{name}", "expected str")
        if path and text is not None:
            raise InvalidData(
                f"$.{part}_state_base64", f"there is a {part}_state_path already; give one of them"
            )
        if path:
            named[part] = call.services.states.validate_path(
                path, notebook_id, field=f"$.{part}_state_path"
            )
        elif text is not None:
            try:
                sent[part] = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise InvalidData(f"$.{part}_state_base64", f"not base64: {error}") from None
    return named, sent


def _measured(call: Call, notebook_id: str, part: Part, path: str) -> StoredState:
    """A state that is there already; its digest is taken, so that what is recorded is true."""
    with call.services.states.open(path, notebook_id, field=f"$.{part}_state_path") as file:
        digest = hashlib.sha256()
        size = 0
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
        return StoredState(path, digest.hexdigest(), size)


def _write(call: Call, new: NewCheckpoint, part: Part, octets: bytes) -> StoredState:
    assert new.id is not None  # chosen above
    with call.services.states.open_writer(
        new.notebook_id, new.id, part, format=new.format, expected_size=len(octets)
    ) as writer:
        writer.write(octets)
        return writer.commit()


def _with_states(new: NewCheckpoint, stored: dict[Part, StoredState]) -> NewCheckpoint:
    for part, state in stored.items():
        setattr(new, f"{part}_state_path", state.path)
    if stored:
        new.digests = {part: state.digest for part, state in stored.items()}
        new.sizes = {part: state.size for part, state in stored.items()}
    return new
