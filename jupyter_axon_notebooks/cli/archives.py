"""The commands that write and load archives."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
from tinydb import Query

from ..archive import (
    ArchiveReader,
    ArchiveSummary,
    LoadReport,
    load_archive,
    write_archive,
    write_bundle,
)
from ..archive.format import TABLES, DocumentProblem
from ..archive.writer import manifest_document
from ..errors import NotFound
from ..store import Store
from .files import new_file
from .group import FAILED
from .lookup import choose, find_checkpoint, find_notebook_id
from .output import Column, counter, note, progress, table, write, write_json, write_line
from .session import Session, with_session


@click.command()
@with_session
@click.argument("file")
@click.option(
    "--notebook",
    "notebooks",
    metavar="WHICH",
    multiple=True,
    help="Only this record: its id, the beginning of its id, or the path of its file. May be "
    "repeated.",
)
@click.option(
    "--run",
    "runs",
    metavar="RUN",
    multiple=True,
    help="Only this run and its checkpoints: its id, its key, or the beginning of its id. May "
    "be repeated.",
)
@click.option("--with-states", is_flag=True, help="Include the state files (weights).")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as a JSON object.")
def dump(
    session: Session,
    file: str,
    notebooks: tuple[str, ...],
    runs: tuple[str, ...],
    with_states: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write records, with their versions, runs and checkpoints, to the archive FILE.

    FILE is a zip file that `jupyter axon load` loads into any store; - is standard output. Its
    member records.json can be opened with TinyDB. It holds the records of one moment, and servers
    can go on writing meanwhile. If the command fails, an existing FILE remains as it was.
    """
    if file == "-" and as_json:
        raise click.UsageError("--json cannot be used when the archive goes to standard output")
    with session.open() as opened:
        store, repository = opened.store, opened.repository
        notebook_ids = [find_notebook_id(repository, which) for which in notebooks] or None
        run_ids = None
        if runs:
            found = [_find_run(store, which, notebook_ids) for which in runs]
            run_ids = [run_id for _, run_id in found]
            notebook_ids = list(dict.fromkeys(notebook_id for notebook_id, _ in found))
        states = opened.states if with_states else None
        try:
            with _open_output(file, force) as output, progress("Writing") as bar:
                summary = write_archive(
                    store,
                    output,
                    notebook_ids=notebook_ids,
                    run_ids=run_ids,
                    states=states,
                    progress=counter(bar),
                )
        except KeyboardInterrupt:
            note("The archive is not complete." if file == "-" else f"{file} was not written.")
            raise
    _print_summary(file, summary, with_states, as_json)
    if summary.problems:
        _print_problems(summary.problems)
        raise click.exceptions.Exit(FAILED)


def _find_run(store: Store, which: str, notebook_ids: Sequence[str] | None) -> tuple[str, str]:
    """Return the ids of the notebook and of the run that ``which`` names."""
    runs = [
        run
        for run in store.runs.iterate(Query().noop())
        if notebook_ids is None or run["notebook_id"] in notebook_ids
    ]
    found = (
        [run for run in runs if run["id"] == which]
        or [run for run in runs if run.get("key") == which]
        or [run for run in runs if which and run["id"].startswith(which)]
    )
    names = [f"{run['id']} of notebook {run['notebook_id']}" for run in found]
    chosen = found[names.index(choose(names, "run", which))]
    return chosen["notebook_id"], chosen["id"]


@contextmanager
def _open_output(file: str, force: bool) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with new_file(Path(file), force=force, mode=0o600) as output:
        yield output


def _print_summary(file: str, summary: ArchiveSummary, with_states: bool, as_json: bool) -> None:
    manifest = summary.manifest
    if as_json:
        write_json(
            {
                "file": file,
                **manifest_document(manifest),
                "damaged": [_problem_json(problem) for problem in summary.problems],
                "orphans": summary.orphans,
                "state_files": summary.state_files,
            }
        )
    elif file != "-":
        rows = [[name, digest.count] for name, digest in manifest.tables.items()]
        write(table(["table", ("documents", {"justify": "right"})], rows))
    if summary.state_files and not with_states:
        note(
            f"State files that are not in the archive: {summary.state_files}. --with-states "
            f"adds them."
        )
    if summary.orphans:
        note(f"Documents that belong to no record and were left out: {summary.orphans}.")


@click.command()
@with_session
@click.argument("file")
@click.option("--owner", metavar="NAME", help="Make this user the owner of the records.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace records that differ from those in FILE, except those with checkpoints or "
    "state files that FILE lacks.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON object.")
def load(session: Session, file: str, owner: str | None, overwrite: bool, as_json: bool) -> None:
    """Load the records of the archive FILE, with their versions, runs, checkpoints and state files.

    FILE is an archive of `jupyter axon dump`, or TinyDB JSON with the tables axonml_notebooks and
    axonml_checkpoints. It is verified first, and refused if it is not complete.

    Records that the store has already are skipped. Records that differ are reported and left alone;
    one that was saved since it was archived still gets the checkpoints that it lacks. After an
    interruption, load the file again.

    A record from another machine is bound to the notebook file below the current folder that
    carries its id, if that file has no record.
    """
    path = Path(file)
    if not path.exists():
        raise NotFound("file", file, f"there is no file {file}")
    with progress("Verifying") as bar:
        archive = ArchiveReader(path, counter(bar))
    with archive:
        try:
            with session.open(create=True) as opened, progress("Loading") as bar:
                report = load_archive(
                    opened.store,
                    archive,
                    overwrite=overwrite,
                    owner=owner,
                    origin=opened.origin,
                    folder=Path.cwd(),
                    states=opened.states,
                    progress=counter(bar),
                )
        except KeyboardInterrupt:
            note("Records that were loaded remain. Load the file again to continue.")
            raise
        _print_report(file, archive, report, as_json)
    if report.problems:
        raise click.exceptions.Exit(FAILED)


def _print_report(file: str, archive: ArchiveReader, report: LoadReport, as_json: bool) -> None:
    results = ("added", "unchanged", "replaced")
    if as_json:
        write_json(
            {
                "file": file,
                "verified": archive.manifest is not None,
                "tables": {
                    name: {
                        "in_file": archive.digests[name].count,
                        **{result: report.counts[name, result] for result in results},
                    }
                    for name in TABLES
                },
                "conflicts": [_problem_json(one) for one in report.of_kind("conflict")],
                "damaged": [_problem_json(one) for one in report.of_kind("damaged")],
                "foreign": [_problem_json(one) for one in report.of_kind("foreign")],
                "unknown_tables": archive.ignored_tables,
                "state_files": report.states,
                "rebound": report.rebound,
            }
        )
    else:
        columns: list[Column] = [
            "table",
            *((name, {"justify": "right"}) for name in ("in file", *results)),
        ]
        rows = [
            [
                name,
                archive.digests[name].count,
                *(report.counts[name, result] for result in results),
            ]
            for name in TABLES
        ]
        write(table(columns, rows))
    for name in archive.ignored_tables:
        note(
            f"The table {name} was not loaded: this version does not use it, or cannot load it "
            "without a manifest."
        )
    for id, path in report.rebound.items():
        note(f"{path}: bound to the record {id}.")
    if report.states:
        note(f"State files restored: {report.states}.")
    _print_problems(report.problems)
    if report.of_kind("conflict"):
        note("Conflicting records were left as they are. --overwrite replaces records that differ.")
    if report.of_kind("foreign"):
        note("Records of other users were not loaded. Log in as an administrator, or use --owner.")
    if archive.manifest is None:
        note(f"{file} has no manifest, so it could not be verified that it is complete.")


def _print_problems(problems: Sequence[DocumentProblem]) -> None:
    for problem in problems:
        note(f"{problem.table} {problem.id}: {problem.reason}")


def _problem_json(problem: DocumentProblem) -> dict[str, Any]:
    return {"table": problem.table, "id": problem.id, "reason": problem.reason}


@click.command()
@with_session
@click.argument("checkpoint")
@click.option("-o", "--output", metavar="FILE", required=True, help="The zip file to write.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def bundle(session: Session, checkpoint: str, output: str, force: bool) -> None:
    """Write everything about a checkpoint to a zip file, for a colleague.

    The file holds the notebook as it was saved, the executed code as a script, requirements.txt,
    metrics, the run's configuration, provenance and the state files.

    CHECKPOINT is its id, or the beginning of its id.
    """
    with session.with_states() as (repository, states):
        found = find_checkpoint(repository, checkpoint)
        with new_file(Path(output), force=force) as file:
            names = write_bundle(repository, found, states, file)
    for name in names:
        write_line(name)
