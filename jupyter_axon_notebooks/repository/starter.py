"""What a notebook that is created with nothing in it begins with."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import CellType, NotebookCell, NotebookMetadata

#: Type and source of the starter cells, as upstream has them.
STARTER_CELLS: tuple[tuple[str, str], ...] = (
    ("markdown", "# Training Notebook\n\nDescribe your training experiment here."),
    (
        "code",
        "# Import AxonML\nimport axonml\nfrom axonml import nn, optim, data\n\n"
        'print(f"AxonML version: {axonml.__version__}")',
    ),
)


def starter_cells(templates: Sequence[tuple[str, str]]) -> list[NotebookCell]:
    """New cells from pairs of type and source."""
    return [NotebookCell(cell_type=CellType(kind), source=source) for kind, source in templates]


def starter_metadata() -> NotebookMetadata:
    """The metadata of a record that no file describes."""
    return NotebookMetadata(kernel="axonml", language="rust", framework="axonml")
