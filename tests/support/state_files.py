"""State files on disk."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from jupyter_axon_notebooks.states import Part, StateStorage, StoredState
from jupyter_axon_notebooks.training.formats import (
    EncodedState,
    RestoredTraining,
    Source,
    encode_training,
    leave_inference_mode,
    prepare_model,
    prepare_training,
)

#: State files of the first release with this format, which every later release must restore.
OLD_STATES = Path(__file__).parents[1] / "data" / "states"


def save_state(encoded: EncodedState, folder: Path, name: str = "state") -> str:
    """Write the file of an encoded state and return its path."""
    path = folder / f"{name}.{encoded.format}"
    with path.open("wb") as file:
        for chunk in encoded.chunks():
            assert chunk.contiguous
            file.write(chunk)
    assert path.stat().st_size == encoded.size
    return str(path)


def restore_model(path: str, model: Any | None, *, trusted: bool = False) -> Any:
    """Restore a model from the file at ``path``."""
    with leave_inference_mode():
        with open(path, "rb") as file:
            restore = prepare_model(Source(path, file), model, trusted=trusted)
        return restore()


def restore_training(
    path: str, optimizer: Any | None, extra: Any | None, *, rng: bool
) -> RestoredTraining:
    """Restore a training from the file at ``path``."""
    with leave_inference_mode():
        with open(path, "rb") as file:
            restore = prepare_training(Source(path, file), optimizer, extra, rng=rng)
        restored: RestoredTraining = restore()
        return restored


def round_trip(value: Any, folder: Path) -> Any:
    """Return a value after it was saved and restored."""
    path = save_state(encode_training(None, value, rng=False), folder)
    return restore_training(path, None, None, rng=False).extra


def tensor_file(tensors: Any, data: bytes = bytes(8), **metadata: Any) -> bytes:
    """Return a safetensors file with any header, valid or not."""
    header = tensors
    if not isinstance(tensors, bytes):
        document = {**({"__metadata__": metadata} if metadata else {}), **tensors}
        header = json.dumps(document).encode()
    return len(header).to_bytes(8, "little") + header + data


def tree_index(tree: Any, version: Any = 1) -> str:
    """Return the JSON that describes the values in a file of this package."""
    return json.dumps({"version": version, "tree": tree})


def write_state(
    storage: StateStorage,
    content: bytes = b"weights",
    notebook: str = "n",
    checkpoint: str = "c",
    part: Part = "model",
    format: str | None = None,
) -> StoredState:
    """Write and commit a state file."""
    with storage.open_writer(notebook, checkpoint, part, format=format) as writer:
        writer.write(content)
        return writer.commit()


def read_state(storage: StateStorage, path: str, notebook: str = "n") -> bytes:
    """Return the content of a state file."""
    with storage.open(path, notebook) as file:
        return file.read()


def list_files(root: Path) -> list[str]:
    """Return the relative paths of all files and folders below ``root``."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def make_older(path: Path, seconds: float = 86_400.0) -> None:
    """Set the times of everything in ``path`` to some time ago."""
    then = time.time() - seconds
    for entry in [*path.rglob("*"), path]:
        os.utime(entry, (then, then), follow_symlinks=False)
