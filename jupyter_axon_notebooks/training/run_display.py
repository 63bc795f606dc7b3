"""Runs as text and as HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from ..metrics import direction, format_number
from ..printable import local_time, printable, short_repr, shorten
from ..records import MetricSummary, TrainingRun, now
from ..repository.run_comparison import differing_keys
from ..repository.run_queries import config_text, flat_config
from ..repository.series import is_system
from ..run_filters import Variable, parse_order
from .display import attributes_html, hidden_metrics, html_table, shown_tags, text_table

#: The most runs, and the most configuration keys and metrics, in a table.
_MAX_ROWS: Final = 30
_MAX_COLUMNS: Final = 3
#: The most metrics of one run, in its table and in its line.
_MAX_METRICS: Final = 12
_MAX_IN_LINE: Final = 3
#: The longest name or value, and the longest configuration.
_MAX_LENGTH: Final = 24
_MAX_CONFIG: Final = 400
_ID_LENGTH: Final = 8
#: The length of a time to the minute.
_MINUTE_LENGTH: Final = 16


class ListedRun(NamedTuple):
    """A run in a list, and the name of its notebook if that is known."""

    record: TrainingRun
    notebook: str | None = None


class _Column(NamedTuple):
    heading: str
    read: Callable[[ListedRun], str]


def run_text(record: TrainingRun) -> str:
    """Return a run as ``<run 3 · completed · lr=0.01 · val_loss 0.512 · 3 min 20 s>``."""
    metrics = own_metrics(record)
    names = _best_known_first(metrics)
    texts = [_shorten(record.display_name), record.status.value, _config(record, 100)]
    texts += [f"{_shorten(name)} {_number(metrics[name].last)}" for name in names[:_MAX_IN_LINE]]
    return f"<{' · '.join(text for text in [*texts, _duration(record)] if text)}>"


def run_html(record: TrainingRun) -> str:
    """Return a run as an HTML table of its attributes, with the last and best values."""
    metrics = own_metrics(record)
    names = _best_known_first(metrics)
    pairs = [
        ("id", record.id),
        ("status", record.status.value),
        ("config", _config(record, _MAX_CONFIG)),
        *((_shorten(name), _last_and_best(name, metrics[name])) for name in names[:_MAX_METRICS]),
        *hidden_metrics(len(metrics) - _MAX_METRICS),
        ("tags", ", ".join(shown_tags(record.tags))),
        ("group", _shorten(record.group or "")),
        ("notes", _shorten(record.notes or "")),
        ("started", local_time(record.started_at)),
        ("duration", _duration(record)),
    ]
    name = _shorten(record.display_name)
    if record.name and record.number is not None:
        name += f" (run {record.number})"
    return attributes_html(("run", name), [pair for pair in pairs if pair[1]])


def runs_text(runs: Sequence[ListedRun], sort: str) -> str:
    """Return runs as a table of text."""
    if not runs:
        return "no runs"
    lines, more = _table(runs, sort)
    return text_table(lines) + (f"\n{more}" if more else "")


def runs_html(runs: Sequence[ListedRun], sort: str) -> str:
    """Return runs as an HTML table."""
    return html_table(*_table(runs, sort)) if runs else "<em>no runs</em>"


def own_metrics(record: TrainingRun) -> dict[str, MetricSummary]:
    """Return the metrics of a run without those of the system."""
    found = record.metrics or {}
    return {name: one for name, one in found.items() if not is_system(name)}


def _best_known_first(names: Iterable[str]) -> list[str]:
    """Sort metrics that are known to be better when lower or higher before the others."""
    return sorted(names, key=lambda name: direction(name) is None)


def _table(runs: Sequence[ListedRun], sort: str) -> tuple[list[list[str]], str]:
    """Return the heads and the rows of a table, and what it leaves out."""
    values = _value_columns(runs, sort)
    shown = [column for found in values for column in found[:_MAX_COLUMNS]]
    columns = [*_identity_columns(runs), *map(_value_column, shown), *_ORIGIN_COLUMNS]
    lines = [[_shorten(column.heading) for column in columns]]
    lines += [[column.read(run) for column in columns] for run in runs[:_MAX_ROWS]]
    hidden_runs, hidden = len(runs) - _MAX_ROWS, sum(map(len, values)) - len(shown)
    more = [
        *([f"{hidden_runs:,} more runs"] if hidden_runs > 0 else []),
        *([f"{hidden:,} more columns, which table() has"] if hidden else []),
    ]
    return lines, f"… and {' and '.join(more)}" if more else ""


def _value_columns(runs: Sequence[ListedRun], sort: str) -> list[list[Variable]]:
    """Return the configuration that differs, and the metrics; what they are sorted by is first."""
    names = dict.fromkeys(name for run in runs for name in own_metrics(run.record))
    config = [
        Variable("config", key) for key in differing_keys([flat_config(one.record) for one in runs])
    ]
    metrics = [Variable("metric", name) for name in _best_known_first(names)]
    first = parse_order(sort).variable
    if first.kind == "metric":
        metrics = list(dict.fromkeys([first, *metrics]))
    elif first.kind == "config":
        config = list(dict.fromkeys([first, *config]))
    return [config, metrics]


def _identity_columns(runs: Sequence[ListedRun]) -> list[_Column]:
    has_names = any(run.record.name for run in runs)
    has_notebooks = len({run.record.notebook_id for run in runs}) > 1
    return [
        _Column("name", lambda run: _shorten(run.record.display_name)),
        *([_Column("number", lambda run: str(run.record.number or ""))] if has_names else []),
        *([_Column("notebook", lambda run: _shorten(run.notebook or ""))] if has_notebooks else []),
        _Column("status", lambda run: run.record.status.value),
    ]


_ORIGIN_COLUMNS: Final = (
    _Column("started", lambda run: local_time(run.record.started_at)[:_MINUTE_LENGTH]),
    _Column("id", lambda run: _shorten(run.record.id[:_ID_LENGTH])),
)


def _value_column(variable: Variable) -> _Column:
    if variable.kind == "config":
        return _Column(variable.name, lambda run: _value(flat_config(run.record), variable.name))
    name, statistic = variable.name, variable.statistic

    def read(run: ListedRun) -> str:
        summary = (run.record.metrics or {}).get(name)
        return "" if summary is None else _number(getattr(summary, statistic))

    return _Column(name if statistic == "last" else f"{name}.{statistic}", read)


def _value(config: dict[str, Any], key: str) -> str:
    value = config.get(key)
    if value is None:
        return ""
    if isinstance(value, str):
        return _shorten(value)
    return format_number(value) if isinstance(value, float) else short_repr(value, _MAX_LENGTH)


def _config(record: TrainingRun, length: int) -> str:
    text = config_text(record, length)
    label = "" if record.config_source is None else record.config_source.label
    return f"{text} ({label})" if text and label else text


def _last_and_best(name: str, summary: MetricSummary) -> str:
    text, mode = _number(summary.last), direction(name)
    best = None if mode is None else getattr(summary, mode)
    if best is None or best == summary.last:
        return text
    return f"{text} (best {_number(best)} at step {getattr(summary, f'{mode}_step')})"


def _number(value: float | str | None) -> str:
    return "" if value is None else format_number(float(value))


def _duration(record: TrainingRun) -> str:
    seconds = int(((record.ended_at or now()) - record.started_at).total_seconds())
    minutes, seconds = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _shorten(text: str) -> str:
    return printable(shorten(text, _MAX_LENGTH))
