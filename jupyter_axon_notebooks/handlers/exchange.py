"""Notebooks in and out: import, export, and bringing a file's record up to date."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from jupyter_server.auth.decorator import authorized
from jupyter_server.utils import ensure_async
from tornado import web

from ..errors import Conflict, InvalidData, NotFound, Unreadable
from ..mapping import (
    export_notebook,
    map_notebook,
    notebook_file_name,
    notebook_text,
    read_for_import,
)
from ..records import NewNotebook, NotebookHeader, NotebookVersion, TrainingNotebook
from .call import Call
from .handler import AxonHandler
from .notebooks import created_answer, notebook_answer
from .paths import check_path, is_hidden
from .responses import Answer

_FORMAT: Final = "ipynb"
_SCRIPT: Final = "py"
_MEDIA_TYPES: Final = {_FORMAT: "application/x-ipynb+json", _SCRIPT: "text/x-python"}
_UNTITLED: Final = "Untitled"


class ImportHandler(AxonHandler):
    """Records from the text of a notebook file."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Create one, outputs and all; what is wrong in the notebook is repaired, and noted in the record."""
        await self.respond(_import)


class SyncHandler(AxonHandler):
    """Records from notebook files."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Bring the record of a file up to date, or make it."""
        await self.check_contents("read")
        call = self.call
        path = await self.run(lambda: check_path(_required(call.body(), "path")), writes=False)
        manager = self.contents
        if not manager.allow_hidden and await is_hidden(manager, path):
            raise NotFound("file", path)
        if await ensure_async(manager.dir_exists(path)):
            raise NotFound("file", path)
        await self.respond(partial(_sync, path))


class ExportHandler(AxonHandler):
    """Records as notebook files, and what led to their checkpoints as scripts."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """Give the file's text in JSON, or with ``download=1`` the file."""
        call = self.call
        download = await self.run(lambda: call.query.flag("download", default=False))
        if not download:
            await self.respond(partial(_export, notebook_id), large=True)
            return
        exported = (await self.make_large(lambda: _export(notebook_id, call))).body
        self.set_attachment_header(exported["filename"])
        octets = exported["content"].encode(
            "utf-8", "backslashreplace"
        )  # a script may quote half surrogate pairs
        self.finish(octets, set_content_type=_MEDIA_TYPES[exported["format"]])


def _import(call: Call) -> Answer:
    body = call.body()
    format = body.get("format", _FORMAT)
    if format != _FORMAT:
        raise InvalidData("$.format", f"expected {_FORMAT!r}")
    content = _required(body, "content")
    name = body.get("name") or _UNTITLED
    if not isinstance(content, str) or not isinstance(name, str):
        raise InvalidData("$.content" if not isinstance(content, str) else "$.name", "expected str")
    try:
        mapped = map_notebook(read_for_import(content))
    except InvalidData as error:
        raise InvalidData("$.content", f"not a valid notebook: {error}") from None
    new = NewNotebook(
        user_id=call.actor.user_id,
        name=name,
        cells=mapped.cells,
        metadata=mapped.metadata,
        status=mapped.status,
    )
    return created_answer(call, call.repository.create(new))


def _sync(path: str, call: Call) -> Answer:
    bound = call.repository.find_by_path(call.services.sync.origin, call.paths.stored(path))
    if bound is not None:
        call.actor.check(bound)
    try:
        synced = _synced(path, call) or _synced(
            path, call
        )  # again where somebody deleted it at once
    except NotFound as error:
        if error.kind != "file":
            raise
        raise NotFound("file", path) from None
    except Unreadable as error:
        why = error.reason.rpartition(" cannot be read: ")[
            2
        ]  # the path on this machine is nobody's business
        raise InvalidData("$.path", f"{path} cannot be read: {why}") from None
    except InvalidData as error:
        raise InvalidData("$.path", f"the file is not a notebook: {error}") from None
    if synced is None:
        raise Conflict(f"the record of {path} is deleted as soon as it is made; try again")
    call.actor.check(synced)
    return notebook_answer(call, synced)


def _synced(path: str, call: Call) -> TrainingNotebook | None:
    """Bring the record of a file up to date, and return it; None where it was deleted since."""
    summary = call.services.sync.sync_file(call.paths.os_path(path), call.actor.user_id)
    return call.repository.find_by_id(summary.id)


def _export(notebook_id: str, call: Call) -> Answer:
    format = call.query.text("format") or _FORMAT
    if format not in _MEDIA_TYPES:
        raise InvalidData("format", f"expected {_FORMAT} or {_SCRIPT}, got {format[:80]!r}")
    checkpoint_id = call.query.text("checkpoint")
    notebook: NotebookHeader
    exported: TrainingNotebook | NotebookVersion
    if checkpoint_id is None:
        exported = notebook = call.notebook(notebook_id)
        if format == _SCRIPT:
            raise InvalidData("format", f"{_SCRIPT} is what led to a checkpoint: name a checkpoint")
    else:
        notebook = call.summary(notebook_id)
        call.checkpoint(notebook_id, checkpoint_id)
        if format == _SCRIPT:
            return _export_script(notebook.name, checkpoint_id, call)
        exported = call.repository.provenance.get_notebook(checkpoint_id)
    content = notebook_text(export_notebook(exported.cells, exported.metadata))
    return Answer(
        {"content": content, "format": _FORMAT, "filename": notebook_file_name(notebook.name)}
    )


def _export_script(name: str, checkpoint_id: str, call: Call) -> Answer:
    script = call.repository.provenance.get_script(checkpoint_id)
    if script is None:
        raise NotFound("code of checkpoint", checkpoint_id)
    filename = f"{notebook_file_name(name).removesuffix('.ipynb')}.py"
    return Answer({"content": script, "format": _SCRIPT, "filename": filename})


def _required(body: dict[str, Any], name: str) -> Any:
    if name not in body:
        raise InvalidData(f"$.{name}", "required, but missing")
    return body[name]
