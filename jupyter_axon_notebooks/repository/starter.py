"""The cells and metadata of a record that is created without a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..records import CellType, NotebookCell, NotebookMetadata

#: Type and source of the cells of a new notebook, as in the upstream.
STARTER_CELLS: Final[tuple[tuple[str, str], ...]] = (
    ("markdown", "# Training Notebook\n\nDescribe your training experiment here."),
    (
        "code",
        "# Import AxonML\nimport axonml\nfrom axonml import nn, optim, data\n\n"
        'print(f"AxonML version: {axonml.__version__}")',
    ),
)


def starter_cells(templates: Sequence[tuple[str, str]] = STARTER_CELLS) -> list[NotebookCell]:
    """Return new cells from pairs of type and source."""
    return [NotebookCell(cell_type=CellType(kind), source=source) for kind, source in templates]


def starter_metadata() -> NotebookMetadata:
    """Return the upstream's metadata, for a record without a file."""
    return NotebookMetadata(kernel="axonml", language="rust", framework="axonml")
