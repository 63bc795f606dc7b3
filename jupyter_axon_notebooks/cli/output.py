"""How commands print: tables for people, JSON for scripts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
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
from ..printable import printable, printable_json

#: Columns where the output is no terminal: as many as a row takes.
_UNLIMITED = 100_000
_SHORTEST_ID = 8
#: How often a counter is drawn anew: drawing takes longer than reading a document.
_STEP = 100

#: A column: its heading, perhaps with rich's options for it.
Column = str | tuple[str, dict[str, Any]]

STATUS_STYLES = {
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "error": "red",
    "stopped": "yellow",
}


def first_line(text: str, length: int = 100) -> str:
    """The first line of ``text`` that is not blank, cut to ``length`` characters."""
    return texts.shorten(
        next((line for line in text.splitlines() if line.strip()), "").strip(), length
    )


def local_time(moment: datetime | None) -> str:
    """``moment`` on this machine's clock, to the second; empty where there is none."""
    return "" if moment is None else texts.local_time(moment)


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Each of ``ids`` as far as it takes to tell them apart, on a terminal; elsewhere they are left whole."""
    if not _console(sys.stdout).is_terminal:
        return {id: id for id in ids}
    ordered = sorted(set(ids))
    alike = (len(os.path.commonprefix(pair)) for pair in pairwise(ordered))  # noqa: RUF071 - no paths
    length = max(_SHORTEST_ID, max(alike, default=0) + 1)
    return {id: id[:length] for id in ids}


def status_text(status: str) -> Text:
    """A status in its colour."""
    return Text(status, style=STATUS_STYLES.get(status, ""))


def table(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> Table:
    """A table. Cells are texts, Text, or anything that ``str`` takes; a column may carry rich's options."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        heading, options = (column, {}) if isinstance(column, str) else column
        made.add_column(heading, **{"overflow": "fold", **options})
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def fields(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Names and values, one pair a line; pairs without a value are left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and value != "":
            made.add_row(name, _cell(value))
    return made


def _cell(value: Any) -> RenderableType:
    style = value.style if isinstance(value, Text) else ""
    return Text(printable(str(value)), style=style)


def write(*renderables: RenderableType) -> None:
    """Print to standard output: in colour and to its width on a terminal, else plain and as wide as needed."""
    console = _console(sys.stdout)
    for given in renderables:
        renderable = _printable(given)
        if console.is_terminal:
            console.print(renderable, highlight=False, markup=False, emoji=False)
            continue
        with console.capture() as captured:
            console.print(renderable, highlight=False, markup=False, emoji=False)
        lines = (line.rstrip() for line in captured.get().splitlines())
        click.echo("\n".join(lines).encode(_encoding(), "backslashreplace"))


def _printable(renderable: RenderableType) -> RenderableType:
    """Make plain texts printable; the cells of tables are already."""
    return printable(renderable, keep="\n") if isinstance(renderable, str) else renderable


def write_json(value: Any) -> None:
    """Print ``value`` as JSON to standard output; what a terminal would interpret is escaped in it."""
    text = printable_json(json.dumps(value, ensure_ascii=False, indent=2))
    try:
        octets = text.encode(_encoding())
    except UnicodeEncodeError:
        octets = json.dumps(value, indent=2).encode()
    click.echo(octets)


def write_line(text: str) -> None:
    """Print a line that scripts read: unchanged, unless a terminal shows it."""
    if _console(sys.stdout).is_terminal:
        text = printable(text)
    click.echo(text.encode(_encoding(), "backslashreplace"))


def note(text: str) -> None:
    """Say something beside the result, on standard error."""
    click.echo(printable(text), err=True)


def progress(description: str, *, in_bytes: bool = False) -> Progress:
    """A progress bar on standard error; silent where that is no terminal. ``in_bytes``: what it counts."""
    console = _console(sys.stderr)
    console.quiet = not console.is_terminal  # `disable` leaves an empty line there before rich 14.3
    counted = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn(printable(description), markup=False), BarColumn(), counted)
    return Progress(*columns, console=console, transient=True)


def counter(bar: Progress) -> Callable[[int, int | None], None]:
    """A new line of ``bar`` as a function, to be told how many are done of how many (None: nobody knows)."""
    task = bar.add_task("", total=None)

    def count(done: int, total: int | None) -> None:
        if done % _STEP == 0 or done == total:
            bar.update(task, completed=done, total=total)

    return count


def _console(file: Any) -> Console:
    console = Console(file=file)
    if not console.is_terminal:
        console = Console(file=file, width=_UNLIMITED)
    return console


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"
