"""Print results: tables for people, JSON for scripts.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import click
from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from .. import printable as texts
from ..printable import printable

#: The width of output that does not go to a terminal.
_UNLIMITED = 100_000
_SHORTEST_ID = 8
#: The number of documents between updates of a progress bar: an update takes longer than reading a
#: document.
_PROGRESS_STEP = 100

#: Columns that are wrapped on a narrow terminal. The others are cut.
_WRAPPED = {
    "path",
    "notebook",
    "config",
    "metrics",
    "tags",
    "meaning",
    "before",
    "after",
    "passfile",
}

#: Columns that are cut before others are.
_CUT_FIRST = {"source"}

_STATUS_STYLES = {
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "error": "red",
    "stopped": "yellow",
}


def first_line(text: str, length: int = 100) -> str:
    """Return the first line of ``text`` that is not blank, cut to ``length`` characters."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    return texts.shorten(line.strip(), length)


def local_time(moment: datetime | None) -> str:
    """Return ``moment`` in local time, to the second; empty for None."""
    return "" if moment is None else texts.local_time(moment)


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Return a unique beginning for each of ``ids`` on a terminal, and the whole id elsewhere."""
    if not _console(sys.stdout).is_terminal:
        return {id: id for id in ids}
    pairs = pairwise(sorted(set(ids)))
    common = (len(os.path.commonprefix(pair)) for pair in pairs)  # noqa: RUF071 - not paths
    length = max(_SHORTEST_ID, max(common, default=0) + 1)
    return {id: id[:length] for id in ids}


def status_text(status: str) -> Text:
    """Return a status in its colour."""
    return Text(status, style=_STATUS_STYLES.get(status, ""))


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of rows, whose keys are the headings; all rows have the same ones."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for heading in rows[0] if rows else ():
        is_number = all(isinstance(row[heading], int) or row[heading] == "" for row in rows)
        result.add_column(
            heading,
            justify="right" if is_number else "left",
            no_wrap=heading not in _WRAPPED | _CUT_FIRST,
            overflow="fold" if heading in _WRAPPED else "ellipsis",
        )
    for row in rows:
        cells = [_cell(value) for value in row.values()]
        for heading, cell in zip(row, cells, strict=True):
            cell.no_wrap = True if heading in _CUT_FIRST else None
        result.add_row(*cells)
    return result


def fit(
    rows: Sequence[Mapping[str, Any]], optional: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Leave out columns until a table fits the terminal.

    Parameters
    ----------
    rows : sequence of mapping
        As for :func:`table`.
    optional : sequence of str
        The headings of columns that may be left out, the first one first.

    Returns
    -------
    tuple of list of dict and list of str
        The rows, and the headings that were left out.
    """
    left_out: list[str] = []
    shown = [dict(row) for row in rows]
    for heading in optional:
        if _fits(shown):
            break
        left_out.append(heading)
        shown = [{key: value for key, value in row.items() if key != heading} for row in shown]
    return shown, left_out


def split(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Return tables that fit the terminal: each with the first column and some of the others."""
    first, *others = rows[0]
    tables: list[list[str]] = [[]]
    for heading in others:
        added = [first, *tables[-1], heading]
        if tables[-1] and not _fits([{key: row[key] for key in added} for row in rows]):
            tables.append([])
        tables[-1].append(heading)
    return [table([{key: row[key] for key in (first, *some)} for row in rows]) for some in tables]


def _fits(rows: Sequence[Mapping[str, Any]]) -> bool:
    console = _console(sys.stdout)
    widest = console.options.update(max_width=_UNLIMITED)
    return console.measure(table(rows), options=widest).maximum <= console.width


def fields(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Return names and values, one pair a line, without those that have no value."""
    result = Table.grid(padding=(0, 2))
    result.add_column(style="dim", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and value != "":
            result.add_row(name, _cell(value))
    return result


def _cell(value: Any) -> Text:
    return Text(printable(str(value)), style=value.style if isinstance(value, Text) else "")


def write(*renderables: RenderableType) -> None:
    """Print to standard output, in colour and wrapped only on a terminal."""
    console = _console(sys.stdout)
    for renderable in renderables:
        if isinstance(renderable, str):  # the cells of tables are printable already
            renderable = printable(renderable, keep="\n")
        with console.capture() as captured:
            console.print(renderable, highlight=False, markup=False, emoji=False)
        text = captured.get()
        if not console.is_terminal:
            text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
        click.echo(text.encode(_encoding(), "backslashreplace"), nl=False)


def write_json(value: Any) -> None:
    """Print ``value`` as JSON, in ASCII without control characters, to standard output."""
    click.echo(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))


def write_line(text: str) -> None:
    """Print a line for scripts: unchanged, except on a terminal."""
    if _console(sys.stdout).is_terminal:
        text = printable(text)
    click.echo(text.encode(_encoding(), "backslashreplace"))


def note(text: str) -> None:
    """Print a message to standard error."""
    click.echo(printable(text), err=True)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 file``, ``2 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def progress(description: str, *, in_bytes: bool = False) -> Progress:
    """Return a progress bar on standard error, which is silent unless that is a terminal."""
    console = _console(sys.stderr)
    console.quiet = not console.is_terminal  # `disable` leaves an empty line there before rich 14.3
    counted = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn(description, markup=False), BarColumn(), counted)
    return Progress(*columns, console=console, transient=True)


def counter(bar: Progress) -> Callable[[int, int | None], None]:
    """Add a task to ``bar`` and return a function that reports its progress."""
    task = bar.add_task("", total=None)

    def count(done: int, total: int | None) -> None:
        if done % _PROGRESS_STEP == 0 or done == total:
            bar.update(task, completed=done, total=total)

    return count


def _console(file: Any) -> Console:
    console = Console(file=file)
    return console if console.is_terminal else Console(file=file, width=_UNLIMITED)


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"
