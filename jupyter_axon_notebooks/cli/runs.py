"""The commands about runs of all notebooks: runs, compare, edit-run, delete-run, export-runs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from typing import Any

import click
import msgspec

from ..errors import AxonError
from ..metrics import format_number
from ..printable import shorten
from ..records import ConfigSource, RunStatus, TrainingRun, UpdateRun
from ..repository import NotebookRepository
from ..repository.run_comparison import differing_keys
from ..repository.run_queries import FoundRun, RunQuery, flat_config
from ..repository.run_table import TableRun
from ..repository.series import is_system
from ..run_export import EXPORTS, ExportedRun, export_runs, write_csv
from ..run_filters import FIELDS, InvalidFilter, Variable, check_names, parse_order
from ..states.folders import format_size
from . import options
from .lookup import find_notebook_id, find_run
from .output import (
    fit,
    local_time,
    note,
    plural,
    short_ids,
    split,
    table,
    write,
    write_json,
    write_line,
)
from .session import Session, with_session

#: Columns of configuration keys and metrics that are chosen without --columns.
_MAX_CHOSEN = 6
_CHOSEN_KINDS = ("config", "metric")
#: The longest value in a table.
_MAX_LENGTH = 40
#: Headings that a metric cannot have.
_TAKEN = {*FIELDS, "size", "started"}

_notebook = click.option(
    "--notebook", metavar="WHICH", help="Only runs of this record: its id or its file."
)


_all_users = click.option("--all-users", is_flag=True, help="Include the runs of all users.")
_archived = click.option("--archived", is_flag=True, help="Include archived runs.")


@click.command()
@with_session
@click.argument("where", default="")
@_notebook
@_all_users
@_archived
@click.option(
    "--sort", metavar="NAME", default="-started_at", help="Sort by this; -NAME descending."
)
@click.option("--columns", metavar="NAMES", help="The columns, separated by commas.")
@options.limit
@options.as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print the result as CSV.")
def runs(
    session: Session,
    where: str,
    notebook: str | None,
    all_users: bool,
    archived: bool,
    sort: str,
    columns: str | None,
    limit: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List the runs of all notebooks that match WHERE, the newest first.

    WHERE is a filter such as 'config.lr < 0.01 and val_acc.max > 0.9 and status == "completed" and
    "baseline" in tags'. A column is a field, a metric such as val_acc.max, or config.KEY. Archived
    runs are left out, unless WHERE names `archived`.
    """
    owner = _set_user(session, all_users)
    with session.read() as repository:
        id = None if notebook is None else find_notebook_id(repository, notebook)
        if where.endswith(".ipynb"):
            raise click.UsageError(
                f"{where} is no filter; `jupyter axon runs --notebook {where}` lists its runs"
            )
        try:
            query = RunQuery(
                where, sort, limit, user_id=owner, notebook_id=id, with_archived=archived
            )
            page = repository.runs.search(query)
            if columns is None:
                chosen = _choose_columns(page.runs, sort)
            else:
                chosen = _parse_columns(columns, repository, query)
        except InvalidFilter as error:
            raise click.UsageError(error.reason) from error
    if as_json:
        write_json([found.to_json() for found in page.runs])
    elif as_csv:
        _write_csv(page.runs, chosen)
    elif page.runs:
        rows, optional = _table(page.runs, chosen, keeps_columns=columns is not None)
        shown, left_out = fit(rows, optional)
        write(table(shown))
        if left_out:
            left_out = [heading for heading in rows[0] if heading in left_out]
            note(f"not shown on this terminal: {', '.join(left_out)}; --columns chooses columns")
    if page.total > len(page.runs):
        note(f"{len(page.runs)} of {plural(page.total, 'run')}; --limit shows more")
    elif not page.total:
        note("no run matches" if where else "there are no runs")


def _set_user(session: Session, all_users: bool) -> str | None:
    """Choose whose runs a command works on; return the user, or None for all."""
    if all_users:
        session.user = None
    return session.user


def _parse_columns(text: str, repository: NotebookRepository, query: RunQuery) -> list[Variable]:
    """Return the columns that the user names; raises InvalidFilter for unknown names."""
    scope = query.user_id, query.notebook_id
    keys, names = repository.runs.config_keys(*scope), repository.runs.metric_names(*scope)
    columns = []
    for name in filter(None, map(str.strip, text.split(","))):
        columns.append(parse_order(name).variable)
        check_names(name, columns[-1:], keys, names, "columns")
    return columns


def _choose_columns(found: Sequence[FoundRun], sort: str) -> list[Variable]:
    configs = [flat_config(one.run) for one in found]
    keys = differing_keys(configs) or list(configs[0] if configs else ())
    names = dict.fromkeys(name for one in found for name in one.run.metrics or {})
    metrics = [name for name in names if not is_system(name)]
    chosen = [Variable("config", key) for key in keys[:_MAX_CHOSEN]]
    first = parse_order(sort).variable
    chosen += [first] if first.kind == "metric" else []
    chosen += [Variable("metric", name) for name in metrics[:_MAX_CHOSEN]]
    return list(dict.fromkeys(chosen))


def _heading(variable: Variable) -> str:
    if variable.kind == "config":
        return f"config.{variable.name}"
    suffix = "" if variable.statistic == "last" else f".{variable.statistic}"
    heading = variable.name + suffix
    return f"metrics.{heading}" if variable.kind == "metric" and heading in _TAKEN else heading


def _value(found: FoundRun, variable: Variable) -> Any:
    run = found.run
    if variable.kind == "config":
        return flat_config(run).get(variable.name)
    if variable.kind == "metric":
        summary = (run.metrics or {}).get(variable.name)
        return None if summary is None else getattr(summary, variable.statistic)
    if variable.name in ("notebook", "path"):
        return getattr(found, variable.name)
    if variable.name == "name":
        return run.display_name
    return run.to_json().get(variable.name)


def _table(
    found: Sequence[FoundRun], columns: Sequence[Variable], *, keeps_columns: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a table, and which columns may be left out, the first one first."""
    ids = short_ids([one.run.id for one in found])
    has_names = any(one.run.name for one in found)
    has_tags = any(one.run.tags for one in found)
    rows = []
    for one in found:
        run = one.run
        rows.append(
            {
                "name": run.display_name,
                **({"number": run.number} if has_names else {}),
                "notebook": one.notebook,
                "status": run.status.value,
                **{_heading(column): _cell(_value(one, column)) for column in columns},
                **({"tags": ", ".join(run.tags)} if has_tags else {}),
                "size": format_size(one.size) if one.size else "",
                "started": local_time(run.started_at),
                "id": ids[run.id],
            }
        )
    if keeps_columns:
        named = {_heading(column) for column in columns}
        optional = ["size", "started", "tags", "notebook"]
        return rows, [heading for heading in optional if heading not in named]
    # The first configuration key and the first metric are left out last.
    chosen = [[_heading(one) for one in columns if one.kind == kind] for kind in _CHOSEN_KINDS]
    last = [heading for headings in chosen for heading in headings[:1]]
    others = [heading for headings in zip_longest(*chosen) for heading in headings if heading]
    first = [heading for heading in reversed(others) if heading not in last]
    is_one_notebook = len({one.run.notebook_id for one in found}) == 1
    early, late = (["notebook"], []) if is_one_notebook else ([], ["notebook"])
    return rows, ["size", "started", *early, *first, "tags", *late, *last]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return format_number(value)
    return shorten(value if isinstance(value, str) else json.dumps(value), _MAX_LENGTH)


def _write_csv(found: Sequence[FoundRun], columns: Sequence[Variable]) -> None:
    fields = ("id", "name", "number", "notebook", "status", "started_at", "ended_at")
    added = [column for column in columns if _heading(column) not in fields]
    rows = []
    for one in found:
        document = {**one.run.to_json(), "name": one.run.display_name, "notebook": one.notebook}
        values = [document.get(field) for field in fields]
        rows.append([*values, *(_value(one, column) for column in added)])
    text = io.StringIO()
    write_csv(text, [*fields, *map(_heading, added)], rows)
    write_line(text.getvalue().rstrip("\n"))


@click.command()
@with_session
@click.argument("which", nargs=-1, required=True)
@_all_users
@options.as_json
def compare(session: Session, which: tuple[str, ...], all_users: bool, as_json: bool) -> None:
    """Compare runs: configuration, metrics, executed code and environment.

    WHICH are two or more runs: names, numbers, ids, beginnings of ids, or NOTEBOOK#NUMBER, where
    NOTEBOOK is a file, or the name or id of a record. Code and
    environment are compared with those of the first run.
    """
    if len(which) < 2:
        raise click.UsageError("name at least two runs")
    owner = _set_user(session, all_users)
    with session.read() as repository:
        found = [find_run(repository, name, owner=owner) for name in which]
        comparison = repository.provenance.compare_runs(found)
        names = _unique_names(repository, found)
    if as_json:
        write_json(comparison.to_json())
        return
    config = {one.name: one.values for one in comparison.config}
    if config:
        rows = [
            {"config": name, **dict(zip(names, map(_cell, values), strict=True))}
            for name, values in config.items()
        ]
        write(*split(rows))
    else:
        note("the configurations are equal")
    rows = [
        {
            "metric": f"{metric.name}.{statistic}",
            **{
                name: "" if value is None else _cell(getattr(value, statistic))
                for name, value in zip(names, metric.values, strict=True)
            },
        }
        for metric in comparison.metrics
        if not is_system(metric.name)
        for statistic in ("last", "min", "max")
    ]
    if rows:
        write("", *split(rows), "")
    equal = []
    for name, change in zip(names[1:], comparison.changes, strict=True):
        if change is None:
            note(f"the code of {name} is not compared: a run has no checkpoint")
            continue
        packages = [] if change.environment is None else change.environment.packages
        if not change.sources and not packages:
            equal.append(name)
            continue
        write(
            f"{name}: {plural(len(change.sources), 'cell')} of the code and "
            f"{plural(len(packages), 'package')} differ from {names[0]}; "
            f"`jupyter axon diff {change.before[:8]} {change.after[:8]}` shows them"
        )
    if equal:
        write(f"the code and the packages of {', '.join(equal)} are those of {names[0]}")


def _unique_names(repository: NotebookRepository, runs: Sequence[TrainingRun]) -> list[str]:
    """Return a heading for each run: its name, with that of its notebook if there are several."""
    names = [run.display_name for run in runs]
    if len({run.notebook_id for run in runs}) > 1:
        found_in = [repository.find_summary(run.notebook_id) for run in runs]
        names = [
            name if notebook is None else f"{name} of {notebook.name}"
            for name, notebook in zip(names, found_in, strict=True)
        ]
    found: list[str] = []
    for run, name in zip(runs, names, strict=True):
        heading = name if names.count(name) == 1 else f"{name} ({run.id[:8]})"
        while heading in found or heading in ("config", "metric"):
            heading += "'"
        found.append(heading)
    return found


@click.command()
@with_session
@click.argument("which")
@_all_users
@click.option("--name", help="Its new name.")
@click.option("--notes", help="Its new notes; empty to remove them.")
@click.option("--group", help="Its new group; empty to remove it.")
@click.option("--tag", "tags", multiple=True, help="Add a tag; may be repeated.")
@click.option("--untag", "removed", multiple=True, help="Remove a tag; may be repeated.")
@click.option("--archive/--unarchive", "archived", default=None, help="Hide it from lists, or not.")
@click.option(
    "--config",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set a value of the configuration, as JSON or text; may be repeated.",
)
def edit_run(
    session: Session,
    which: str,
    all_users: bool,
    name: str | None,
    notes: str | None,
    group: str | None,
    tags: tuple[str, ...],
    removed: tuple[str, ...],
    archived: bool | None,
    pairs: tuple[str, ...],
) -> None:
    """Change the name, notes, group, tags or configuration of a run, or archive it.

    WHICH is its name, its number, its id, the beginning of its id, or NOTEBOOK#NUMBER.
    """
    if (name, notes, group, archived) == (None,) * 4 and not (tags or removed or pairs):
        raise click.UsageError(
            "nothing to change: add --name, --notes, --group, --tag, --untag, --archive, "
            "--unarchive or --config"
        )
    owner = _set_user(session, all_users)
    with session.open(for_writing=True) as opened:
        repository = opened.repository
        run = find_run(repository, which, owner=owner)
        kept = [tag for tag in dict.fromkeys([*run.tags, *tags]) if tag and tag not in removed]
        updates = UpdateRun(name=name, notes=notes, group=group, tags=kept, archived=archived)
        if pairs:
            updates.config = run.config or {}
            for pair in pairs:
                _set_value(updates.config, pair)
            updates.config_source = ConfigSource.GIVEN
        repository.runs.update(run.notebook_id, run.id, updates)


def _set_value(config: dict[str, Any], pair: str) -> None:
    """Set the value of a dotted KEY=VALUE."""
    key, separator, text = pair.partition("=")
    if not key or not separator:
        raise click.UsageError(f"--config: expected KEY=VALUE, got {pair}")
    while key not in config:
        first, _, rest = key.partition(".")
        if not rest or not isinstance(config.get(first), dict):
            break
        config, key = config[first], rest
    try:
        config[key] = msgspec.json.decode(text)
    except msgspec.DecodeError:
        config[key] = text


@click.command()
@with_session
@click.argument("which", nargs=-1, required=True)
@_all_users
@click.option("--with-pinned", is_flag=True, help="Also delete runs with pinned checkpoints.")
@click.option("--yes", is_flag=True, help="Delete the runs. Without it, they are only listed.")
@options.as_json
def delete_run(
    session: Session,
    which: tuple[str, ...],
    all_users: bool,
    with_pinned: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete runs with their series, their checkpoints and the state files of these.

    Without --yes, they are only listed. WHICH are names, numbers, ids, beginnings of ids, or
    NOTEBOOK#NUMBER. Runs that are running, and those with pinned checkpoints unless --with-pinned
    is given, are not deleted.
    """
    owner = _set_user(session, all_users)
    with session.with_states() as (repository, _):
        found = [find_run(repository, one, owner=owner) for one in which]
        runs = {(run.notebook_id, run.id): run for run in found}
        table_query = RunQuery(ids=[run.id for run in runs.values()], user_id=owner)
        # Runs of other notebooks may have the same ids.
        rows = {
            (row.notebook_id, row.id): row for row in repository.runs.read_table(table_query).runs
        }
        deleted: list[TableRun] = []
        refused: list[tuple[TrainingRun, str | None]] = []
        for key, run in runs.items():
            row = rows.get(key)
            reason = _why_not_deleted(row, with_pinned)
            if reason is None and yes:
                try:
                    repository.checkpoints.delete_run(*key, with_pinned=with_pinned)
                except AxonError as error:
                    reason = f"could not be deleted: {error}"
            if row is not None and reason is None:
                deleted.append(row)
            else:
                refused.append((run, reason))
    if as_json:
        sizes = [{"id": run.id, "bytes": run.size} for run in deleted]
        left = [run.id for run, _ in refused]
        write_json({"deleted": yes, "runs": sizes, "left_alone": left})
    elif deleted:
        shown = [
            {
                "name": run.name,
                "number": run.number,
                "status": run.status.value,
                "checkpoints": run.checkpoint_count,
                "pinned": run.pinned_count,
                "size": format_size(run.size),
                "id": run.id,
            }
            for run in deleted
        ]
        write(table(shown))
    for run, reason in refused:
        note(f"Not deleted: {run.display_name} ({run.id[:8]}) {reason}.")
    size = format_size(sum(run.size for run in deleted))
    what = f"{plural(len(deleted), 'run')} with {size} of state files"
    note(f"Deleted {what}." if yes else f"Would delete {what}. Add --yes to delete them.")
    if refused:
        raise click.exceptions.Exit(1)


def _why_not_deleted(row: TableRun | None, with_pinned: bool) -> str | None:
    """Return why a run is not deleted, or None; without a row of the table, it is damaged."""
    if row is None:
        return "is damaged"
    if row.status is RunStatus.RUNNING:
        return "is running; stop it first"
    if row.pinned_count and not with_pinned:
        return f"has {plural(row.pinned_count, 'pinned checkpoint')}; --with-pinned deletes it"
    return None


@click.command()
@with_session
@click.argument("where", default="")
@click.option("--to", "target", type=click.Choice(list(EXPORTS)), required=True, help="The format.")
@click.option("-o", "--output", "destination", required=True, help="A folder, or MLflow's URI.")
@_notebook
@_all_users
@_archived
def export(
    session: Session,
    where: str,
    target: str,
    destination: str,
    notebook: str | None,
    all_users: bool,
    archived: bool,
) -> None:
    """Export runs with their configuration and series to CSV files or to another tracker.

    WHERE is a filter, as for `runs`. TensorBoard, MLflow and W&B have to be installed for their
    formats.
    """
    owner = _set_user(session, all_users)
    with session.read() as repository:
        id = None if notebook is None else find_notebook_id(repository, notebook)
        try:
            query = RunQuery(
                where, "started_at", user_id=owner, notebook_id=id, with_archived=archived
            )
            page = repository.runs.search(query)
        except InvalidFilter as error:
            raise click.UsageError(error.reason) from error
        try:
            count = export_runs(
                (_exported(repository, found) for found in page.runs), target, destination
            )
        except OSError as error:
            raise click.ClickException(f"{destination}: {error.strerror or error}") from error
    note(f"Exported {plural(count, 'run')} to {destination}.")


def _exported(repository: NotebookRepository, found: FoundRun) -> ExportedRun:
    branch = repository.series.branch(found.run.notebook_id, found.run.id)
    return ExportedRun(
        run=found.run,
        notebook=found.notebook,
        series={name: partial(branch.read, name) for name in branch.names()},
    )
