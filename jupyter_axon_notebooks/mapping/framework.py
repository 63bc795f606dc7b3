"""Which training framework a notebook uses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ..records import CellType, NotebookCell

#: By top-level module, Python's or (``use …;``) Rust's.
_FRAMEWORKS = {
    "accelerate": "pytorch",
    "axonml": "axonml",
    "burn": "burn",
    "candle_core": "candle",
    "candle_nn": "candle",
    "catboost": "catboost",
    "chainer": "chainer",
    "deepspeed": "pytorch",
    "diffusers": "diffusers",
    "equinox": "jax",
    "fastai": "fastai",
    "flax": "jax",
    "haiku": "jax",
    "jax": "jax",
    "keras": "keras",
    "lightgbm": "lightgbm",
    "lightning": "pytorch",
    "mindspore": "mindspore",
    "mlx": "mlx",
    "mxnet": "mxnet",
    "optax": "jax",
    "paddle": "paddlepaddle",
    "peft": "transformers",
    "pytorch_lightning": "pytorch",
    "sentence_transformers": "transformers",
    "sklearn": "scikit-learn",
    "tensorflow": "tensorflow",
    "tf_keras": "keras",
    "tinygrad": "tinygrad",
    "torch": "pytorch",
    "torchaudio": "pytorch",
    "torchvision": "pytorch",
    "transformers": "transformers",
    "trl": "transformers",
    "xgboost": "xgboost",
}

# Read line by line, not parsed: cells hold magics, shell lines and half-typed code. An attempt to match begins at the start of a
# line or behind a semicolon and does not go beyond the next one, and no two repetitions within it can share characters:
# the time is linear in the length of a cell.
_IMPORT = re.compile(
    r"""(?:^|;)[ \t]*
    (?: from[ \t]+(?P<package>\w+)(?:\.[\w.]*)?[ \t]+import\b
      | import[ \t]+(?P<modules>\w[\w., \t]*)
      | (?:pub[ \t]+)?use[ \t]+(?P<crate>\w+)[ \t]*(?:::|;)
    )""",
    re.MULTILINE | re.VERBOSE,
)


def detect_framework(cells: Iterable[NotebookCell]) -> str | None:
    """The framework of the first import of a known one, in the order of the code cells; None without any."""
    for cell in cells:
        if cell.cell_type is CellType.CODE:
            for module in _imported(cell.source):
                if module in _FRAMEWORKS:
                    return _FRAMEWORKS[module]
    return None


def _imported(source: str) -> Iterator[str]:
    """The top-level modules that ``source`` imports, in order."""
    for match in _IMPORT.finditer(source):
        if match["modules"] is None:
            yield match["package"] or match["crate"]
        else:
            for module in match["modules"].split(","):
                yield module.strip().partition(" ")[0].partition("\t")[0].partition(".")[0]
