"""``jupyter axon dump``: records as a file that plain TinyDB opens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from ...repository.dump import Dumped, dump_store
from ...store.dumpformat import TABLES
from ..files import new_file
from ..group import FAILED
from ..output import counter, note, progress, table, write, write_json
from ..session import Session, repository_of, with_session
from ..which import find_id


@click.command()
@with_session
@click.argument("file")
@click.option(
    "--notebook",
    "only",
    metavar="WHICH",
    multiple=True,
    help="Only this record: its id, the beginning of it, or its file's path. Can be given several times.",
)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@click.option("--json", "as_json", is_flag=True, help="What the dump has, as a JSON object.")
def command(session: Session, file: str, only: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Write records, with their versions, checkpoints and runs, into FILE; - is standard output.

    FILE is JSON that TinyDB opens, and `jupyter axon load` takes into any store. It is written while servers go on
    working, and shows the store as it was at one moment; unless it becomes whole, whatever FILE was before stays.

    State files (weights) are not in it: only their digests, and their paths in the folder states_root. Copy that folder besides.
    """
    if file == "-" and as_json:
        raise click.UsageError("--json and a dump on standard output exclude each other")
    with session.existing_store() as store:
        repository = repository_of(store)
        ids = [find_id(repository, which) for which in only] or None
        try:
            with _opened(file, force) as output, progress("Dumping") as bar:
                dumped = dump_store(store, output, ids, counter(bar))
        except KeyboardInterrupt:
            note("The dump is not whole." if file == "-" else f"{file} was not written.")
            raise
    _write_summary(file, dumped, as_json)
    for fault in dumped.damaged:
        note(f"{fault.table} {fault.id}: {fault.reason}")
    if dumped.damaged:
        raise click.exceptions.Exit(FAILED)


@contextmanager
def _opened(file: str, force: bool) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with new_file(Path(file), force=force, mode=0o600) as made:
        yield made


def _write_summary(file: str, dumped: Dumped, as_json: bool) -> None:
    totals = {name: dumped.about.tables[name] for name in TABLES}
    if as_json:
        summary: dict[str, Any] = {
            "file": file,
            **dumped.about.to_json(),
            "tables": {name: total.to_json() for name, total in totals.items()},
            "damaged": [fault._asdict() for fault in dumped.damaged],
            "orphans": dumped.orphans,
            "state_files": dumped.state_files,
        }
        write_json(summary)
    elif file != "-":
        rows = [[name, total.count] for name, total in totals.items()]
        write(table(["table", ("documents", {"justify": "right"})], rows))
    if dumped.state_files:
        note(
            f"State files that its checkpoints name, and which are not in it: {dumped.state_files}."
        )
    if dumped.orphans:
        note(f"Documents that belong to no record, and were left out: {dumped.orphans}.")
