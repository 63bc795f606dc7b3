"""The checks of a killed operation: it took effect completely or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from support.factories import check_contents
from support.sites import OpenSite, Site

from jupyter_axon_notebooks.repository import NotebookRepository

from .killing import ACKNOWLEDGEMENT, Kill, Outcome, execute_and_kill
from .observation import Observation, difference, find_unlisted, is_empty, observe
from .operations import Operation, execute


def check_kill(
    site: Site,
    operation: Operation,
    kill: Kill,
    before: Observation,
    after: Observation,
) -> Outcome:
    """Kill a process in an operation and check the store.

    ``before`` and ``after`` are the content of the store before the operation and after it.
    """
    outcome = execute_and_kill(site, operation, kill)
    with site.open() as opened:
        seen = observe(opened)
        must_be_done = outcome.has_returned or outcome.killed_at == ACKNOWLEDGEMENT
        if must_be_done or difference(before, seen):
            problem = difference(after, seen)
            assert not problem, f"{kill}: {operation}\n{problem}"
            outcome.took_effect = True
        if outcome.record is not None:
            kind, record = outcome.record
            assert _find(opened.repository, kind, record) == record
        # Staged contents of the notebook may remain until its next version.
        assert find_unlisted(opened.store) <= {operation.arguments["id"]}
        if not outcome.took_effect:
            execute(opened, operation)
            problem = difference(after, observe(opened))
            assert not problem, f"{kill}: {operation}, executed again\n{problem}"
    return outcome


def check_everything_goes(opened: OpenSite) -> None:
    """Delete all notebooks, and check that nothing is left."""
    for summary in opened.repository.list_all():
        opened.repository.delete(summary.id)
    assert is_empty(observe(opened))
    check_contents(opened.store)


def expected_states(
    site: Site, setup: Sequence[Operation], operation: Operation
) -> tuple[Observation, Observation]:
    """Return the content of a store before and after an undisturbed operation.

    The store is empty afterwards.
    """
    with site.open() as opened:
        execute(opened, *setup)
        before = observe(opened)
        execute(opened, operation)
        after = observe(opened)
        check_everything_goes(opened)
    return before, after


def _find(repository: NotebookRepository, kind: str, acknowledged: dict[str, Any]) -> Any:
    id = acknowledged["id"]
    if kind == "TrainingRun":
        found: Any = repository.runs.get(acknowledged["notebook_id"], id)
    else:
        found = {
            "TrainingNotebook": repository.find_by_id,
            "NotebookSummary": repository.find_summary,
            "NotebookCheckpoint": repository.get_checkpoint,
        }[kind](id)
    assert found is not None, f"{kind} {id} was acknowledged and is missing"
    return found.to_json()
