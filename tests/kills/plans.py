"""Operations on a store, and plans of them: one for each way an operation can go, and random ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from support.factories import code, markdown

from jupyter_axon_notebooks.records import CellStatus, NotebookCell

if TYPE_CHECKING:
    from .model import Model

#: The origin of every record in a plan.
ORIGIN = "an origin"
#: Characters; contents of more than :data:`AHEAD` in one save are written ahead of it, by the processes that are killed.
LARGE = 1500
AHEAD = 2000


class Operation(NamedTuple):
    """A method of :class:`~.hands.Hands` and of :class:`~.model.Model`, and its arguments."""

    name: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r:.60}' for name, value in self.arguments.items())})"


Plan = list[Operation]


def op(name: str, id: str, **arguments: Any) -> Operation:
    return Operation(name, {"id": id, **arguments})


def trained(epochs: int, *, size: int = 10) -> list[NotebookCell]:
    """A notebook after so many epochs: prose, code, and a cell that prints."""
    log = "".join(f"epoch {epoch} loss {1 / (1 + epoch)}\n" for epoch in range(epochs))
    return [
        markdown("title", "# Training"),
        code("imports", "import torch", count=1),
        code("fit", "fit(model)", *([log] if log else []), "x" * size, count=2 + epochs),
    ]


def _large(epochs: int) -> list[NotebookCell]:
    more = [code(f"plot{n}", f"plot({n})", f"{n}{epochs}" * LARGE, count=9) for n in range(4)]
    return [*trained(epochs), *more]


def _checkpoint(id: str, **fields: Any) -> Operation:
    given = {
        "notebook_id": "nb",
        "epoch": 1,
        "step": 10,
        "metrics": {"loss": 0.5, "accuracy": 0.9},
        **fields,
    }
    return op("create_checkpoint", id, **given)


_CREATED = [op("create_saved", "nb", cells=trained(1), path="/a.ipynb")]
_BOTH = {"model": b"weights" * 40, "optimizer": b"moments" * 50}
_RECORDED = [
    *_CREATED,
    op(
        "record_checkpoint",
        "cp",
        notebook_id="nb",
        epoch=1,
        step=10,
        metrics={"loss": 0.5, "gone": float("nan")},
        run_id="run",
        states=_BOTH,
    ),
]
_AGAIN = {"model": b"better weights" * 30}


def _again(**fields: Any) -> Operation:
    given = {
        "notebook_id": "nb",
        "epoch": 1,
        "step": 10,
        "metrics": {"loss": 0.25},
        "states": _AGAIN,
        **fields,
    }
    return op("record_checkpoint", "again", **given)


_REPLACED = op("update_cell", "nb", cell=code("imports", "import jax"))

#: By name: what was done before, and the operation in which a process is killed at every point.
SCENARIOS: dict[str, tuple[Plan, Operation]] = {
    "create": ([], op("create", "nb", cells=trained(0))),
    "create, written ahead": ([], op("create_saved", "nb", cells=_large(1), path="/a.ipynb")),
    "save of new outputs": (_CREATED, op("save", "nb", cells=trained(2))),
    "save of new sources": (_CREATED, op("save", "nb", cells=trained(2)[1:])),
    "save of new outputs, a checkpoint refers to the old": (
        _RECORDED,
        op("save", "nb", cells=trained(2)),
    ),
    "save, written ahead": (_RECORDED, op("save", "nb", cells=_large(2))),
    "save of new outputs, written ahead": (
        [*_CREATED, op("save", "nb", cells=_large(1))],
        op("save", "nb", cells=_large(2)),
    ),
    "update": (_CREATED, op("update", "nb", description="spirals", tags=["best"], model_id="m")),
    "update of cells, written ahead": (_CREATED, op("update", "nb", cells=_large(2))),
    "add a cell": (_CREATED, op("add_cell", "nb", cell=code("new", "pass"), position=1)),
    "update a cell": (_CREATED, _REPLACED),
    "change a cell": (_CREATED, op("change_cell", "nb", cell_id="fit", more="\nsave(model)")),
    "delete a cell": (_CREATED, op("delete_cell", "nb", cell_id="fit")),
    "bind where another is": (
        [*_CREATED, op("create", "other", cells=trained(0), path="/b.ipynb")],
        op("bind", "nb", path="/b.ipynb"),
    ),
    "release": (_CREATED, op("release", "nb")),
    "delete": ([*_RECORDED, _REPLACED, _checkpoint("other")], op("delete", "nb")),
    "checkpoint": (_CREATED, _checkpoint("cp")),
    "checkpoint that begins a run": (_CREATED, _checkpoint("cp", run_id="run")),
    "checkpoint after its files": (_CREATED, _RECORDED[1]),
    "attach a state": (
        [*_CREATED, _checkpoint("cp")],
        op("attach_state", "cp", part="model", content=b"w" * 300),
    ),
    "attach a second state": (
        [*_CREATED, _checkpoint("cp"), op("attach_state", "cp", part="model", content=b"w" * 300)],
        op("attach_state", "cp", part="optimizer", content=b"m" * 300),
    ),
    "remove old versions": (
        [*_RECORDED, _REPLACED, *(op("save", "nb", cells=trained(n)[n % 2 :]) for n in range(6))],
        op("tidy", "nb", keep=2),
    ),
    "label a checkpoint": (_RECORDED, op("update_checkpoint", "cp", tags=["kept"], pinned=True)),
    "delete a checkpoint": (_RECORDED, op("delete_checkpoint", "cp")),
    "checkpoint in the place of another": (_RECORDED, _again(run_id="run", overwrite=True)),
    "prune": (
        [
            *_RECORDED,
            op("update_run_status", "run", notebook_id="nb", status="completed"),
            _again(),
        ],
        op("prune", "nb", keep=1),
    ),
    "begin a run": (_CREATED, op("create_run", "run", notebook_id="nb")),
    "end a run": (_RECORDED, op("update_run_status", "run", notebook_id="nb", status="completed")),
}


def random_plan(model: Model, seed: str, length: int) -> Plan:
    """``length`` operations that are possible one after the other where ``model`` holds; it holds after them then."""
    author = _Author(model, random.Random(seed))
    plan = []
    while len(plan) < length:
        operation = author.next()
        if operation is not None:
            model.apply(operation)
            plan.append(operation)
    return plan


class _Author:
    def __init__(self, model: Model, dice: random.Random) -> None:
        self._model = model
        self._dice = dice
        self._made = 0

    def next(self) -> Operation | None:
        """An operation drawn at random; None where the one that was drawn has nothing to work on."""
        kinds: list[tuple[int, Callable[[], Operation | None]]] = [
            (2, self._create),
            (8, self._save),
            (6, self._edit),
            (2, self._update),
            (2, self._bind),
            (8, self._checkpoint),
            (4, self._attach),
            (1, self._label),
            (1, self._run),
            (2, self._delete_checkpoint),
            (1, self._delete),
            (1, self._tidy),
        ]
        weights, makers = zip(*kinds, strict=True)
        return self._dice.choices(makers, weights)[0]()

    def _fresh(self, kind: str) -> str:
        self._made += 1
        return f"{kind}-{self._made}"

    def _any(self, ids: Any) -> str | None:
        known = sorted(ids)
        return self._dice.choice(known) if known else None

    def _notebook(self) -> str | None:
        return self._any(self._model.notebooks)

    def _cells(self) -> list[NotebookCell]:
        if self._dice.random() < 0.2:
            return _large(self._dice.randrange(100))
        cells = trained(self._dice.randrange(100), size=self._dice.choice([0, 100, 5000]))
        return cells[self._dice.randrange(2) :]

    def _path(self) -> str | None:
        path = f"/{self._dice.randrange(6)}.ipynb"
        return None if any(one.path == path for one in self._model.notebooks.values()) else path

    def _create(self) -> Operation:
        name = self._dice.choice(["create", "create_saved"])
        return op(name, self._fresh("nb"), cells=self._cells(), path=self._path())

    def _save(self) -> Operation | None:
        id = self._notebook()
        return None if id is None else op("save", id, cells=self._cells())

    def _edit(self) -> Operation | None:
        id = self._notebook()
        if id is None:
            return None
        cells = self._model.notebooks[id].cells
        cell_id = self._dice.choice(cells).id if cells else None
        made = code(cell_id or "", f"edited {self._dice.random()}", status=CellStatus.RUNNING)
        return self._dice.choice(list(_edits(id, cell_id, made, self._fresh("cell"), len(cells))))

    def _update(self) -> Operation | None:
        id = self._notebook()
        if id is None:
            return None
        given = {"description": f"{self._dice.random()}", "tags": [f"t{self._dice.randrange(3)}"]}
        return op("update", id, **given, status=self._dice.choice(["running", "stopped", "failed"]))

    def _bind(self) -> Operation | None:
        id = self._notebook()
        if id is None:
            return None
        if self._dice.random() < 0.3:
            return op("release", id)
        return op("bind", id, path=f"/{self._dice.randrange(6)}.ipynb")

    def _checkpoint(self) -> Operation | None:
        notebook_id = self._notebook()
        if notebook_id is None:
            return None
        id = self._fresh("cp")
        runs = [
            None,
            *(run for run, (owner, _) in self._model.runs.items() if owner == notebook_id),
        ]
        given: dict[str, Any] = {
            "notebook_id": notebook_id,
            "epoch": self._made,
            "step": self._dice.randrange(10**6),
            "metrics": {
                "loss": self._dice.random(),
                "accuracy": self._dice.choice([0.5, float("inf")]),
            },
            "run_id": self._dice.choice([*runs, self._fresh("run")]),
        }
        if self._dice.random() < 0.5:
            return op("create_checkpoint", id, **given)
        parts = self._dice.choice([["model"], ["model", "optimizer"]])
        return op(
            "record_checkpoint", id, **given, states={part: self._content() for part in parts}
        )

    def _content(self) -> bytes:
        return self._dice.randbytes(self._dice.choice([0, 1, 3000, 70_000]))

    def _attach(self) -> Operation | None:
        free = [
            (id, part)
            for id, found in sorted(self._model.checkpoints.items())
            for part in ("model", "optimizer")
            if part not in found.files
        ]
        if not free:
            return None
        id, part = self._dice.choice(free)
        return op("attach_state", id, part=part, content=self._content())

    def _label(self) -> Operation | None:
        id = self._any(self._model.checkpoints)
        if id is None:
            return None
        return op(
            "update_checkpoint",
            id,
            tags=[f"{self._dice.random()}"],
            pinned=self._dice.random() < 0.5,
        )

    def _run(self) -> Operation | None:
        id, notebook_id = self._any(self._model.runs), self._notebook()
        if id is not None and self._dice.random() < 0.7:
            status = self._dice.choice(["completed", "failed", "running"])
            return op("update_run_status", id, notebook_id=self._model.runs[id][0], status=status)
        return (
            None
            if notebook_id is None
            else op("create_run", self._fresh("run"), notebook_id=notebook_id)
        )

    def _delete_checkpoint(self) -> Operation | None:
        id = self._any(self._model.checkpoints)
        return None if id is None else op("delete_checkpoint", id)

    def _tidy(self) -> Operation | None:
        id = self._notebook()
        return None if id is None else op("tidy", id, keep=self._dice.randrange(1, 4))

    def _delete(self) -> Operation | None:
        id = self._notebook()
        return None if id is None else op("delete", id)


def _edits(
    id: str, cell_id: str | None, made: NotebookCell, new_id: str, count: int
) -> Iterator[Operation]:
    yield op("add_cell", id, cell=code(new_id, "pass"), position=count // 2)
    if cell_id is not None:
        yield op("update_cell", id, cell=made)
        yield op("change_cell", id, cell_id=cell_id, more="\n# more")
        yield op("delete_cell", id, cell_id=cell_id)
