"""From a save to a record.

Jupyter runs save hooks inside its event loop. The hooks here (:mod:`.hooks`) only note what was saved and return; the
work is done by one thread (:mod:`.worker`), which maps the notebook and writes one transaction. What it is handed waits
in a queue (:mod:`.queue`) that keeps the latest save of each file.
"""

from __future__ import annotations

from .hooks import SaveHooks
from .origin import read_origin
from .worker import NotebookSync

__all__ = ["NotebookSync", "SaveHooks", "read_origin"]
