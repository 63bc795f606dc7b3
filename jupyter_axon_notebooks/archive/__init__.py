"""Archives: files that hold notebook records with everything that belongs to them.

An archive is a zip file with these members:

``records.json``
    The tables of the store as TinyDB's JSON. TinyDB numbers documents and the store has text ids,
    so the number is the key; the id is in the document, as ``id`` or, where that is missing or
    differs, as ``axon_id``.
``states/NOTEBOOK/CHECKPOINT/FILE``
    State files, not compressed. Only present if they were asked for.
``series/HASH.bin``
    The logged series of a run: see :mod:`.archive.series`.
``manifest.json``
    The format version, the number and digest of the documents of each table, and the size and
    digest of each member.

Earlier versions wrote the JSON alone, with the manifest as its last table. It is still read, and so
is JSON without a manifest, such as upstream's.
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
