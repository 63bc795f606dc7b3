"""The export of executed cells as a Python script. Pure."""

from __future__ import annotations

import ast
import inspect
import symtable
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import CodeType
from typing import Final

from ..provenance import ExecutedCell
from ..records import CellStatus
from .magics import (
    MAX_PARSED,
    Command,
    command_statement,
    compile_cell,
    parse,
    read_cell,
    setup_statement,
)

#: Names that IPython provides to notebooks: their import, and a replacement without IPython.
_IPYTHON_NAMES: Final = {
    "display": ("from IPython.display import display", "display = print"),
    "get_ipython": ("from IPython import get_ipython", "get_ipython = lambda: None"),
}


def export_script(executed: Sequence[ExecutedCell], title: str = "") -> str:
    """Return the executed cells in order, each below a comment such as ``# In [3]``.

    Code that a magic runs, as in ``%time model.fit(x)`` and below ``%%time``, is part of the
    script. Other IPython syntax (magics, ``!command``, ``name?``) is commented out. A cell that is
    not valid Python after that is commented out as a whole. A cell with ``await`` outside of a
    function becomes a coroutine that ``asyncio.run`` runs. Imports from ``__future__``, and
    definitions of IPython's ``display`` and ``get_ipython``, are at the start of the script.
    """
    parts = []
    features: set[str] = set()
    names: set[str] = set()
    for cell in executed:
        failed = cell.status is CellStatus.ERROR
        lines = [
            _without_features(line, features) for line in _python_lines(cell.source, failed=failed)
        ]
        code = compile_cell("\n".join(lines))
        if code is not None:
            names.update(_names(code))
            if code.co_flags & inspect.CO_COROUTINE:
                lines = _wrap_await(lines)
        python = "\n".join(lines)
        if cell.execution_count is not None:
            python = f"# In [{cell.execution_count}]{', which failed' if failed else ''}\n{python}"
        parts.append(python)
    start = [f"from __future__ import {', '.join(sorted(features))}"] if features else []
    start += [
        f"try:\n    {import_}\nexcept ImportError:\n    {replacement}"
        for name, (import_, replacement) in _IPYTHON_NAMES.items()
        if name in names
    ]
    parts = [*([_comment(title)] if title else []), *start, *parts]
    script = "\n\n".join(part.rstrip() for part in parts if part) + "\n"
    return script.replace("\0", "\\x00")  # invalid in Python source, even in comments


def to_python(source: str) -> str:
    """Return the source of a cell as Python, with other IPython syntax commented out."""
    return "\n".join(_python_lines(source, failed=False))


def _python_lines(source: str, *, failed: bool) -> list[str]:
    """Return the logical lines of a cell in Python, or one comment if it is not valid Python.

    A source longer than :data:`.MAX_PARSED` counts as valid unless the cell ``failed``.
    """
    cell = read_cell(source)
    if cell.foreign:
        return [_comment(source)]
    lines: list[str] = []
    for head in cell.heads:
        setup = setup_statement(head)
        lines.append(_comment(head.original) if setup is None else _with_command(setup, head))
    lines += [line if isinstance(line, str) else _command_line(line) for line in cell.lines]
    python = "\n".join(lines)
    is_valid = not failed if len(python) > MAX_PARSED else compile_cell(python) is not None
    return lines if is_valid else [_comment(source)]


def _command_line(command: Command) -> str:
    statement = command_statement(command)
    if statement is not None:
        return command.indent + _with_command(statement, command)
    comment = _comment(command.original)
    return f"{command.indent}pass  {comment}" if command.indent else comment


def _with_command(statement: str, command: Command) -> str:
    """Return a statement with its magic as a comment: ``f()  # %timeit -n 10``."""
    magic = command.original.removesuffix(statement.removeprefix(command.before.lstrip()))
    return f"{statement}  {_comment(magic.rstrip())}"


def _without_features(line: str, features: set[str]) -> str:
    """Comment out an import from ``__future__``, and add its names to ``features``."""
    if not line.startswith("from __future__"):
        return line
    match parse(line):
        case ast.Module(body=[ast.ImportFrom(module="__future__", names=found)]):
            features.update(alias.name for alias in found)
            return _comment(line)
    return line


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _wrap_await(lines: Sequence[str]) -> list[str]:
    """Wrap lines with ``await`` in a coroutine that assigns to global names."""
    # Indent only the first line of each logical line: other lines may be inside a string.
    body = [f"    {line}" if line.strip() else line for line in lines]
    begin, end = "async def _axon_cell():", "asyncio.run(_axon_cell())"
    names = ""
    with suppress(SyntaxError, ValueError):  # not allowed in a function, such as `from x import *`
        [function] = symtable.symtable("\n".join([begin, *body]), "<cell>", "exec").get_children()
        if isinstance(function, symtable.Function):
            names = ", ".join(sorted(function.get_locals()))
    wrapped = [
        "import asyncio\n",
        begin,
        *([f"    global {names}"] if names else []),
        *body,
        "",
        end,
    ]
    return _wrap_eval(lines) if compile_cell("\n".join(wrapped)) is None else wrapped


def _wrap_eval(lines: Sequence[str]) -> list[str]:
    """Return code that runs lines which no function may contain, such as ``x: int = await f()``."""
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


def _comment(text: str) -> str:
    # Python also ends lines at carriage returns.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(f"# {line}".rstrip() for line in lines)
