"""How checkpoints look in a notebook and in a terminal, and what is said meanwhile."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from ..metrics import column_names, format_number, resolve
from ..printable import local_time, printable, shorten
from ..records import NotebookCheckpoint
from ..states.folders import format_size
from .execution.shell import current_shell

if TYPE_CHECKING:
    from rich.progress import Progress

#: Seconds that something may take before a progress bar is shown for it.
_PATIENCE: Final = 1.0
#: Seconds between two looks of it.
_REDRAWN: Final = 0.2
#: Checkpoints that a table shows; the rest is counted.
_ROWS: Final = 30
#: Metrics that a table has columns for.
_COLUMNS: Final = 8
#: Characters of a tag, or of a metric's name, that are shown.
_LONGEST: Final = 60
#: Levels of nested metrics that are looked into.
_DEEPEST: Final = 20

# JupyterLab's and Notebook's own colours where there are any; elsewhere those of the page, whatever its theme.
_STYLE: Final = (
    "<style>"
    ".axon-c{font-size:var(--jp-ui-font-size1,13px);border-collapse:collapse;color:var(--jp-ui-font-color1,inherit)}"
    ".axon-c th,.axon-c td{padding:2px 10px;text-align:right;border:0;white-space:nowrap}"
    ".axon-c th{color:var(--jp-ui-font-color2,inherit);font-weight:600;"
    "border-bottom:1px solid var(--jp-border-color1,rgba(128,128,128,.5))}"
    ".axon-c td.t,.axon-c th.t{text-align:left}"
    ".axon-c tbody tr:nth-child(odd){background:var(--jp-rendermime-table-row-background,rgba(128,128,128,.08))}"
    ".axon-c code{font-family:var(--jp-code-font-family,monospace);background:transparent;color:inherit}"
    ".axon-c caption{caption-side:bottom;text-align:left;color:var(--jp-ui-font-color2,inherit);padding:2px 10px}"
    "</style>"
)


def format_checkpoint(record: NotebookCheckpoint) -> str:
    """A checkpoint in a few words: ``checkpoint 1f9c22ab (epoch 3, step 120, val_loss 0.512)``.

    A step that is counted with the epochs says nothing.
    """
    shown = [
        f"epoch {record.epoch}",
        *([f"step {record.step}"] if record.step != record.epoch else []),
    ]
    shown += [f"{name} {value}" for name, value in list(_metrics(record).items())[:4]]
    return f"checkpoint {_shown(record.id[:8])} ({', '.join(shown)})"


def checkpoint_text(record: NotebookCheckpoint, *, is_recorded: bool = True) -> str:
    """A checkpoint as ``repr`` shows it."""
    return (
        f"<{' · '.join([format_checkpoint(record), *_remarks(record, is_recorded=is_recorded)])}>"
    )


def checkpoints_text(records: Sequence[NotebookCheckpoint]) -> str:
    """Checkpoints as a table of text."""
    if not records:
        return "no checkpoints"
    heads, rows = _table(records)
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return text + (f"\n… and {len(records) - _ROWS} more" if len(records) > _ROWS else "")


def checkpoint_html(record: NotebookCheckpoint, *, is_recorded: bool = True) -> str:
    """A checkpoint as a notebook shows it; in the theme's colours."""
    pairs = [
        ("checkpoint", f"<code>{html.escape(_shown(record.id))}</code>"),
        ("epoch", str(record.epoch)),
    ]
    pairs.append(("step", str(record.step)))
    pairs += [(html.escape(name), html.escape(value)) for name, value in _metrics(record).items()]
    if record.sizes:
        pairs.append(("size", format_size(sum(record.sizes.values()))))
    pairs.append(("created", local_time(record.created_at)))
    pairs += [("", html.escape(remark)) for remark in _remarks(record, is_recorded=is_recorded)]
    rows = "".join(
        f'<tr><th class="t" scope="row">{name}</th><td class="t">{value}</td></tr>'
        for name, value in pairs
    )
    return f'{_STYLE}<table class="axon-c"><tbody>{rows}</tbody></table>'


def checkpoints_html(records: Sequence[NotebookCheckpoint]) -> str:
    """Checkpoints as a table, in the theme's colours."""
    if not records:
        return "<em>no checkpoints</em>"
    heads, rows = _table(records)
    last = len(heads) - 1
    head = "".join(_cell("th", text, column, last) for column, text in enumerate(heads))
    body = "".join(
        f"<tr>{''.join(_cell('td', text, column, last) for column, text in enumerate(row))}</tr>"
        for row in rows
    )
    more = f"<caption>… and {len(records) - _ROWS} more</caption>" if len(records) > _ROWS else ""
    return f'{_STYLE}<table class="axon-c">{more}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(tag: str, text: str, column: int, last: int) -> str:
    left = ' class="t"' if column in (0, last) else ""
    scope = ' scope="col"' if tag == "th" else ""
    content = (
        f"<code>{html.escape(text)}</code>" if tag == "td" and column == 0 else html.escape(text)
    )
    return f"<{tag}{left}{scope}>{content}</{tag}>"


def _table(records: Sequence[NotebookCheckpoint]) -> tuple[list[str], list[list[str]]]:
    shown = records[:_ROWS]
    metrics = [_metrics(record) for record in shown]
    names = list(dict.fromkeys(name for found in metrics for name in found))[:_COLUMNS]
    own = (
        ["run", "epoch", "step"]
        if len({record.run_id for record in shown}) > 1
        else ["epoch", "step"]
    )
    heads = ["checkpoint", *own, *column_names(names, own), "size", "created", ""]
    rows = [
        [
            _shown(record.id[:8]),
            *([_shown((record.run_id or "")[:8])] if "run" in own else []),
            str(record.epoch),
            str(record.step),
            *(found.get(name, "") for name in names),
            format_size(sum(record.sizes.values())) if record.sizes else "",
            local_time(record.created_at),
            ", ".join(_remarks(record)),
        ]
        for record, found in zip(shown, metrics, strict=True)
    ]
    return heads, rows


def _metrics(record: NotebookCheckpoint) -> dict[str, str]:
    """The metrics that are numbers, with nested names, as texts that can be shown."""
    found: dict[str, str] = {}
    for name in _names(record.metrics):
        value = resolve(record.metrics, name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            is_short = isinstance(value, int) and abs(value) < 10**15
            found[_shown(name)] = str(value) if is_short else format_number(value)
    return found


def _names(metrics: Any, before: str = "", depth: int = 0) -> Iterator[str]:
    if isinstance(metrics, dict) and depth < _DEEPEST:
        for key, value in metrics.items():
            if isinstance(value, dict):
                yield from _names(value, f"{before}{key}.", depth + 1)
            else:
                yield f"{before}{key}"


def _shown(text: str) -> str:
    """A name or a tag from a record, printable and not too long."""
    return printable(shorten(text, _LONGEST))


def _remarks(record: NotebookCheckpoint, *, is_recorded: bool = True) -> list[str]:
    remarks = [*(["pinned"] if record.pinned else []), *map(_shown, record.tags)]
    if record.pruned_at is not None:
        remarks.append("pruned")
    elif not record.model_state_path:
        remarks.append("no state")
    if not is_recorded:
        remarks.append("not recorded yet")
    return remarks


@contextmanager
def progress_bar(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for what takes longer than a second, to be told the bytes done and the bytes in all."""
    bar = _Bar(doing)
    try:
        yield bar.update
    finally:
        bar.close()


class _Bar:
    """A bar that appears late, is drawn anew in its place, and goes when all is done."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._due = time.monotonic() + _PATIENCE
        self._handle: Any = None
        self._terminal: Progress | None = None

    def update(self, done: int, total: int) -> None:
        """``done`` bytes of ``total``."""
        if time.monotonic() < self._due or total <= 0:
            return
        self._due = time.monotonic() + _REDRAWN
        with suppress(Exception):  # a display that fails is no reason for a checkpoint to fail
            self._draw(done, total)

    def _draw(self, done: int, total: int) -> None:
        share = min(done / total, 1.0)
        text = f"{self._doing}: {format_size(done)} of {format_size(total)}"
        if (display := _notebook_display()) is not None:
            bundle = {"text/plain": text, "text/html": _bar_html(text, share)}
            if self._handle is None:
                self._handle = display(bundle, raw=True, display_id=True)
            else:
                self._handle.update(bundle, raw=True)
        elif sys.stderr is not None and sys.stderr.isatty():
            if self._terminal is None:
                self._terminal = _terminal_bar(self._doing)
            self._terminal.update(self._terminal.task_ids[0], completed=done, total=total)

    def close(self) -> None:
        """Take it away."""
        with suppress(Exception):
            if self._handle is not None:
                self._handle.update({"text/plain": "", "text/html": ""}, raw=True)
            if self._terminal is not None:
                self._terminal.stop()


def _terminal_bar(doing: str) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn(doing), BarColumn(), DownloadColumn())
    bar = Progress(*columns, console=Console(file=sys.stderr), transient=True)
    bar.add_task("", total=None)
    bar.start()
    return bar


def _bar_html(text: str, share: float) -> str:
    return (
        f'<label style="color:var(--jp-ui-font-color1,inherit)">{html.escape(text)} '
        f'<progress max="1" value="{share:.3f}"></progress></label>'
    )


def _notebook_display() -> Any:
    """IPython's ``display``, where a front end shows what it is given; None in a terminal."""
    if getattr(current_shell(), "kernel", None) is None:
        return None
    from IPython.display import display

    return display
