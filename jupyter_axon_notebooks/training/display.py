"""Checkpoints and progress as text and as HTML."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from ..metrics import column_names, flatten_metrics, format_number
from ..printable import local_time, printable, shorten
from ..records import NotebookCheckpoint
from ..states.folders import format_size
from .execution.shell import current_shell

#: Seconds before a progress bar appears, and between its updates.
_DELAY: Final = 1.0
_INTERVAL: Final = 0.2
#: The most checkpoints and metrics in a table.
_MAX_ROWS: Final = 30
_MAX_METRICS: Final = 8
#: The longest tag, or name of a metric, that is shown whole.
_MAX_LENGTH: Final = 60


def format_checkpoint(record: NotebookCheckpoint) -> str:
    """Return a checkpoint as ``checkpoint 1f9c22ab (epoch 3, step 120, val_loss 0.512)``."""
    shown = [f"epoch {record.epoch}"]
    if record.step != record.epoch:
        shown.append(f"step {record.step}")
    shown += [f"{name} {value}" for name, value in list(_metrics(record).items())[:4]]
    return f"checkpoint {_shorten(record.id[:8])} ({', '.join(shown)})"


def checkpoint_text(record: NotebookCheckpoint, *, is_recorded: bool = True) -> str:
    """Return the ``repr`` of a checkpoint."""
    return f"<{' · '.join([format_checkpoint(record), *_remarks(record, is_recorded)])}>"


def checkpoints_text(records: Sequence[NotebookCheckpoint]) -> str:
    """Return checkpoints as a table of text."""
    if not records:
        return "no checkpoints"
    lines = _table(records)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join(
        "  ".join(map(str.rjust, line, widths)).rstrip()  # numbers align to the right
        for line in lines
    )
    return text + (f"\n{_more(records)}" if _more(records) else "")


def checkpoints_html(records: Sequence[NotebookCheckpoint]) -> str:
    """Return checkpoints as an HTML table."""
    if not records:
        return "<em>no checkpoints</em>"
    head, *rows = [[html.escape(cell) for cell in line] for line in _table(records)]
    caption = f"<caption>{_more(records)}</caption>" if _more(records) else ""
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _more(records: Sequence[NotebookCheckpoint]) -> str:
    return f"… and {len(records) - _MAX_ROWS} more" if len(records) > _MAX_ROWS else ""


def _table(records: Sequence[NotebookCheckpoint]) -> list[list[str]]:
    """Return the heads and the rows of a table."""
    shown = records[:_MAX_ROWS]
    metrics = [_metrics(record) for record in shown]
    names = list(dict.fromkeys(name for found in metrics for name in found))[:_MAX_METRICS]
    has_runs = len({record.run_id for record in shown}) > 1
    own = [*(["run"] if has_runs else []), "epoch", "step"]
    lines = [["checkpoint", *own, *column_names(names, own), "size", "created", ""]]
    for record, found in zip(shown, metrics, strict=True):
        run = [_shorten((record.run_id or "")[:8])] if has_runs else []
        lines.append(
            [
                _shorten(record.id[:8]),
                *run,
                str(record.epoch),
                str(record.step),
                *(found.get(name, "") for name in names),
                format_size(sum(record.sizes.values())) if record.sizes else "",
                local_time(record.created_at),
                ", ".join(_remarks(record)),
            ]
        )
    return lines


def _metrics(record: NotebookCheckpoint) -> dict[str, str]:
    """Return the metrics that are numbers as texts, under their dotted names."""
    found: dict[str, str] = {}
    for name, value in flatten_metrics(record.metrics).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            is_short = isinstance(value, int) and abs(value) < 10**15
            found[_shorten(name)] = str(value) if is_short else format_number(value)
    return found


def _shorten(text: str) -> str:
    return printable(shorten(text, _MAX_LENGTH))


def _remarks(record: NotebookCheckpoint, is_recorded: bool = True) -> list[str]:
    remarks = [*(["pinned"] if record.pinned else []), *map(_shorten, record.tags)]
    if record.pruned_at is not None:
        remarks.append("pruned")
    elif not record.model_state_path:
        remarks.append("no state")
    if not is_recorded:
        remarks.append("not recorded yet")
    return remarks


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress if the block takes longer than a second.

    Yields a function to call with the bytes done and the bytes in total.
    """
    bar = _ProgressBar(label)
    try:
        yield bar.update
    finally:
        with suppress(Exception):
            bar.close()


class _ProgressBar:
    """A bar in the output of a cell, or a line in a terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._due = time.monotonic() + _DELAY
        self._handle: Any = None  # of IPython's display
        self._is_in_terminal = False

    def update(self, done: int, total: int) -> None:
        if time.monotonic() < self._due or total <= 0:
            return
        self._due = time.monotonic() + _INTERVAL
        with suppress(Exception):  # a failure of the display must not fail a checkpoint
            self._draw(f"{self._label}: {format_size(done)} of {format_size(total)}", done / total)

    def _draw(self, text: str, fraction: float) -> None:
        if getattr(current_shell(), "kernel", None) is not None:
            import IPython.display

            display: Any = IPython.display.display
            bar = (
                f'<label style="color:var(--jp-ui-font-color1,inherit)">{html.escape(text)} '
                f'<progress max="1" value="{min(fraction, 1.0):.3f}"></progress></label>'
            )
            bundle = {"text/plain": text, "text/html": bar}
            if self._handle is None:
                self._handle = display(bundle, raw=True, display_id=True)
            else:
                self._handle.update(bundle, raw=True)
        elif sys.stderr is not None and sys.stderr.isatty():
            self._is_in_terminal = True
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": "", "text/html": ""}, raw=True)
        if self._is_in_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
