"""What was executed as a Python script. Pure."""

from __future__ import annotations

import ast
import inspect
import symtable
from collections.abc import Iterator, Sequence
from types import CodeType
from typing import Final

from ..provenance import ExecutedCell
from ..records import CellStatus
from .magics import MAX_PARSED, Command, compiled, parsed, read_cell, setup_of, statement_of

#: Names that IPython gives to notebooks: where they are in IPython, and what stands for them without it.
_GIVEN: Final = {
    "display": ("from IPython.display import display", "display = print"),
    "get_ipython": ("from IPython import get_ipython", "get_ipython = lambda: None"),
}


def script_of(executed: Sequence[ExecutedCell], title: str = "") -> str:
    """Return the cells in the order in which they were executed, each below its ``# In [3]``.

    What a magic runs is in the script: of ``%time model.fit(x)`` and in a cell of ``%%time``. Everything else that only IPython
    understands (other magics, ``!command``, ``name?``) is commented out, and so is a cell whose remainder is not valid Python.
    A cell that uses ``await`` outside of a function runs in one of its own, in an event loop of its own. Imports from
    ``__future__`` and the names that IPython gives to notebooks, ``display`` and ``get_ipython``, are at the start.
    """
    parts = []
    features: set[str] = set()
    names: set[str] = set()
    for cell in executed:
        failed = cell.status is CellStatus.ERROR
        lines = [
            _without_features(line, features) for line in _lines_of(cell.source, failed=failed)
        ]
        code = compiled("\n".join(lines))
        if code is not None:
            names.update(_names_in(code))
            if code.co_flags & inspect.CO_COROUTINE:
                lines = _awaited(lines)
        python = "\n".join(lines)
        if cell.execution_count is not None:
            python = f"# In [{cell.execution_count}]{', which failed' if failed else ''}\n{python}"
        parts.append(python)
    start = [f"from __future__ import {', '.join(sorted(features))}"] if features else []
    start += [
        f"try:\n    {there}\nexcept ImportError:\n    {otherwise}"
        for name, (there, otherwise) in _GIVEN.items()
        if name in names
    ]
    parts = [*([_commented(title)] if title else []), *start, *parts]
    script = "\n\n".join(part.rstrip() for part in parts if part) + "\n"
    return script.replace("\0", "\\x00")  # which Python refuses, in comments as well


def _lines_of(source: str, *, failed: bool) -> list[str]:
    """Return the logical lines of a cell in Python; a whole cell that is commented out is one.

    A source longer than :data:`.MAX_PARSED` is not parsed: it is taken for valid unless the cell ``failed``.
    """
    cell = read_cell(source)
    if cell.foreign:
        return [_commented(source)]
    lines: list[str] = []
    for head in cell.heads:
        setup = setup_of(head)
        lines.append(_commented(head.written) if setup is None else _marked(setup, head))
    lines += [line if isinstance(line, str) else _python_of_command(line) for line in cell.lines]
    python = "\n".join(lines)
    is_valid = not failed if len(python) > MAX_PARSED else compiled(python) is not None
    return lines if is_valid else [_commented(source)]


def _python_of_command(command: Command) -> str:
    statement = statement_of(command)
    if statement is not None:
        return command.indent + _marked(statement, command)
    comment = _commented(command.written)
    return f"{command.indent}pass  {comment}" if command.indent else comment


def _marked(statement: str, command: Command) -> str:
    """Add to a statement by which command it was run: ``f()  # %timeit -n 10``."""
    magic = command.written.removesuffix(statement.removeprefix(command.before.lstrip()))
    return f"{statement}  {_commented(magic.rstrip())}"


def _without_features(line: str, features: set[str]) -> str:
    """Return a logical line; of an import from ``__future__``, which only a script's start may have, a comment."""
    if not line.startswith("from __future__"):
        return line
    match parsed(line):
        case ast.Module(body=[ast.ImportFrom(module="__future__", names=found)]):
            features.update(alias.name for alias in found)
            return _commented(line)
    return line


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _awaited(lines: Sequence[str]) -> list[str]:
    """Return lines that await something so that plain Python runs them: in a coroutine with global names."""
    # Only the first line of each logical line: what follows may be within a text.
    body = [f"    {line}" if line.strip() else line for line in lines]
    begin, end = "async def _axon_cell():", "asyncio.run(_axon_cell())"
    try:
        [function] = symtable.symtable("\n".join([begin, *body]), "<cell>", "exec").get_children()
        names = (
            ", ".join(sorted(function.get_locals()))
            if isinstance(function, symtable.Function)
            else ""
        )
    except (
        SyntaxError,
        ValueError,
    ):  # such as `from x import *`, or a type parameter beside the function
        names = ""
    wrapped = [
        "import asyncio\n",
        begin,
        *([f"    global {names}"] if names else []),
        *body,
        "",
        end,
    ]
    return _evaluated(lines) if compiled("\n".join(wrapped)) is None else wrapped


def _evaluated(lines: Sequence[str]) -> list[str]:
    """Return the same for lines that no function may contain, such as ``x: int = await f()``."""
    return [
        "import ast",
        "import asyncio",
        "",
        "_axon_cell = (",
        *(f"    {line!r}" for line in "\n".join(lines).splitlines(keepends=True)),
        ")",
        '_axon_cell = compile(_axon_cell, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)',
        "asyncio.run(eval(_axon_cell))",
    ]


def _commented(text: str) -> str:
    # Python ends lines at carriage returns as well.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(f"# {line}".rstrip() for line in lines)
