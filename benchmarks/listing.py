"""Time listing 100 of many notebooks beside the plain SQL query, and opening their store."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from databases import Databases, databases
from reporting import Goal, Row, parser, report
from stores import USER, new_store_of_notebooks, open_at
from timing import describe_machine, temporary_folder, time_side_by_side

from jupyter_axon_notebooks.records import NotebookStatus, NotebookSummary
from jupyter_axon_notebooks.repository import NotebookRepository

_LIMIT = 100
_GOAL = Goal(seconds=0.005)


def main() -> None:
    chosen = parser(str(__doc__), sizes=(10_000,), rounds=200, records="notebooks").parse_args()
    rows = []
    with (
        temporary_folder(chosen.folder) as folder,
        databases(chosen.engines, folder, chosen.url) as measured,
    ):
        where = describe_machine(folder, [one.version for one in measured])
        for one in measured:
            for size in chosen.sizes:
                url = new_store_of_notebooks(one, size)
                rows += list_pages(one, url, size, chosen.rounds)
                rows.append(open_it(one, url, size, chosen.rounds))
    report(where, rows, json_to=chosen.json)


class Question(NamedTuple):
    """A page of notebooks, as a call of the repository and as SQL."""

    what: str
    ours: Callable[[], list[NotebookSummary]]
    field: str = ""
    value: str = ""
    skip: int = 0


def list_pages(databases: Databases, url: str, size: int, rounds: int) -> list[Row]:
    """Time the first page, a user's page, a page by status, and a page in the middle."""
    rows = []
    middle = size // 2
    with open_at(url) as store, closing(databases.connect(url)) as raw:
        repository = NotebookRepository(store)
        failed = NotebookStatus.FAILED
        for question in (
            Question("list 100", lambda: repository.list_all(_LIMIT)),
            Question(
                "list 100 of a user", lambda: repository.list_by_user(USER, _LIMIT), "user_id", USER
            ),
            Question(
                "list 100 that failed",
                lambda: repository.list_all(_LIMIT, status=failed),
                "status",
                failed.value,
            ),
            Question(
                "list 100 from the middle", lambda: repository.list_all(_LIMIT, middle), skip=middle
            ),
        ):

            def ours(_round: int, question: Question = question) -> list[str]:
                return [notebook.id for notebook in question.ours()]

            def plain(_round: int, question: Question = question) -> list[str]:
                where = f"WHERE {question.field} = {databases.mark}" if question.field else ""
                query = (
                    f'SELECT document FROM "axonml_notebooks" {where} '
                    "ORDER BY updated_at DESC NULLS LAST, "
                    f"id DESC NULLS LAST LIMIT {_LIMIT} OFFSET {question.skip}"
                )
                found = raw.execute(query, (question.value,) if question.field else ())
                return [json.loads(text)["id"] for (text,) in found]

            if ours(0) != plain(0):
                sys.exit(f"{question.what}: the two do not agree")
            timed = time_side_by_side({"ours": ours, "plain": plain}, rounds)
            rows.append(
                Row(
                    question.what,
                    size,
                    databases.engine,
                    timed["ours"],
                    "plain SQL",
                    timed["plain"],
                    _GOAL,
                )
            )
    return rows


def open_it(databases: Databases, url: str, size: int, rounds: int) -> Row:
    """Time opening the store and reading one record."""

    def ours(_round: int) -> int:
        with open_at(url) as store:
            return len(NotebookRepository(store).list_all(1))

    def plain(_round: int) -> int:
        with closing(databases.connect(url)) as raw:
            return len(raw.execute('SELECT document FROM "axonml_notebooks" LIMIT 1').fetchall())

    if ours(0) != plain(0):
        sys.exit("opening it: the two do not agree")
    timed = time_side_by_side({"ours": ours, "plain": plain}, max(1, rounds // 4))
    return Row(
        "open the store, read one",
        size,
        databases.engine,
        timed["ours"],
        databases.driver,
        timed["plain"],
    )


if __name__ == "__main__":
    main()
