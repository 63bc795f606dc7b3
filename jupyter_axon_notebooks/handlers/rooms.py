"""Whether a collaboration room has a notebook's file open.

A room of jupyter-collaboration holds the document in memory and saves it about a second after a change. A file that
somebody else has written meanwhile it takes for the truth, so that an edit of the file would cost the room's users what
they have just typed. A room is there from its first client until some time after its last one has left: until
``YDocExtension.document_cleanup_delay`` seconds are over, it saves what it holds, and takes back who lost the connection.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any, Final

from ..errors import Conflict
from .handler import AxonHandler

#: The server extension that keeps the rooms, by its names since jupyter-collaboration 3 and before.
_EXTENSIONS: Final = ("jupyter_server_ydoc", "jupyter_collaboration")


def check_no_room(handler: AxonHandler, file: str) -> None:
    """Raise Conflict if a room has the file with this absolute path open; for the event loop's thread only."""
    paths = handler.call.paths
    for path in _open_paths(handler):
        if paths.stored(path) == file:
            raise Conflict(
                f"the notebook {path} is open for collaboration: change its cells there, or close it everywhere and "
                "try again when its room is gone (after YDocExtension.document_cleanup_delay seconds)"
            )


def _open_paths(handler: AxonHandler) -> list[str]:
    """The contents API's paths of what is open in rooms; none where there are no rooms that we understand."""
    try:
        assert handler.serverapp is not None  # who answers is a server
        apps: dict[str, Any] = handler.serverapp.extension_manager.extension_apps
        rooms = [
            name
            for extension in _EXTENSIONS
            for app in apps.get(extension, ())
            for name in app.ywebsocket_server.rooms
        ]
        # A document's room is named <format>:<type>:<file id>; other rooms are about no file.
        ids = {name.split(":", 2)[2] for name in rooms if name.count(":") >= 2}
        return [
            path
            for id in ids
            if (path := handler.settings["file_id_manager"].get_path(id)) is not None
        ]
    except Exception as error:  # noqa: BLE001 - a version of jupyter-collaboration that nobody has seen yet
        _note_once(handler.log, repr(error))
        return []


@lru_cache(maxsize=8)
def _note_once(log: logging.Logger, trouble: str) -> None:
    log.debug(
        "axon: cannot tell what is open for collaboration, and take it that nothing is: %s", trouble
    )
