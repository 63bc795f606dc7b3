"""How commands print: tables for people, JSON for scripts."""

from __future__ import annotations

import json
import os
import re
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

#: Columns where the output is no terminal: as many as a row takes.
_UNLIMITED = 100_000
_SHORTEST_ID = 8
#: How often a counter is drawn anew: drawing takes longer than reading a document.
_STEP = 100
# What would move the cursor, change colours or have no UTF-8 form. Records hold what others wrote.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

#: A column: its heading, perhaps with rich's options for it.
Column = str | tuple[str, dict[str, Any]]

STATUS_STYLES = {
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "error": "red",
    "stopped": "yellow",
}


def shown(text: str) -> str:
    """``text`` fit for a terminal: control characters and lone surrogates are written as escapes."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def first_line(text: str, length: int = 100) -> str:
    """The first line of ``text`` that is not blank, cut to ``length`` characters."""
    line = next((line for line in text.splitlines() if line.strip()), "").strip()
    return line if len(line) <= length else line[: length - 1] + "…"


def local_time(moment: datetime | None) -> str:
    """``moment`` on this machine's clock, to the second; empty where there is none."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


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
    return Text(shown(str(value)), style=style)


def write(*renderables: RenderableType) -> None:
    """Print to standard output: in colour and to its width on a terminal, else plain and as wide as needed."""
    console = _console(sys.stdout)
    for renderable in renderables:
        if console.is_terminal:
            console.print(renderable, highlight=False, markup=False, emoji=False)
            continue
        with console.capture() as captured:
            console.print(renderable, highlight=False, markup=False, emoji=False)
        lines = (line.rstrip() for line in captured.get().splitlines())
        click.echo("\n".join(lines).encode(_encoding(), "backslashreplace"))


def write_json(value: Any) -> None:
    """Print ``value`` as JSON to standard output."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        octets = text.encode(_encoding())
    except UnicodeEncodeError:
        octets = json.dumps(value, indent=2).encode()
    click.echo(octets)


def note(text: str) -> None:
    """Say something beside the result, on standard error."""
    click.echo(shown(text), err=True)


def progress(description: str, *, in_bytes: bool = False) -> Progress:
    """A progress bar on standard error; silent where that is no terminal. ``in_bytes``: what it counts."""
    console = _console(sys.stderr)
    console.quiet = not console.is_terminal  # `disable` leaves an empty line there before rich 14.3
    counted = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn(shown(description)), BarColumn(), counted)
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
