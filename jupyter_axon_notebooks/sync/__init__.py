"""From a save to a record.

1. :mod:`.contents`: a save hook notes the saved notebook, in the event loop.
2. :mod:`.queue`: the event waits; a newer save of the file replaces it.
3. :mod:`.worker`: one thread takes the events, and opens the store when necessary.
4. :mod:`.recorder`: creates or updates the record in one transaction, after :mod:`.identity` has
   decided which record the file belongs to.

:mod:`.files` reads notebook files; :mod:`.origin` identifies the Jupyter data directory.
"""

from __future__ import annotations

from .contents import CONTENTS_SCHEMA, ContentsListener, EmbeddedIds, SaveHooks
from .origin import ServerOrigin, read_origin
from .recorder import NotebookRecorder
from .worker import NotebookSync

__all__ = [
    "CONTENTS_SCHEMA",
    "ContentsListener",
    "EmbeddedIds",
    "NotebookRecorder",
    "NotebookSync",
    "SaveHooks",
    "ServerOrigin",
    "read_origin",
]
