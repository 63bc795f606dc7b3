"""Provenance taken apart into what is stored of it, and put together again. Pure.

Three kinds of documents, each under the hash of what it says: a *source*, an *environment*, and an *execution*, which lists
what was executed and names the environment. So the next checkpoint of a cell stores nothing, and the first one of another
cell its source and a list. Documents of other kinds are none of ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ..errors import InvalidData
from ..provenance import Environment, ExecutedCell, Provenance
from ..records import U32, CellStatus, Moment, Record
from ..store import Document, document
from ..store.codec import encode
from .damage import damage_named
from .parts import content_id

#: Hexadecimal digits of a hash: 160 bits.
_DIGEST_LENGTH = 40
#: Execution count, hash of the source, cell id, status, time.
_Entry = tuple[U32 | None, str, str | None, CellStatus | None, Moment | None]


class _Source(Record, kw_only=True):
    source: str


class _Environment(Record, kw_only=True):
    environment: Environment


class _Execution(Record, kw_only=True):
    notebook_id: str
    cells: list[_Entry]
    environment: str

    def listed(self) -> set[str]:
        """The ids of the documents that it refers to."""
        digests = {self.environment, *(entry[1] for entry in self.cells)}
        return {content_id(self.notebook_id, digest) for digest in digests}


_Kind = Literal["source", "environment", "execution"]
_KINDS: dict[Any, type[Record]] = {
    "source": _Source,
    "environment": _Environment,
    "execution": _Execution,
}


class TakenApart(NamedTuple):
    """The id of a provenance, and the documents that it consists of, itself included."""

    id: str
    documents: list[Document]


def take_provenance_apart(
    notebook_id: str, executed: Sequence[ExecutedCell], environment: Environment
) -> TakenApart:
    """What is to be stored of a provenance."""
    documents: dict[str, Document] = {}

    def put(kind: _Kind, **said: Any) -> str:
        fields = {"kind": kind, **said}
        digest = hashlib.sha256(encode(fields).encode()).hexdigest()[:_DIGEST_LENGTH]
        id = content_id(notebook_id, digest)
        documents[id] = document(id, {**fields, "notebook_id": notebook_id})
        return digest

    surroundings = put("environment", environment=environment.to_json())
    cells = []
    for cell in executed:
        said = cell.to_json()
        source = put("source", source=said["source"])
        rest = (said.get(name) for name in ("cell_id", "status", "executed_at"))
        cells.append([said.get("execution_count"), source, *rest])
    id = content_id(notebook_id, put("execution", cells=cells, environment=surroundings))
    return TakenApart(id, list(documents.values()))


def listed_provenance(fields: Mapping[str, Any]) -> set[str]:
    """The ids of the documents that one of them refers to.

    Raises
    ------
    InvalidData
        When it is of one of the three kinds and does not have its form.
    """
    kind = fields.get("kind")
    form = _KINDS.get(kind) if isinstance(kind, str) else None
    record = form.from_json(fields) if form is not None else None
    return record.listed() if isinstance(record, _Execution) else set()


def is_execution(fields: Mapping[str, Any]) -> bool:
    """Whether a document is one that a checkpoint may refer to."""
    return fields.get("kind") == "execution"


def put_provenance_together(
    id: str, execution: Mapping[str, Any], documents: Mapping[str, Mapping[str, Any]]
) -> Provenance:
    """The provenance of an id, given its document and those that it refers to, by their ids; raises RecordDamaged."""
    with damage_named(f"provenance {id}"):
        whole = _Execution.from_json(execution)
        notebook_id = whole.notebook_id
        if missing := whole.listed() - documents.keys():
            raise InvalidData("$", f"documents are missing from the store: {sorted(missing)}")

        def said(digest: str) -> Mapping[str, Any]:
            return documents[content_id(notebook_id, digest)]

        return Provenance(
            id=id,
            notebook_id=notebook_id,
            executed=[
                ExecutedCell(
                    source=_Source.from_json(said(source)).source,
                    execution_count=count,
                    cell_id=cell_id,
                    status=status,
                    executed_at=executed_at,
                )
                for count, source, cell_id, status, executed_at in whole.cells
            ],
            environment=_Environment.from_json(said(whole.environment)).environment,
        )
