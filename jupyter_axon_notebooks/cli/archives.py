"""The commands that write and load archives."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import click
import msgspec

from ..archive import (
    ArchiveReader,
    DocumentProblem,
    LoadReport,
    load_archive,
    write_archive,
    write_bundle,
)
from ..archive.format import TABLES
from ..errors import NotFound
from ..records import TrainingRun
from ..repository import NotebookRepository
from . import options
from .files import new_file
from .group import FAILED
from .lookup import choose, find_checkpoint, find_notebook_id, find_run
from .output import counter, note, progress, table, write, write_json, write_line
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
@options.force
@options.as_json
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
        repository = opened.repository
        notebook_ids = [find_notebook_id(repository, which) for which in notebooks]
        chosen = [_find_run(repository, which, notebook_ids) for which in runs]
        if chosen:
            notebook_ids = list(dict.fromkeys(run.notebook_id for run in chosen))
        try:
            with _open_output(file, force) as output, progress("Writing") as bar:
                summary = write_archive(
                    opened.store,
                    output,
                    notebook_ids=notebook_ids or None,
                    run_ids=[run.id for run in chosen] or None,
                    states=opened.states if with_states else None,
                    progress=counter(bar),
                )
        except KeyboardInterrupt:
            note("The archive is not complete." if file == "-" else f"{file} was not written.")
            raise
    if as_json:
        write_json(
            {
                "file": file,
                **msgspec.to_builtins(summary.manifest),
                "damaged": _problems_json(summary.problems),
                "orphans": summary.orphans,
                "state_files": summary.state_files,
            }
        )
    elif file != "-":
        tables = summary.manifest.tables.items()
        write(table([{"table": name, "documents": one.count} for name, one in tables]))
    if summary.state_files and not with_states:
        note(
            f"State files that are not in the archive: {summary.state_files}. --with-states "
            "adds them."
        )
    if summary.orphans:
        note(f"Documents that belong to no record and were left out: {summary.orphans}.")
    _print_problems(summary.problems)
    if summary.problems:
        raise click.exceptions.Exit(FAILED)


def _find_run(
    repository: NotebookRepository, which: str, notebook_ids: Sequence[str]
) -> TrainingRun:
    """Return the run that ``which`` names, in one of the notebooks if there are any."""
    if not notebook_ids:
        return find_run(repository, which)
    found = []
    for notebook_id in notebook_ids:
        with suppress(NotFound):
            found.append(find_run(repository, which, notebook_id))
    ids = [f"{run.id} of notebook {run.notebook_id}" for run in found]
    return found[ids.index(choose(ids, "run", which))]


@contextmanager
def _open_output(file: str, force: bool) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with new_file(Path(file), force=force, mode=0o600) as output:
        yield output


@click.command()
@with_session
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--owner", metavar="NAME", help="Make this user the owner of the records.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace records that differ from those in FILE, except those with checkpoints or "
    "state files that FILE lacks.",
)
@options.as_json
def load(session: Session, file: Path, owner: str | None, overwrite: bool, as_json: bool) -> None:
    """Load the records of the archive FILE, with their versions, runs, checkpoints and state files.

    FILE is an archive of `jupyter axon dump`, or TinyDB JSON with the tables axonml_notebooks and
    axonml_checkpoints. It is verified first, and refused if it is not complete.

    Records that the store has already are skipped. Records that differ are reported and left alone;
    one that was saved since it was archived still gets the checkpoints that it lacks. After an
    interruption, load the file again.

    A record from another machine is bound to the notebook file below the current folder that
    carries its id, if that file has no record.
    """
    if owner == "":
        raise click.UsageError("--owner needs the name of a user")
    if not file.exists():
        raise NotFound("file", str(file), f"there is no file {file}")
    with progress("Verifying") as bar:
        archive = ArchiveReader(file, counter(bar))
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
    _print_report(archive, report, as_json)
    if report.problems:
        raise click.exceptions.Exit(FAILED)


def _print_report(archive: ArchiveReader, report: LoadReport, as_json: bool) -> None:
    results = ("added", "unchanged", "replaced")
    tables = {
        name: {
            "in_file": archive.tables[name].count,
            **{result: report.counts[name, result] for result in results},
        }
        for name in TABLES
    }
    if as_json:
        write_json(
            {
                "file": str(archive.path),
                "verified": archive.manifest is not None,
                "tables": tables,
                "conflicts": _problems_json(report.of_kind("conflict")),
                "damaged": _problems_json(report.of_kind("damaged")),
                "foreign": _problems_json(report.of_kind("foreign")),
                "unknown_tables": archive.ignored_tables,
                "state_files": report.states,
                "rebound": report.rebound,
            }
        )
    else:
        rows = [
            {"table": name, "in file": archive.tables[name].count}
            | {result: report.counts[name, result] for result in results}
            for name in TABLES
        ]
        write(table(rows))
    for name in archive.ignored_tables:
        note(
            f"The table {name} was not loaded: this version does not use it, or cannot load it "
            "without a manifest."
        )
    for id, path in report.rebound.items():
        if path is None:
            note(f"The record {id} is bound to no file: its file has another record here.")
        else:
            note(f"{path}: bound to the record {id}.")
    if report.states:
        note(f"State files restored: {report.states}.")
    _print_problems(report.problems)
    if report.of_kind("conflict"):
        note("Conflicting records were left as they are. --overwrite replaces records that differ.")
    if report.of_kind("foreign"):
        note("Records of other users were not loaded. Log in as an administrator, or use --owner.")
    if archive.manifest is None:
        note(f"{archive.path} has no manifest, so it could not be verified that it is complete.")


def _print_problems(problems: Sequence[DocumentProblem]) -> None:
    for problem in problems:
        note(f"{problem.table} {problem.id}: {problem.reason}")


def _problems_json(problems: Sequence[DocumentProblem]) -> list[dict[str, str]]:
    return [{"table": one.table, "id": one.id, "reason": one.reason} for one in problems]


@click.command()
@with_session
@click.argument("checkpoint")
@click.option("-o", "--output", metavar="FILE", required=True, help="The zip file to write.")
@options.force
def bundle(session: Session, checkpoint: str, output: str, force: bool) -> None:
    """Write everything about a checkpoint to a zip file, for a colleague.

    The file holds the notebook as it was saved, the executed code as a script, requirements.txt,
    metrics, the configuration of the run, provenance and the state files.

    CHECKPOINT is its id, or the beginning of its id.
    """
    with session.with_states() as (repository, states):
        found = find_checkpoint(repository, checkpoint)
        with new_file(Path(output), force=force) as file:
            names = write_bundle(repository, found, states, file)
    for name in names:
        write_line(name)
