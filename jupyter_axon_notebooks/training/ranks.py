"""Which of the processes that train one model together this is."""

from __future__ import annotations

import os
import sys
from typing import Any


def is_first() -> bool:
    """Whether this process is the one that writes: the only one, or the one of rank 0.

    The rank is PyTorch's, where its processes have found each other, else what launchers say in ``RANK``.
    """
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return bool(distributed.get_rank() == 0)
    return os.environ.get("RANK", "0") in ("", "0")
