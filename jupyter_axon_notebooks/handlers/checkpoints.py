"""Checkpoints of a notebook, and their provenance."""

from __future__ import annotations

import base64
import binascii
import hashlib
from http import HTTPStatus
from typing import Any, Final, get_args

from ..errors import InvalidData
from ..records import Moment, NewCheckpoint, Record, UpdateCheckpoint, new_id
from ..states import Part, StoredState
from .context import RequestContext
from .history import Comparison
from .requests import Page
from .responses import NO_CONTENT, Response, list_response

_PARTS: Final[tuple[Part, ...]] = get_args(Part)
#: Fields that a client may set; the server sets the others.
_CLIENT_FIELDS: Final = (
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
_CHUNK_SIZE: Final = 1 << 20


class CheckpointQuery(Page):
    """The arguments of a list of checkpoints."""

    since: Moment | None = None
    run_id: str | None = None


class _BestQuery(Record):
    metric: str = "loss"
    minimize: bool = True


def list_checkpoints(context: RequestContext, notebook_id: str) -> Response:
    """List the checkpoints, newest first."""
    query, checkpoints = context.query(CheckpointQuery), context.repository.checkpoints
    page = query.limit, query.offset
    found = checkpoints.list(notebook_id, *page, since=query.since, run_id=query.run_id)
    total = checkpoints.count(notebook_id, since=query.since, run_id=query.run_id)
    return list_response(found, total)


def get_best(context: RequestContext, notebook_id: str) -> Response:
    """Return the best checkpoint, or null if none has a finite value of the metric."""
    context.check_access(notebook_id)
    query = context.query(_BestQuery)
    best = context.repository.get_best_checkpoint(notebook_id, query.metric, query.minimize)
    return Response(None if best is None else best.to_json())


def get_checkpoint(context: RequestContext, notebook_id: str, checkpoint_id: str) -> Response:
    """Return the checkpoint."""
    return Response(context.get_checkpoint(notebook_id, checkpoint_id).to_json())


def update_checkpoint(context: RequestContext, notebook_id: str, checkpoint_id: str) -> Response:
    """Change tags or pin of the checkpoint."""
    context.get_checkpoint(notebook_id, checkpoint_id)
    updates = UpdateCheckpoint.from_json(context.parse_body())
    return Response(context.repository.checkpoints.update(checkpoint_id, updates).to_json())


def delete_checkpoint(context: RequestContext, notebook_id: str, checkpoint_id: str) -> Response:
    """Delete the checkpoint with its states."""
    context.get_checkpoint(notebook_id, checkpoint_id)
    context.repository.delete_checkpoint(checkpoint_id)
    return NO_CONTENT


def get_provenance(context: RequestContext, notebook_id: str, checkpoint_id: str) -> Response:
    """Return executed code, environment, and reasons why it may not be reproducible."""
    context.get_checkpoint(notebook_id, checkpoint_id)
    provenance = context.repository.provenance.get(checkpoint_id)
    provenance.version = None  # the checkpoint has its id, and /versions has the version
    return Response(provenance.to_json())


def diff_checkpoints(context: RequestContext, notebook_id: str) -> Response:
    """Compare code, metrics and environment of the checkpoints ``from`` and ``to``."""
    context.check_access(notebook_id)
    query = context.query(Comparison)
    for checkpoint_id in (query.before, query.after):
        context.get_checkpoint(notebook_id, checkpoint_id)
    changes = context.repository.provenance.diff(query.before, query.after).to_json()
    return Response({"from": changes.pop("before"), "to": changes.pop("after"), **changes})


def create_checkpoint(context: RequestContext, notebook_id: str) -> Response:
    """Create a checkpoint with states in the body, paths of existing states, or no states."""
    context.check_current(notebook_id)  # the checkpoint gets the version that the file has now
    states = context.server.states
    body = context.parse_body(nonfinite_in="metrics")
    fields = {name: body[name] for name in _CLIENT_FIELDS if body.get(name) is not None}
    if "metrics" in body:
        fields["metrics"] = body["metrics"]  # may be null
    new = NewCheckpoint.from_json({**fields, "notebook_id": notebook_id})
    new.id = checkpoint_id = new_id()
    paths, contents = _parse_states(context, notebook_id, body)
    stored = {part: _measure(context, notebook_id, part, path) for part, path in paths.items()}
    try:
        for part, content in contents.items():
            with states.open_writer(
                notebook_id, checkpoint_id, part, format=new.format, expected_size=len(content)
            ) as writer:
                writer.write(content)
                stored[part] = writer.commit()
        for part, state in stored.items():
            setattr(new, f"{part}_state_path", state.path)
        if stored:
            new.digests = {part: state.digest for part, state in stored.items()}
            new.sizes = {part: state.size for part, state in stored.items()}
        created = context.repository.create_checkpoint(new)
    except BaseException:
        if contents:
            states.remove_checkpoint(notebook_id, checkpoint_id)
        raise
    if contents:
        states.mark_recorded(notebook_id, checkpoint_id)
    return Response(created.to_json(), HTTPStatus.CREATED)


def _parse_states(
    context: RequestContext, notebook_id: str, body: dict[str, Any]
) -> tuple[dict[Part, str], dict[Part, bytes]]:
    """Return the paths of existing states and the contents of new ones, by part."""
    paths: dict[Part, str] = {}
    contents: dict[Part, bytes] = {}
    for part in _PARTS:
        path_field, content_field = f"{part}_state_path", f"{part}_state_base64"
        path, text = body.get(path_field), body.get(content_field)
        for name, value in ((path_field, path), (content_field, text)):
            if value is not None and not isinstance(value, str):
                raise InvalidData(f"$.{name}", "expected str")
        if path and text is not None:
            raise InvalidData(f"$.{content_field}", f"remove this field or {path_field}")
        if path:
            paths[part] = context.server.states.validate_path(
                path, notebook_id, field=f"$.{path_field}"
            )
        elif text is not None:
            try:
                contents[part] = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise InvalidData(f"$.{content_field}", f"not base64: {error}") from None
    return paths, contents


def _measure(context: RequestContext, notebook_id: str, part: Part, path: str) -> StoredState:
    """Return digest and size of an existing state."""
    digest, size = hashlib.sha256(), 0
    field = f"$.{part}_state_path"
    with context.server.states.open(path, notebook_id, field=field) as file:
        while chunk := file.read(_CHUNK_SIZE):
            digest.update(chunk)
            size += len(chunk)
    return StoredState(path, digest.hexdigest(), size)
