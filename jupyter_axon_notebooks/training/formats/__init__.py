"""The formats of state files.

A state is a safetensors file, which other programs can read; values other than tensors are JSON in
its metadata. scikit-learn estimators are skops files. Nothing is pickled, and no framework is
imported that is not in use.

* :mod:`.files`: the two files of a checkpoint, and the formats of models
* :mod:`.tree`: nested values; :mod:`.arrays`, :mod:`.objects`: their arrays and objects
* :mod:`.tensor_files`: safetensors files
* :mod:`.scikit`: estimators
* :mod:`.restore_plan`: restoring stored values into existing objects
* :mod:`.rng`: the states of random generators
"""

from __future__ import annotations

from .files import (
    EncodedState,
    Format,
    RestoredTraining,
    encode_model,
    encode_training,
    explain_immutable,
    prepare_model,
    prepare_training,
)
from .restore_plan import PendingRestore
from .tensor_files import Source

__all__ = [
    "EncodedState",
    "Format",
    "PendingRestore",
    "RestoredTraining",
    "Source",
    "encode_model",
    "encode_training",
    "explain_immutable",
    "prepare_model",
    "prepare_training",
]
