"""Migrations of stores that earlier versions of this package created.

Each step in :data:`STEPS` migrates a store from one schema version to the next. Steps run when the
store is opened, in the transaction that records the new version. So a step that fails leaves the
store unchanged, and of two processes that open the store at once only one migrates. Missing tables
are created after the last step, with the policies of a database that separates its users; steps
must change the columns and indexes of existing tables.
Processes that opened the store before the migration get StoreTooNew when they write.

To add a step, raise :data:`.schema.SCHEMA_VERSION`, and add the step under the previous number and
a small store of that version to ``tests/data/stores`` for each engine. Steps contain SQL for both
engines. They do not use :mod:`.schema`, whose content will change.

Alembic is not used: its revisions and configuration would be larger than the loop below.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from tinydb.table import Document

from ..errors import RecordDamaged
from ..metrics import finite_metrics
from ..records import decode_step, state_size
from .codec import column_text, decode, encode_ending, plain_text
from .schema import INT64, Schema
from .series_table import columns

Step = Callable[[sa.Connection], None]

#: The number of documents that are read at once.
_PAGE = 500


def _key_runs_by_notebook(connection: sa.Connection) -> None:
    """Change the ids of run rows to ``<notebook id>/<SHA-256 of the run id>``.

    Documents keep the run's own id. Damaged rows are left unchanged.
    """
    if connection.dialect.name == "sqlite":  # the driver fails on text that is not UTF-8
        select = (
            "SELECT seq, CAST(id AS BLOB), CAST(notebook_id AS BLOB) FROM axonml_runs "
            "WHERE typeof(id) = 'text' AND typeof(notebook_id) = 'text'"
        )
    else:
        select = (
            "SELECT seq, convert_to(id, 'UTF8'), convert_to(notebook_id, 'UTF8') FROM axonml_runs "
            "WHERE id IS NOT NULL AND notebook_id IS NOT NULL"
        )
    rows = []
    for seq, *stored in connection.execute(sa.text(select)):
        with suppress(UnicodeDecodeError):
            id, notebook_id = (value.decode() for value in stored)
            rows.append({"seq": seq, "key": _run_key(notebook_id, plain_text(id))})
    if rows:
        connection.execute(sa.text("UPDATE axonml_runs SET id = :key WHERE seq = :seq"), rows)


def _run_key(notebook_id: str, id: str) -> str:
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{notebook_id}/{digest}"


def _number_runs(connection: sa.Connection) -> None:
    """Add columns for fields that can be searched and for sizes, and number the runs."""
    columns = {
        "axonml_notebooks": {"name": "TEXT"},
        "axonml_checkpoints": {"state_size": "BIGINT"},
        "axonml_runs": {
            **dict.fromkeys(("ended_at", "lease_until", "name"), "TEXT"),
            **dict.fromkeys(("number", "step_count"), "BIGINT"),
        },
    }
    collation = ' COLLATE "C"' if connection.dialect.name == "postgresql" else ""
    for table, added in columns.items():
        for name, kind in added.items():
            suffix = collation if kind == "TEXT" else ""
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {name} {kind}{suffix}")
    order = " ASC NULLS FIRST" if collation else ""
    for table, indexed in (
        ("axonml_runs", ["started_at", "id"]),
        ("axonml_checkpoints", ["notebook_id", "run_id", "state_size"]),
    ):
        connection.exec_driver_sql(
            f"CREATE INDEX ix_{table}_{'_'.join(indexed)} ON {table} "
            f"({', '.join(name + order for name in indexed)})"
        )
    update = "UPDATE axonml_notebooks SET name = :name WHERE seq = :row"
    for page in _pages(connection, "axonml_notebooks"):
        names = [
            {"row": seq, "name": column_text(document["name"])}
            for seq, document in page
            if isinstance(document.get("name"), str)
        ]
        _execute(connection, update, names)
    update = "UPDATE axonml_checkpoints SET state_size = :size WHERE seq = :row"
    for page in _pages(connection, "axonml_checkpoints"):
        found = ((seq, state_size(document)) for seq, document in page)
        sizes = [{"row": seq, "size": size if size in INT64 else None} for seq, size in found]
        _execute(connection, update, sizes)
    numbers = _number_rows(connection)
    update = (
        "UPDATE axonml_runs SET document = :document, number = :number, ended_at = :ended_at, "
        "lease_until = :lease_until WHERE seq = :row"
    )
    for page in _pages(connection, "axonml_runs"):
        runs = []
        for seq, document in page:
            if seq in numbers and isinstance(document.get("notebook_id"), str):
                document["number"] = numbers[seq]
                row: dict[str, Any] = {"row": seq, "number": numbers[seq]}
                row["document"] = encode_ending(document, ("notebook_id",))
                for name in ("ended_at", "lease_until"):
                    text = document.get(name)
                    row[name] = column_text(text) if isinstance(text, str) else None
                runs.append(row)
        _execute(connection, update, runs)


def _number_rows(connection: sa.Connection) -> dict[int, int]:
    """Return the numbers of runs within their notebooks, by ``seq``."""
    is_sqlite = connection.dialect.name == "sqlite"  # its driver fails on text that is not UTF-8
    notebook = "CAST(notebook_id AS BLOB)" if is_sqlite else "convert_to(notebook_id, 'UTF8')"
    select = (
        f"SELECT seq, {notebook} FROM axonml_runs "  # noqa: S608 - constants
        "WHERE notebook_id IS NOT NULL ORDER BY started_at, id"
    )
    found, counts = dict[int, int](), Counter[bytes]()
    for seq, stored in connection.execute(sa.text(select)):
        counts[bytes(stored)] += 1
        found[seq] = counts[bytes(stored)]
    return found


def _pages(connection: sa.Connection, table: str) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Yield the documents of a table with ``seq``, some at a time; damaged ones are left out."""
    is_sqlite = connection.dialect.name == "sqlite"  # its driver fails on text that is not UTF-8
    content = "CAST(document AS BLOB)" if is_sqlite else "convert_to(document, 'UTF8')"
    select = sa.text(
        f"SELECT seq, {content} FROM {table} "  # noqa: S608 - constants
        "WHERE seq > :last ORDER BY seq LIMIT :limit"
    )
    last = -(2**63)
    while rows := connection.execute(select, {"last": last, "limit": _PAGE}).all():
        page = []
        for seq, stored in rows:
            with suppress(RecordDamaged, UnicodeDecodeError, AttributeError, RecursionError):
                document = decode(stored.decode())
                if isinstance(document, dict):
                    page.append((seq, document))
        yield page
        last = rows[-1][0]


def _execute(connection: sa.Connection, statement: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.text(statement), rows)


def index_runs(connection: sa.Connection, schema: Schema) -> None:
    """Fill the tables that runs are searched by, which schema version 3 added."""
    index = schema.run_index
    runs: dict[tuple[Any, Any], int] = {}
    for page in _pages(connection, "axonml_runs"):
        values = set()
        for seq, document in page:
            notebook_id, id = document.get("notebook_id"), document.get("id")
            if isinstance(notebook_id, str) and isinstance(id, str):
                runs[notebook_id, id] = seq
                key = _run_key(notebook_id, id)
                with suppress(RecursionError):
                    values |= index.make_rows([Document(document, key)])  # type: ignore[arg-type]
        if values:
            connection.execute(index.insert_row, [row._asdict() for row in values])
    for page in _pages(connection, "axonml_checkpoints"):
        points: dict[tuple[Any, Any], list[tuple[Any, int, Mapping[str, float]]]] = {}
        for _, document in page:
            step = document.get("step")
            with suppress(RecursionError, TypeError):  # TypeError: ids of other types
                run = document.get("notebook_id"), document.get("run_id")
                if run not in runs or not isinstance(step, int):
                    continue
                step = decode_step(step, document.get("large_step"))
                if isinstance(step, int) and step in INT64:
                    metrics = finite_metrics(document.get("metrics"))
                    epoch = document.get("epoch")
                    epoch = epoch if isinstance(epoch, int) else 0
                    points.setdefault(run, []).append((epoch, step, metrics))
        for run, found in points.items():
            found.sort(key=itemgetter(0, 1))
            rows = columns((step, 0.0, metrics) for _, step, metrics in found)
            index.add_metrics(connection, runs[run], run[0], rows, in_order=True)


#: The steps, by the schema version that they start from.
STEPS: Mapping[int, Step] = {1: _key_runs_by_notebook, 2: _number_runs}


def migrate(connection: sa.Connection, version: int, target: int) -> None:
    """Migrate the store from schema ``version`` to ``target`` in the caller's transaction."""
    for number in range(version, target):
        STEPS[number](connection)
