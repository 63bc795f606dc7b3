"""The export of executed cells as a Python script. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..provenance import ExecutedCell
from ..records import CellStatus
from .magics import MAX_PARSED, read_cell

#: Functions that IPython provides to notebooks: their import, and a replacement without IPython.
_IPYTHON_FUNCTIONS: Final = {
    "display": ("from IPython.display import display", "display = print"),
    "get_ipython": ("from IPython import get_ipython", "get_ipython = lambda: None"),
}


def export_script(executed: Sequence[ExecutedCell], title: str = "") -> str:
    """Return the executed cells in order, each below a comment such as ``# In [3]``.

    Code that a magic runs, as in ``%time model.fit(x)`` and below ``%%time``, is part of the
    script. Other IPython syntax (magics, ``!command``, ``name?``) is commented out. A cell that is
    not valid Python after that, as one with ``await`` outside of a function, is commented out as a
    whole. Imports from ``__future__``, and definitions of IPython's ``display`` and
    ``get_ipython``, are at the start of the script.
    """
    parts = []
    features: dict[str, None] = {}
    for cell in executed:
        failed = cell.status is CellStatus.ERROR
        lines = _python_lines(cell.source, failed=failed)
        features.update(dict.fromkeys(line for line in lines if _is_feature(line)))
        python = "\n".join(_comment(line) if _is_feature(line) else line for line in lines)
        if cell.execution_count is not None:
            python = f"# In [{cell.execution_count}]{', which failed' if failed else ''}\n{python}"
        parts.append(python)
    start = [
        f"try:\n    {import_}\nexcept ImportError:\n    {replacement}"
        for name, (import_, replacement) in _IPYTHON_FUNCTIONS.items()
        if any(f"{name}(" in part for part in parts)
    ]
    parts = [_comment(title) if title else "", "\n".join(features), *start, *parts]
    script = "\n\n".join(part.rstrip() for part in parts if part) + "\n"
    return script.replace("\0", "\\x00")  # invalid in Python source, even in comments


def _python_lines(source: str, *, failed: bool) -> list[str]:
    """Return the lines of a cell in Python, or one comment if it is not valid Python.

    A source longer than :data:`.MAX_PARSED` counts as valid unless the cell ``failed``.
    """
    cell = read_cell(source)
    lines = [*(_comment(head) for head in cell.heads), *cell.lines]
    python = "\n".join(lines)
    is_valid = not failed if len(python) > MAX_PARSED else cell.is_python
    return lines if is_valid else [_comment(source)]


def _is_feature(line: str) -> bool:
    return line.startswith("from __future__ import ")


def _comment(text: str) -> str:
    # Python also ends lines at carriage returns.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(f"# {line}".rstrip() for line in lines)
