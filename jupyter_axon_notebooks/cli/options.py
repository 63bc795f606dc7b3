"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
force = click.option("--force", is_flag=True, help="Replace existing files.")
run = click.option(
    "--run",
    metavar="RUN",
    help="Only this run: its id, its key (the newest run with it), or the beginning of its id.",
)
limit = click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="The maximum number of rows.",
)


def direction(command: _Command) -> _Command:
    """Add the options --min and --max, which say which values of a metric are better."""
    largest = click.option("--max", "mode", flag_value="max", help="The largest value is best.")
    smallest = click.option("--min", "mode", flag_value="min", help="The smallest value is best.")
    return smallest(largest(command))
