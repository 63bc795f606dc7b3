"""Archives: files that hold notebook records with everything that belongs to them.

An archive is a zip file with three kinds of members:

``records.json``
    All tables of the store as TinyDB's JSON. TinyDB numbers documents and the store has text ids, so the number is the
    key, and the text id is in the document, as ``id`` or, where that is missing or differs, as ``axon_id``.
``states/NOTEBOOK/CHECKPOINT/FILE``
    State files, not compressed. Only present if they were asked for.
``manifest.json``
    The format version, the number and digest of the documents of each table, and the size and SHA-256 of each member.

:func:`write_archive` writes one, :class:`ArchiveReader` verifies and reads one, :func:`load_archive` stores its content.
The reader also takes TinyDB JSON that is not in a zip file: upstream's, and the dumps of earlier versions.
"""

from .bundle import write_bundle
from .format import DocumentProblem
from .loader import LoadReport, load_archive
from .reader import ArchiveReader
from .writer import ArchiveSummary, write_archive

__all__ = [
    "ArchiveReader",
    "ArchiveSummary",
    "DocumentProblem",
    "LoadReport",
    "load_archive",
    "write_archive",
    "write_bundle",
]
