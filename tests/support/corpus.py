"""Notebooks to test with: those in tests/data/corpus and in the folder of ``AXON_CORPUS``."""

from __future__ import annotations

import os
from pathlib import Path

_CORPUS = Path(__file__).parents[1] / "data" / "corpus"
_FOLDERS = [_CORPUS, *map(Path, filter(None, [os.environ.get("AXON_CORPUS")]))]


def notebooks() -> dict[str, Path]:
    """Return the files of the corpus by ``folder/name``."""
    return {
        f"{path.parent.name}/{path.name}": path
        for folder in _FOLDERS
        for path in sorted(folder.glob("**/*.ipynb"))
    }


def notebook(name: str) -> str:
    """Return the text of a notebook in tests/data/corpus."""
    return (_CORPUS / name).read_text(encoding="utf-8")
