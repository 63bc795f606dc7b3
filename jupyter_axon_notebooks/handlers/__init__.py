"""REST, under ``<base_url>/axon``; ``openapi.yaml`` beside this file describes it.

A handler decodes, calls and encodes. What it calls is a function of a :class:`.call.Call`, run in a worker thread, which
knows no web server:

* :mod:`.handler`: what all handlers share: identity, bodies, the way to the worker threads and back
* :mod:`.call`, :mod:`.bodies`, :mod:`.queries`, :mod:`.paths`: a request as the worker threads see it
* :mod:`.freshness`, :mod:`.writers`: what a request waits for, and where
* :mod:`.responses`: answers, and the one place where errors become status codes
* :mod:`.index`, :mod:`.notebooks`, :mod:`.exchange`, :mod:`.cells`, :mod:`.versions`, :mod:`.runs`, :mod:`.checkpoints`,
  :mod:`.provenance`, :mod:`.states`: the routes
* :mod:`.writethrough`: edits that must reach a notebook's file
"""

from __future__ import annotations

from tornado.web import RequestHandler

from .cells import CellHandler, CellsHandler
from .checkpoints import BestCheckpointHandler, CheckpointHandler, CheckpointsHandler
from .exchange import ExportHandler, ImportHandler, SyncHandler
from .handler import NowhereHandler
from .index import IndexHandler, SpecificationHandler
from .notebooks import NotebookHandler, NotebooksHandler
from .provenance import CheckpointDiffHandler, ProvenanceHandler
from .runs import MetricsHandler, RunsHandler
from .services import SETTING, Home, Services
from .states import StateHandler
from .versions import DiffHandler, VersionHandler, VersionsHandler
from .writers import RequestThreads, Writers

__all__ = ["SETTING", "Home", "RequestThreads", "Services", "Writers", "routes"]

_NOTEBOOK = r"/axon/notebooks/([^/]+)"
_CHECKPOINT = rf"{_NOTEBOOK}/checkpoints/([^/]+)"


def routes() -> list[tuple[str, type[RequestHandler]]]:
    """Patterns of paths below the base URL, and who answers there; the first that matches does."""
    return [
        (r"/axon/?", IndexHandler),
        (r"/axon/openapi\.yaml", SpecificationHandler),
        (r"/axon/notebooks", NotebooksHandler),
        (r"/axon/notebooks/import", ImportHandler),
        (r"/axon/notebooks/sync", SyncHandler),
        (_NOTEBOOK, NotebookHandler),
        (rf"{_NOTEBOOK}/export", ExportHandler),
        (rf"{_NOTEBOOK}/cells", CellsHandler),
        (rf"{_NOTEBOOK}/cells/([^/]+)", CellHandler),
        (rf"{_NOTEBOOK}/versions", VersionsHandler),
        (rf"{_NOTEBOOK}/versions/([^/]+)", VersionHandler),
        (rf"{_NOTEBOOK}/diff", DiffHandler),
        (rf"{_NOTEBOOK}/runs", RunsHandler),
        (rf"{_NOTEBOOK}/metrics", MetricsHandler),
        (rf"{_NOTEBOOK}/checkpoints", CheckpointsHandler),
        (rf"{_NOTEBOOK}/checkpoints/best", BestCheckpointHandler),
        (rf"{_NOTEBOOK}/checkpoints/diff", CheckpointDiffHandler),
        (_CHECKPOINT, CheckpointHandler),
        (rf"{_CHECKPOINT}/provenance", ProvenanceHandler),
        (rf"{_CHECKPOINT}/states/(model|optimizer)", StateHandler),
        (r"/axon(?:/.*)?", NowhereHandler),
    ]
