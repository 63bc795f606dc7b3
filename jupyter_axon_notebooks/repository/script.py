"""What was executed as a Python script. Pure."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence

from ..provenance import ExecutedCell

#: Cell magics whose body is code of the notebook's own.
_AROUND_PYTHON = ("%%time", "%%timeit", "%%capture", "%%prun")


def script_of(executed: Sequence[ExecutedCell], title: str = "") -> str:
    """The cells in the order in which they were executed, each beneath its ``# In [3]``.

    What only IPython understands (``%magic``, ``!command``, ``name?``) is commented out, and so is a cell that is no Python
    whatever is left out of it. A cell that awaits is left as it is, for a script has no place where it could.
    """
    parts = [f"# {title}" if title else ""]
    for cell in executed:
        if cell.execution_count is not None:
            failed = "" if cell.status is None or cell.status.value != "error" else ", which failed"
            parts.append(f"# In [{cell.execution_count}]{failed}\n{python_of(cell.source)}")
        else:
            parts.append(python_of(cell.source))
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def python_of(source: str) -> str:
    """A cell's source as Python: lines that are none are commented out, one after the other."""
    lines = source.split("\n")
    if lines and lines[0].startswith("%%"):
        if not lines[0].startswith(_AROUND_PYTHON):
            return _commented(lines)
        lines[0] = f"# {lines[0]}"
    for _ in range(len(lines) + 1):
        fault = _fault(lines)
        if fault is None:
            return "\n".join(lines)
        if not 0 < fault <= len(lines) or not _is_magic(lines[fault - 1]):
            break
        end = fault
        while lines[end - 1].endswith("\\") and end < len(lines):
            end += 1
        text = "# " + " ".join(line.strip() for line in lines[fault - 1 : end])
        margin = lines[fault - 1][: -len(lines[fault - 1].lstrip())]
        lines[fault - 1 : end] = [f"{margin}pass  {text}" if margin else text]
    return _commented(source.split("\n"))


def _fault(lines: Sequence[str]) -> int | None:
    """The line at which it stops being Python; None where all of it is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the code does, which is its author's affair
            compile("\n".join(lines), "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        return error.lineno or 0
    except (ValueError, RecursionError, MemoryError):
        return 0
    return None


_MAGIC = re.compile(r"\s*(?:[%!?]|.*\?\s*$|(?:[^=]+=\s*)[%!])")


def _is_magic(line: str) -> bool:
    return _MAGIC.match(line) is not None


def _commented(lines: Sequence[str]) -> str:
    return "\n".join(f"# {line}".rstrip() for line in lines)
