"""The store: TinyDB documents as rows of a SQL database.

:func:`open_store` opens a :class:`Store`, whose tables (:class:`DocumentTable`) read and write
documents. :meth:`Store.transaction` makes several operations atomic.
"""

from ..defaults import READ_TIMEOUT, default_url
from .document_store import Store, has_tables, open_store, retried
from .error_mapping import ForeignRecord
from .tables import Document, DocumentTable, document

__all__ = [
    "READ_TIMEOUT",
    "Document",
    "DocumentTable",
    "ForeignRecord",
    "Store",
    "default_url",
    "document",
    "has_tables",
    "open_store",
    "retried",
]
