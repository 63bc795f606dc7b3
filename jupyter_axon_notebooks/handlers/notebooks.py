"""Notebook records: listing, creating, reading, changing, deleting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from jupyter_server.auth.decorator import authorized
from msgspec.structs import replace
from tornado import web

from ..errors import Forbidden, InvalidData
from ..mapping import notebook_name
from ..records import NewNotebook, NotebookStatus, NotebookSummary, TrainingNotebook, UpdateNotebook
from .call import Call
from .handler import AxonHandler
from .paths import check_path
from .responses import NO_CONTENT, Answer
from .writethrough import create_with_file, write_through

#: What the server decides, whatever a body says.
_OURS = ("id", "origin", "path", "user_id")


class NotebooksHandler(AxonHandler):
    """All records that one may see."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """List them, newest ``updated_at`` first."""
        await self.respond(_list)

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Create one; with ``path``, its file too."""
        call = self.call
        new, path = await self.run(partial(_decode_new, call), writes=False)
        if path is None:
            created = await self.run(partial(_create, call, new))
        else:
            created = await create_with_file(self, path, new)
        await self.answer(created_answer(call, created))


class NotebookHandler(AxonHandler):
    """One record."""

    @web.authenticated
    @authorized
    async def get(self, notebook_id: str) -> None:
        """Give it, whole or without the outputs of its cells."""
        has_outputs = self.call.query.flag("outputs", default=True)
        await self.respond(partial(_get, notebook_id, has_outputs), large=has_outputs)

    @web.authenticated
    @authorized
    async def put(self, notebook_id: str) -> None:
        """Change the given fields; cells of a bound record in its file as well."""
        call = self.call
        updates = await self.run(lambda: UpdateNotebook.from_json(call.body()), writes=False)
        change = partial(_update, call, notebook_id, updates)
        if updates.cells is None:
            updated = await self.run(
                partial(_update_labels, call, notebook_id, change), settle=True
            )
        else:
            given = updates.cells
            updated = await write_through(
                self, notebook_id, change, lambda _: given, replace(updates, cells=None)
            )
        await self.answer(notebook_answer(call, updated))

    @web.authenticated
    @authorized
    async def delete(self, notebook_id: str) -> None:
        """Delete it with its checkpoints; its file stays."""
        await self.respond(partial(_delete, notebook_id))


def notebook_answer(call: Call, notebook: TrainingNotebook, status: int = HTTPStatus.OK) -> Answer:
    """A whole record; its tag is its version, which If-Match takes."""
    return Answer(call.shown(notebook), status, {"ETag": f'"{notebook.version_id}"'})


def created_answer(call: Call, notebook: TrainingNotebook) -> Answer:
    """A record that was created."""
    return notebook_answer(call, notebook, HTTPStatus.CREATED)


def _list(call: Call) -> Answer:
    query, actor = call.query, call.actor
    page = query.page()
    path = query.text("path")
    narrowed: dict[str, Any] = {
        "origin": None
        if path is None
        else call.services.sync.origin,  # others have files of the same paths
        "status": query.choice("status", NotebookStatus),
        "tag": query.text("tag"),
        "path": None if path is None else call.paths.stored(check_path(path, "path")),
        "text": query.text("q"),
    }

    def listed() -> list[NotebookSummary]:
        if actor.is_admin:
            return call.repository.list_all(page.limit, page.offset, **narrowed)
        return call.repository.list_by_user(actor.user_id, page.limit, page.offset, **narrowed)

    found = listed()
    if call.freshen(found):
        found = listed()
    total = call.repository.count(None if actor.is_admin else actor.user_id, **narrowed)
    return Answer([call.shown(summary) for summary in found], headers={"X-Total-Count": str(total)})


def _decode_new(call: Call) -> tuple[NewNotebook, str | None]:
    """What to create, and the path of the file to create with it."""
    body = call.body()
    path = None if body.get("path") is None else check_path(body["path"])
    owner = body.get("user_id") or call.actor.user_id
    if not isinstance(owner, str):
        raise InvalidData("$.user_id", "expected str")
    if owner != call.actor.user_id:
        if not call.actor.is_admin:
            raise Forbidden("only an administrator may create a record for another user")
        if path is not None:
            raise InvalidData("$.user_id", "a file that is made here belongs to whom makes it")
    given = {name: value for name, value in body.items() if name not in _OURS and value is not None}
    if path is not None:
        given.setdefault("name", notebook_name(path))
    return NewNotebook.from_json({**given, "user_id": owner}), path


def _create(call: Call, new: NewNotebook) -> TrainingNotebook:
    return call.repository.create(new)


def _get(notebook_id: str, has_outputs: bool, call: Call) -> Answer:
    answer = notebook_answer(call, call.notebook(notebook_id, outputs=has_outputs))
    if not has_outputs:
        for cell in answer.body["cells"]:
            del cell["outputs"]  # that it had none is not what is said
    return answer


def _update(call: Call, notebook_id: str, updates: UpdateNotebook) -> TrainingNotebook:
    call.check(notebook_id)
    return call.repository.update(notebook_id, updates, expected_version=call.expected_version())


def _update_labels(
    call: Call, notebook_id: str, change: Callable[[], TrainingNotebook]
) -> TrainingNotebook:
    call.summary(
        notebook_id
    )  # brings the record up to date with its file, whose version If-Match may name
    return change()


def _delete(notebook_id: str, call: Call) -> Answer:
    call.summary(notebook_id)
    call.repository.delete(notebook_id)
    return NO_CONTENT
