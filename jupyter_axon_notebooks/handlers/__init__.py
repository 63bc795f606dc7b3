"""The REST API under ``<base_url>/axon``; ``openapi.yaml`` in this folder describes it.

A handler decodes a request, calls a function in a worker thread, and encodes the result. These
functions get a :class:`.context.RequestContext`.

* :mod:`.base`: the base class of the handlers
* :mod:`.context`, :mod:`.executor`: what requests share, one request, and the worker threads
* :mod:`.requests`, :mod:`.paths`: parsing of requests
* :mod:`.responses`, :mod:`.tags`: encoding, entity tags, and errors as HTTP statuses
* :mod:`.notebooks`, :mod:`.cells`, :mod:`.exchange`, :mod:`.history`, :mod:`.checkpoints`,
  :mod:`.states`, :mod:`.runs`: the routes
* :mod:`.file_edits`: edits of cells that are written to the notebook's file
"""

from __future__ import annotations

from tornado.web import RequestHandler

from .base import NotFoundHandler, endpoint
from .cells import CellHandler, CellsHandler
from .checkpoints import (
    CheckpointQuery,
    create_checkpoint,
    delete_checkpoint,
    diff_checkpoints,
    get_best,
    get_checkpoint,
    get_provenance,
    list_checkpoints,
    update_checkpoint,
)
from .context import SETTING, ServerContext, StoreServices
from .exchange import SyncHandler, export, import_notebook
from .history import (
    MetricQuery,
    RunQuery,
    diff_versions,
    get_version,
    list_runs,
    list_series,
    list_versions,
)
from .notebooks import IndexHandler, NotebookHandler, NotebooksHandler, get_specification
from .responses import polled, polled_runs
from .runs import (
    ManySeriesQuery,
    ReproducibilityQuery,
    RunTableQuery,
    compare_runs,
    delete_run,
    get_many_series,
    get_reproducibility,
    get_run,
    get_run_series,
    get_run_table,
    has_many_points,
    is_whole_table,
    list_run_columns,
    search_runs,
    update_run,
)
from .states import StateHandler

__all__ = ["SETTING", "ServerContext", "StoreServices", "routes"]

_NOTEBOOK = r"/axon/notebooks/([^/]+)"
_RUN = r"/axon/runs/([^/]+)"
_CHECKPOINT = rf"{_NOTEBOOK}/checkpoints/([^/]+)"

#: Patterns of paths below the base URL with their handlers; the first match counts.
_ROUTES: list[tuple[str, type[RequestHandler]]] = [
    (r"/axon/?", IndexHandler),
    (r"/axon/openapi\.yaml", endpoint(get=get_specification)),
    (r"/axon/notebooks", NotebooksHandler),
    (r"/axon/notebooks/import", endpoint(post=import_notebook)),
    (r"/axon/notebooks/sync", SyncHandler),
    (_NOTEBOOK, NotebookHandler),
    (rf"{_NOTEBOOK}/export", endpoint(large=True, get=export)),
    (rf"{_NOTEBOOK}/cells", CellsHandler),
    (rf"{_NOTEBOOK}/cells/([^/]+)", CellHandler),
    (rf"{_NOTEBOOK}/versions", endpoint(get=list_versions)),
    (rf"{_NOTEBOOK}/versions/([^/]+)", endpoint(large=True, get=get_version)),
    (rf"{_NOTEBOOK}/diff", endpoint(get=diff_versions)),
    (rf"{_NOTEBOOK}/runs", endpoint(get=polled(RunQuery, list_runs))),
    (rf"{_NOTEBOOK}/metrics", endpoint(get=polled(MetricQuery, list_series))),
    (
        rf"{_NOTEBOOK}/checkpoints",
        endpoint(get=polled(CheckpointQuery, list_checkpoints), post=create_checkpoint),
    ),
    (rf"{_NOTEBOOK}/checkpoints/best", endpoint(get=get_best)),
    (rf"{_NOTEBOOK}/checkpoints/diff", endpoint(get=diff_checkpoints)),
    (
        _CHECKPOINT,
        endpoint(get=get_checkpoint, put=update_checkpoint, delete=delete_checkpoint),
    ),
    (rf"{_CHECKPOINT}/provenance", endpoint(get=get_provenance)),
    (rf"{_CHECKPOINT}/states/(model|optimizer)", StateHandler),
    (r"/axon/runs", endpoint(get=search_runs)),
    (r"/axon/runs/columns", endpoint(get=list_run_columns)),
    (
        r"/axon/runs/table",
        endpoint(large=is_whole_table, get=polled_runs(RunTableQuery, get_run_table)),
    ),
    (
        r"/axon/runs/series",
        endpoint(large=has_many_points, get=polled_runs(ManySeriesQuery, get_many_series)),
    ),
    (r"/axon/runs/compare", endpoint(get=compare_runs)),
    (
        r"/axon/runs/reproducibility",
        endpoint(get=polled_runs(ReproducibilityQuery, get_reproducibility)),
    ),
    (_RUN, endpoint(get=get_run, put=update_run, delete=delete_run)),
    (rf"{_RUN}/series", endpoint(get=get_run_series)),
    (r"/axon(?:/.*)?", NotFoundHandler),
]


def routes() -> list[tuple[str, type[RequestHandler]]]:
    """Return the routes of the API."""
    return _ROUTES
