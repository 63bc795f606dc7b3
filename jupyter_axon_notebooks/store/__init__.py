"""The store: TinyDB documents as rows of a SQL database.

:func:`open_store` opens a :class:`Store`. Documents are read and written through its tables
(:class:`DocumentTable`); :meth:`Store.transaction` makes several operations one unit.
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
