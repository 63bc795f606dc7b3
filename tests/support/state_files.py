"""States on disk as they are written: piece by piece."""

from __future__ import annotations

from pathlib import Path

from jupyter_axon_notebooks.training.formats import EncodedState


def written(encoded: EncodedState, folder: Path, name: str = "state") -> str:
    """The path of a file of ``encoded``, which is exactly as long as that says."""
    path = folder / f"{name}.{encoded.format}"
    with path.open("wb") as file:
        for chunk in encoded.chunks():
            assert chunk.contiguous
            file.write(chunk)
    assert path.stat().st_size == encoded.size
    return str(path)
