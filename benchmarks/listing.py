"""How long it takes to list 100 of many notebooks, newest first, beside the plain SQL query of the same documents."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

from stores import new_notebook, new_store
from timing import Row, machine, options, report, side_by_side, workplace

from jupyter_axon_notebooks.records import NotebookStatus, format_time, now
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.store import document

_LIMIT = 100
_USERS = 10


def main() -> None:
    chosen = options(str(__doc__), sizes=(10_000,), rounds=200)
    rows = []
    with workplace(chosen.folder) as folder:
        where = machine(folder)
        for size in chosen.sizes:
            rows += measure(folder / str(size), size, chosen.rounds)
    report(where, "plain SQL", rows, as_json=chosen.json)


def measure(folder: Path, size: int, rounds: int) -> list[Row]:
    """Times of the first page, of a user's, of those in one state, and of a page in the middle."""
    folder.mkdir()
    path = folder / "axon.db"
    with new_store(path) as store:
        repository = NotebookRepository(store)
        template = store.notebooks.get(doc_id=new_notebook(repository))
        store.notebooks.insert_multiple(
            document(f"notebook-{number:07}", _copy(template, number)) for number in range(size - 1)
        )
        raw = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        middle = size // 2
        questions: list[tuple[str, Any, str, tuple[Any, ...]]] = [
            ("list 100", lambda: repository.list_all(_LIMIT), "", ()),
            (
                "list 100 of a user",
                lambda: repository.list_by_user("user-3", _LIMIT),
                "WHERE user_id = ?",
                ("user-3",),
            ),
            (
                "list 100 that failed",
                lambda: repository.list_all(_LIMIT, status=NotebookStatus.FAILED),
                "WHERE status = ?",
                ("failed",),
            ),
            (f"list 100 from the {middle:,}th", lambda: repository.list_all(_LIMIT, middle), "", ()),
        ]
        rows = []
        for what, ours, where, values in questions:
            skip = middle if "from" in what else 0
            query = f'SELECT document FROM "axonml_notebooks" {where} ORDER BY updated_at DESC, id DESC LIMIT ? OFFSET ?'

            def plain(query: str = query, values: tuple[Any, ...] = values, skip: int = skip) -> list[Any]:
                return [json.loads(text) for (text,) in raw.execute(query, (*values, _LIMIT, skip))]

            if [notebook.id for notebook in ours()] != [stored["id"] for stored in plain()]:
                sys.exit(f"{what}: the two do not agree")
            ways = {"ours": lambda _round, ours=ours: ours(), "plain": lambda _round, plain=plain: plain()}
            timed = side_by_side(ways, rounds)
            rows.append(Row(f"{what}, of {size:,}", timed["ours"], timed["plain"], "< 5 ms"))
        raw.close()
    return rows


def _copy(template: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        **template,
        "id": f"notebook-{number:07}",
        "name": f"train-{number}",
        "user_id": f"user-{number % _USERS}",
        "status": list(NotebookStatus)[number % len(NotebookStatus)].value,
        "updated_at": format_time(now()),
    }


if __name__ == "__main__":
    main()
