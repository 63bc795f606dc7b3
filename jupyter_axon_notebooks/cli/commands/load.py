"""``jupyter axon load``: what `jupyter axon dump` wrote, back into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...errors import NotFound
from ...repository.load import load_dump
from ...repository.loaded import Loaded
from ...repository.sorting import sort_dump
from ...store.dumpfile import DumpFile
from ..group import FAILED
from ..output import Column, counter, note, progress, table, write, write_json
from ..session import Session, with_session


@click.command()
@with_session
@click.argument("file")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace records that differ from those in FILE, but none with checkpoints or state files that FILE lacks.",
)
@click.option("--json", "as_json", is_flag=True, help="What became of it, as a JSON object.")
def command(session: Session, file: str, overwrite: bool, as_json: bool) -> None:
    """Load the records in FILE, with all that belongs to them, as they were dumped.

    FILE is a dump by `jupyter axon dump`, or TinyDB JSON with the tables axonml_notebooks and axonml_checkpoints by
    anybody else. It is read through first, and refused if it is not whole.

    What the store has already is passed over. What it has and differs is reported and left alone; a record that was
    saved since the dump still gets those checkpoints that it lacks. So an interrupted load is taken up by running it
    again. State files (weights) are not in a dump: copy the folder states_root besides.
    """
    path = Path(file)
    if not path.exists():
        raise _NoFile(file)
    with DumpFile(path) as dump:
        with progress("Checking") as bar:
            count = counter(bar)
            given = sort_dump(dump, lambda done: count(done, None))
        try:
            with session.store() as store, progress("Loading") as bar:
                loaded = load_dump(store, given, overwrite=overwrite, progress=counter(bar))
        except KeyboardInterrupt:
            note("What was loaded stays. Load the file again to go on.")
            raise
        _write_summary(file, dump, loaded, as_json)
    _write_notes(file, dump, loaded)
    if not loaded.is_whole:
        raise click.exceptions.Exit(FAILED)


class _NoFile(NotFound):
    def __init__(self, file: str) -> None:
        super().__init__("file", file)
        self.args = (f"there is no file {file}",)


def _write_summary(file: str, dump: DumpFile, loaded: Loaded, as_json: bool) -> None:
    if as_json:
        summary: dict[str, Any] = {
            "file": file,
            "verified": dump.about is not None,
            "tables": {
                name: {
                    "in_file": dump.totals[name].count,
                    "added": one.added,
                    "unchanged": one.unchanged,
                    "replaced": one.replaced,
                    **one.found.to_json(),
                }
                for name, one in loaded.tables.items()
            },
            "conflicts": [fault._asdict() for fault in loaded.conflicts],
            "damaged": [fault._asdict() for fault in loaded.damaged],
            "foreign": [fault._asdict() for fault in loaded.foreign],
            "differing": loaded.differing,
            "unknown_tables": dump.unknown,
        }
        write_json(summary)
        return
    numbers = ("in file", "added", "unchanged", "replaced")
    columns: list[Column] = ["table", *((number, {"justify": "right"}) for number in numbers)]
    rows = [
        [name, dump.totals[name].count, one.added, one.unchanged, one.replaced]
        for name, one in loaded.tables.items()
    ]
    write(table(columns, rows))


def _write_notes(file: str, dump: DumpFile, loaded: Loaded) -> None:
    for name in dump.unknown:
        note(f"Left out: the table {name}, which no store has.")
    for fault in (*loaded.damaged, *loaded.conflicts, *loaded.foreign):
        note(f"{fault.table} {fault.id}: {fault.reason}")
    if loaded.damaged:
        note(f"Damaged, and not loaded: {len(loaded.damaged)}.")
    if loaded.conflicts:
        note(
            f"Left as they are in the store: {len(loaded.conflicts)}. --overwrite replaces records that differ."
        )
    if loaded.foreign:
        note(
            f"Of other users, and not loaded: {len(loaded.foreign)}. An administrator's role loads them."
        )
    if loaded.differing:
        note(
            f"The store gave back something else than it was given, in {', '.join(loaded.differing)}."
        )
    if dump.about is None:
        note(
            f"{file} does not say what a whole dump has, so whether it is one could not be verified."
        )
