"""Checkpoints, restored states and progress as text and as HTML."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from ..metrics import column_names, format_number, resolve
from ..printable import local_time, printable, short_repr, shorten
from ..records import NotebookCheckpoint
from ..states.folders import format_size
from .execution.shell import current_shell

if TYPE_CHECKING:
    from rich.progress import Progress

#: Seconds before a progress bar appears, and between its updates.
_DELAY: Final = 1.0
_INTERVAL: Final = 0.2
#: The most checkpoints and metrics in a table.
_MAX_ROWS: Final = 30
_MAX_METRICS: Final = 8
#: The most metrics of one checkpoint, and the most tags.
_MAX_ATTRIBUTES: Final = 20
_MAX_TAGS: Final = 8
#: The longest tag, or name of a metric, that is shown whole.
_MAX_LENGTH: Final = 60
_MAX_DEPTH: Final = 20
#: The longest text of a dict.
_MAX_DICT: Final = 1_000

# JupyterLab's colours where it defines them; else those of the page.
_STYLE: Final = (
    "<style>"
    ".axon-c{font-size:var(--jp-ui-font-size1,13px);border-collapse:collapse;"
    "color:var(--jp-ui-font-color1,inherit)}"
    ".axon-c th,.axon-c td{padding:2px 10px;text-align:right;border:0;white-space:nowrap}"
    ".axon-c th{color:var(--jp-ui-font-color2,inherit);font-weight:600;"
    "border-bottom:1px solid var(--jp-border-color1,rgba(128,128,128,.5))}"
    ".axon-c td.t,.axon-c th.t{text-align:left}"
    ".axon-c tbody tr:nth-child(odd)"
    "{background:var(--jp-rendermime-table-row-background,rgba(128,128,128,.08))}"
    ".axon-c.axon-c code{font-family:var(--jp-code-font-family,monospace);"
    "background:transparent;color:inherit;white-space:nowrap}"
    ".axon-a td{white-space:normal;max-width:60em;overflow-wrap:anywhere}"
    ".axon-c caption{caption-side:bottom;text-align:left;"
    "color:var(--jp-ui-font-color2,inherit);padding:2px 10px}"
    "</style>"
)


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
    text = text_table(_table(records))
    return text + (f"\n{_more(records)}" if _more(records) else "")


def text_table(lines: Sequence[Sequence[str]]) -> str:
    """Return the heads and the rows of a table as text."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    align = [str.ljust if is_text else str.rjust for is_text in _text_columns(lines)]
    return "\n".join(
        "  ".join(
            pad(cell, width) for pad, cell, width in zip(align, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _text_columns(lines: Sequence[Sequence[str]]) -> list[bool]:
    """Return for each column whether it has texts, which align to the left, not numbers."""
    return [any(map(_is_text, column[1:])) for column in zip(*lines, strict=True)]


def _is_text(cell: str) -> bool:
    return (cell[:1].isalpha() and cell not in ("nan", "inf")) or cell[:1] in ("[", "{", "'", "…")


def checkpoint_html(record: NotebookCheckpoint, *, is_recorded: bool = True) -> str:
    """Return a checkpoint as an HTML table of its attributes."""
    metrics = [*_metrics(record).items()]
    pairs = [("epoch", str(record.epoch)), ("step", str(record.step)), *metrics[:_MAX_ATTRIBUTES]]
    pairs += hidden_metrics(len(metrics) - _MAX_ATTRIBUTES)
    if record.sizes:
        pairs.append(("size", format_size(sum(record.sizes.values()))))
    if record.run_id is not None:
        pairs.append(("run", _shorten(record.run_id[:8])))
    pairs.append(("created", local_time(record.created_at)))
    pairs += [("", remark) for remark in _remarks(record, is_recorded)]
    return attributes_html(("checkpoint", _shorten(record.id)), pairs)


def hidden_metrics(count: int) -> list[tuple[str, str]]:
    """Return the row of a table of attributes that stands for a number of metrics."""
    return [("", f"… and {count:,} more metrics")] if count > 0 else []


def attributes_html(first: tuple[str, str], others: Sequence[tuple[str, str]]) -> str:
    """Return names and values as an HTML table; the value of the first is a code."""
    cells = [(html.escape(name), html.escape(value)) for name, value in (first, *others)]
    cells[0] = cells[0][0], f"<code>{cells[0][1]}</code>"
    rows = "".join(
        f'<tr><th class="t" scope="row">{name}</th><td class="t">{value}</td></tr>'
        for name, value in cells
    )
    return f'{_STYLE}<table class="axon-c axon-a"><tbody>{rows}</tbody></table>'


def checkpoints_html(records: Sequence[NotebookCheckpoint]) -> str:
    """Return checkpoints as an HTML table."""
    if not records:
        return "<em>no checkpoints</em>"
    return html_table(_table(records), _more(records))


def html_table(lines: Sequence[Sequence[str]], more: str) -> str:
    """Return the heads and the rows of a table as HTML, with a caption below it."""
    is_text = _text_columns(lines)
    head, *rows = [[html.escape(cell) for cell in line] for line in lines]
    caption = f"<caption>{html.escape(more)}</caption>" if more else ""
    body = "".join(_row("td", [f"<code>{row[0]}</code>", *row[1:]], is_text) for row in rows)
    head_row = _row('th scope="col"', head, is_text)
    return (
        f'{_STYLE}<table class="axon-c">{caption}<thead>{head_row}</thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _row(tag: str, cells: Sequence[str], is_text: Sequence[bool]) -> str:
    """Return a row of a table; the first and the last cell are texts in any case."""
    name, last = tag.partition(" ")[0], len(cells) - 1
    classes = [' class="t"' if is_text[at] or at in (0, last) else "" for at in range(len(cells))]
    row = "".join(
        f"<{tag}{kind}>{cell}</{name}>" for kind, cell in zip(classes, cells, strict=True)
    )
    return f"<tr>{row}</tr>"


def _more(records: Sequence[Any]) -> str:
    return f"… and {len(records) - _MAX_ROWS} more" if len(records) > _MAX_ROWS else ""


def restored_text(states: Mapping[str, Any]) -> str:
    """Return what was restored as ``<restored model: dict of 12, optimizer: Adam>``."""
    texts = [f"{name}: {_describe(value)}" for name, value in states.items() if value is not None]
    return f"<restored {', '.join(texts) or 'nothing'}>"


def _describe(value: Any) -> str:
    text = type(value).__name__
    if isinstance(value, (dict, list, tuple)):
        text = f"{text} of {len(value)}"
    elif hasattr(type(value), "shape"):
        text = f"{text} of shape {value.shape}"
    return _shorten(text)


class ShortDict(dict[str, Any]):
    """A dict whose ``repr`` shows its beginning, since it may end a cell; copies are dicts."""

    def __repr__(self) -> str:
        return short_repr(dict(self), _MAX_DICT)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


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
    for name in _metric_names(record.metrics):
        value = resolve(record.metrics, name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            is_short = isinstance(value, int) and abs(value) < 10**15
            found[_shorten(name)] = str(value) if is_short else format_number(value)
    return found


def _metric_names(metrics: Any, prefix: str = "", depth: int = 0) -> Iterator[str]:
    if isinstance(metrics, dict) and depth < _MAX_DEPTH:
        for key, value in metrics.items():
            if isinstance(value, dict):
                yield from _metric_names(value, f"{prefix}{key}.", depth + 1)
            else:
                yield f"{prefix}{key}"


def _shorten(text: str) -> str:
    return printable(shorten(text, _MAX_LENGTH))


def shown_tags(tags: Sequence[str]) -> list[str]:
    """Return the first tags, shortened."""
    return [*map(_shorten, tags[:_MAX_TAGS]), *(["…"] if len(tags) > _MAX_TAGS else [])]


def _remarks(record: NotebookCheckpoint, is_recorded: bool = True) -> list[str]:
    remarks = [*(["pinned"] if record.pinned else []), *shown_tags(record.tags)]
    if record.pruned_at is not None:
        remarks.append("pruned")
    elif not record.model_state_path:
        remarks.append("no state")
    if not is_recorded:
        remarks.append("not recorded yet")
    return remarks


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar if the block takes longer than a second.

    Yields a function to call with the bytes done and the bytes in total.
    """
    bar = _ProgressBar(label)
    try:
        yield bar.update
    finally:
        bar.close()


class _ProgressBar:
    def __init__(self, label: str) -> None:
        self._label = label
        self._due = time.monotonic() + _DELAY
        self._handle: Any = None  # of IPython's display
        self._terminal: Progress | None = None

    def update(self, done: int, total: int) -> None:
        if time.monotonic() < self._due or total <= 0:
            return
        self._due = time.monotonic() + _INTERVAL
        with suppress(Exception):  # a failure of the display must not fail a checkpoint
            self._draw(done, total)

    def _draw(self, done: int, total: int) -> None:
        if getattr(current_shell(), "kernel", None) is not None:
            import IPython.display

            display: Any = IPython.display.display
            text = f"{self._label}: {format_size(done)} of {format_size(total)}"
            bar = (
                f'<label style="color:var(--jp-ui-font-color1,inherit)">{html.escape(text)} '
                f'<progress max="1" value="{min(done / total, 1.0):.3f}"></progress></label>'
            )
            bundle = {"text/plain": text, "text/html": bar}
            if self._handle is None:
                self._handle = display(bundle, raw=True, display_id=True)
            else:
                self._handle.update(bundle, raw=True)
        elif sys.stderr is not None and sys.stderr.isatty():
            if self._terminal is None:
                self._terminal = _terminal_progress(self._label)
            self._terminal.update(self._terminal.task_ids[0], completed=done, total=total)

    def close(self) -> None:
        with suppress(Exception):
            if self._handle is not None:
                self._handle.update({"text/plain": "", "text/html": ""}, raw=True)
            if self._terminal is not None:
                self._terminal.stop()


def _terminal_progress(label: str) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn(label), BarColumn(), DownloadColumn())
    progress = Progress(*columns, console=Console(file=sys.stderr), transient=True)
    progress.add_task("", total=None)
    progress.start()
    return progress
