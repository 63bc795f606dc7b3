"""The number of statements of an operation does not grow with checkpoints and runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from store.conftest import record_statements
from support.factories import code, new_checkpoint, new_notebook, new_save

from jupyter_axon_notebooks.records import RunStatus, UpdateCheckpoint
from jupyter_axon_notebooks.repository import NotebookRepository
from jupyter_axon_notebooks.repository.retention_rules import Best, Every, Newest, Tagged
from jupyter_axon_notebooks.repository.run_queries import RunQuery
from jupyter_axon_notebooks.store import Store

#: Numbers of checkpoints, which both fit in the first page of a scan.
SIZES = (4, 28)

OPERATIONS: dict[str, Callable[[NotebookRepository], Any]] = {
    "list checkpoints": lambda r: r.list_checkpoints("nb"),
    "list those of a run": lambda r: r.list_checkpoints("nb", run_id="run 1"),
    "the best, smallest": lambda r: r.checkpoints.list_best("nb", "loss", True, 100),
    "the best, largest": lambda r: r.checkpoints.list_best("nb", "loss", False, 3),
    "the best, tied": lambda r: r.checkpoints.list_best("nb", "tied", False, 3),
    "metrics": lambda r: r.series.list("nb"),
    "search runs": lambda r: r.runs.search(RunQuery()),
    "list runs": lambda r: r.runs.list("nb"),
    "list notebooks": lambda r: r.list_all(),
    "find a notebook": lambda r: r.find_by_id("nb"),
    "plan to prune": lambda r: r.retention.plan(
        "nb", [Newest(2), Best("loss", False, 2), Every(5), Tagged()]
    ),
    "pin": lambda r: r.checkpoints.update("cp 1", UpdateCheckpoint(pinned=True)),
    "create a checkpoint": lambda r: r.create_checkpoint(
        new_checkpoint("nb", epoch=9, step=9, run_id="run 1")
    ),
    "end a run": lambda r: r.runs.update_status("nb", "run 1", RunStatus.COMPLETED),
    "save": lambda r: r.save("nb", new_save(code("a", "changed"))),
    "delete": lambda r: r.delete("nb"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_number_of_statements_does_not_grow_with_checkpoints(store: Store, name: str) -> None:
    repository = NotebookRepository(store)
    counts = []
    for size in SIZES:
        repository.create(new_notebook(id="nb"), new_save(code("a")))
        for n in range(size):
            repository.create_checkpoint(
                new_checkpoint(
                    "nb",
                    {"loss": n, "tied": 1},
                    id=f"cp {n}",
                    epoch=n,
                    run_id=f"run {n}",
                    model_state_path=f"/states/nb/cp {n}/model",
                )
            )
        with record_statements(store) as sent:
            OPERATIONS[name](repository)
        counts.append(
            sum(len(rows) if isinstance(rows, list) and name == "delete" else 1 for _, rows in sent)
        )
        if name != "delete":
            repository.delete("nb")
    assert counts[0] == counts[1], sent
