"""What a file has of a notebook, read when it is needed; what is wrong with a document is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import InvalidData
from ..store.dumpfile import DumpFile
from ..store.dumpformat import undumped
from ..store.schema import CONTENTS, VERSIONS
from .dump import Fault, dumped_id
from .incoming import IncomingNotebook, incoming, incoming_notebook
from .loaded import Loaded
from .sorting import Group


class Reading:
    """How documents get out of a file that was read through before."""

    def __init__(self, file: DumpFile) -> None:
        self._file = file

    def notebook(self, group: Group) -> IncomingNotebook:
        """The notebook of a group that has one; raises InvalidData."""
        assert group.notebook is not None
        versions: dict[str, dict[str, Any]] = {}
        contents: set[str] = set()
        verbatim = self._file.about is not None
        if not verbatim:  # what its cells make depends on what there is
            for id, one in self.valid(group, VERSIONS.name):
                versions.setdefault(id, one)
            contents = {id for id, _ in self.valid(group, CONTENTS.name)}
        [[given]] = self._file.batches([group.notebook])
        return incoming_notebook(given, verbatim=verbatim, versions=versions, contents=contents)

    def documents(self, group: Group, table: str) -> Iterator[Any]:
        """All that the file has in a table, as it is there."""
        return (one for batch in self._file.batches(group.places.get(table, ())) for one in batch)

    def valid(self, group: Group, table: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Ids and stored forms of what is right in a table; of two documents of one id the first counts."""
        return self._valid(table, self.documents(group, table), [])

    def batches(
        self, loaded: Loaded, table: str, places: Iterable[int]
    ) -> Iterator[dict[str, dict[str, Any]]]:
        """The documents at some places by id, not too many at a time; what is wrong with others is noted."""
        for batch in self._file.batches(places):
            found: dict[str, dict[str, Any]] = {}
            for id, one in self._valid(table, batch, loaded.damaged):
                if found.setdefault(id, one) is not one:
                    loaded.damaged.append(
                        Fault(
                            table,
                            dumped_id(table, id, one),
                            "the file has two documents of this id",
                        )
                    )
            yield found

    def _valid(
        self, table: str, given: Iterable[Any], damaged: list[Fault]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for one in given:
            try:
                yield incoming(table, one, verbatim=self._file.about is not None)
            except InvalidData as error:
                damaged.append(Fault(table, undumped(one)[0], str(error)))
