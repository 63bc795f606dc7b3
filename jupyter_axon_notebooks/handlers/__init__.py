"""The REST API under ``<base_url>/axon``; ``openapi.yaml`` in this folder describes it.

A handler decodes a request, calls a function in a worker thread, and encodes the result. These
functions get a :class:`.context.RequestContext` and know no web server.

* :mod:`.base`: the base class of the handlers
* :mod:`.context`, :mod:`.executor`: what requests share, and the worker threads
* :mod:`.request_bodies`, :mod:`.queries`, :mod:`.paths`: parsing of requests
* :mod:`.responses`: encoding, entity tags, and errors as HTTP statuses
* :mod:`.notebooks`, :mod:`.cells`, :mod:`.exchange`, :mod:`.history`, :mod:`.checkpoints`,
  :mod:`.states`: the routes
* :mod:`.file_edits`: edits of cells that are written to the notebook's file
"""

from __future__ import annotations

from tornado.web import RequestHandler

from .base import NotFoundHandler
from .cells import CellHandler, CellsHandler
from .checkpoints import (
    BestCheckpointHandler,
    CheckpointDiffHandler,
    CheckpointHandler,
    CheckpointsHandler,
    ProvenanceHandler,
)
from .context import SETTING, ServerContext, StoreServices
from .exchange import ExportHandler, ImportHandler, SyncHandler
from .executor import RequestExecutor
from .history import DiffHandler, MetricsHandler, RunsHandler, VersionHandler, VersionsHandler
from .notebooks import IndexHandler, NotebookHandler, NotebooksHandler, SpecificationHandler
from .states import StateHandler

__all__ = ["SETTING", "RequestExecutor", "ServerContext", "StoreServices", "routes"]

_NOTEBOOK = r"/axon/notebooks/([^/]+)"
_CHECKPOINT = rf"{_NOTEBOOK}/checkpoints/([^/]+)"


def routes() -> list[tuple[str, type[RequestHandler]]]:
    """Return patterns of paths below the base URL with their handlers; the first match counts."""
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
        (r"/axon(?:/.*)?", NotFoundHandler),
    ]
