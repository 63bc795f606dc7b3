"""The notebooks that tests read: those in tests/data/corpus, and more where there are more."""

from __future__ import annotations

import os
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]
_FOLDERS = [
    _REPOSITORY / "tests" / "data" / "corpus",
    Path(os.environ.get("AXON_CORPUS", _REPOSITORY.parent / "shared" / "corpus")),
]


def notebooks() -> dict[str, Path]:
    """The corpus's files by ``folder/name``."""
    return {
        f"{path.parent.name}/{path.name}": path
        for folder in _FOLDERS
        for path in sorted(folder.glob("**/*.ipynb"))
    }


def notebook(name: str) -> str:
    """The text of one of the notebooks in tests/data/corpus."""
    return (_FOLDERS[0] / name).read_text(encoding="utf-8")
