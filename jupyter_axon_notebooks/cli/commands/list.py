"""``jupyter axon list``: which records there are."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ...records import NotebookStatus, NotebookSummary
from ..output import Column, local_time, note, short_ids, status_text, table, write, write_json
from ..session import Session, with_session
from ..which import deletion


@click.command()
@with_session
@click.option("--all-users", is_flag=True, help="Everybody's records, not only one's own.")
@click.option("--user", metavar="NAME", help="The records of this user.")
@click.option(
    "--status", type=click.Choice([status.value for status in NotebookStatus]), help="Only these."
)
@click.option("--tag", help="Only those with this tag.")
@click.option(
    "--search", metavar="TEXT", help="Only those with this text in their name or description."
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many."
)
@click.option(
    "--json", "as_json", is_flag=True, help="The records as a JSON array, without their cells."
)
def command(
    session: Session,
    all_users: bool,
    user: str | None,
    status: str | None,
    tag: str | None,
    search: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List notebook records, the last changed first."""
    if all_users and user is not None:
        raise click.UsageError("--all-users and --user exclude each other")
    session.user = owner = None if all_users else user or session.config.user_id
    wanted = NotebookStatus(status) if status is not None else None
    with session.reading() as repository:
        if owner is None:
            found = repository.list_all(limit, status=wanted, tag=tag, text=search)
        else:
            found = repository.list_by_user(owner, limit, status=wanted, tag=tag, text=search)
        more = len(found) == limit
        total = repository.count(owner, status=wanted, tag=tag, text=search) if more else len(found)
    if as_json:
        write_json([summary.to_json() for summary in found])
    elif found:
        _write_table(found, all_users)
    else:
        note(_none(owner, status, tag, search))
    if total > len(found):
        note(f"{len(found)} of {total}; --limit shows more.")


def _none(owner: str | None, status: str | None, tag: str | None, search: str | None) -> str:
    wanted = [
        *([f"the status {status}"] if status is not None else []),
        *([f"the tag {tag}"] if tag is not None else []),
        *([f"{search!r} in its name or description"] if search is not None else []),
    ]
    of = "" if owner is None else f" of {owner}"
    return f"No record{of} has {' and '.join(wanted)}." if wanted else f"No records{of}."


def _place(summary: NotebookSummary) -> str:
    deleted = deletion(summary)
    return summary.path or (f"deleted {local_time(deleted)}" if deleted is not None else "")


def _write_table(found: Sequence[NotebookSummary], with_owner: bool) -> None:
    short = short_ids([summary.id for summary in found])
    columns: list[Column] = [
        ("name", {"overflow": "ellipsis"}),
        *([("owner", {})] if with_owner else []),
        ("status", {"no_wrap": True}),
        ("cells", {"justify": "right", "no_wrap": True}),
        ("updated", {"no_wrap": True}),
        ("id", {"no_wrap": True}),
        ("path", {"overflow": "fold"}),
    ]
    rows = [
        [
            summary.name,
            *([summary.user_id] if with_owner else []),
            status_text(summary.status.value),
            summary.cell_count,
            local_time(summary.updated_at),
            short[summary.id],
            _place(summary),
        ]
        for summary in found
    ]
    write(table(columns, rows))
