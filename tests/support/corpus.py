"""The notebooks that tests read: those in tests/data/corpus, and those in the folder that AXON_CORPUS names."""

from __future__ import annotations

import os
from pathlib import Path

_OURS = Path(__file__).parents[1] / "data" / "corpus"
_FOLDERS = [_OURS, *(Path(more) for more in [os.environ.get("AXON_CORPUS")] if more)]


def notebooks() -> dict[str, Path]:
    """The corpus's files by ``folder/name``."""
    return {
        f"{path.parent.name}/{path.name}": path
        for folder in _FOLDERS
        for path in sorted(folder.glob("**/*.ipynb"))
    }


def notebook(name: str) -> str:
    """The text of one of the notebooks in tests/data/corpus."""
    return (_OURS / name).read_text(encoding="utf-8")
