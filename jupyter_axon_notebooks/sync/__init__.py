"""From a save to a record.

Jupyter runs save hooks inside its event loop. The hooks here (:mod:`.hooks`) only note what was saved and return, and so
does the listener for renames and deletions (:mod:`.events`); what they have to know meanwhile is in memory
(:mod:`.embedded`). What they hand over waits in a queue (:mod:`.queue`) that keeps the order, and of the saves of a file
the latest. The work is done by one thread (:mod:`.worker`), which has the store opened (:mod:`.opened`) and each event
recorded (:mod:`.recording`): whose the notebook is (:mod:`.identity`), what is in it, and one transaction. What files
are asked is in :mod:`.files`.
"""

from __future__ import annotations

from .embedded import EmbeddedIds
from .events import CONTENTS_SCHEMA, ContentsEvents
from .hooks import SaveHooks
from .origin import ServerOrigin, read_origin
from .worker import NotebookSync

__all__ = [
    "CONTENTS_SCHEMA",
    "ContentsEvents",
    "EmbeddedIds",
    "NotebookSync",
    "SaveHooks",
    "ServerOrigin",
    "read_origin",
]
