"""What was executed as a Python script. Pure."""

from __future__ import annotations

import inspect
import symtable
from collections.abc import Sequence

from ..provenance import ExecutedCell
from ..records import CellStatus
from .magics import MAX_PARSED, Command, compiled, read_cell, setup_of, statement_of


def script_of(executed: Sequence[ExecutedCell], title: str = "") -> str:
    """Return the cells in the order in which they were executed, each below its ``# In [3]``.

    What a magic runs is in the script: of ``%time model.fit(x)`` and in a cell of ``%%time``. Everything else that only IPython
    understands (other magics, ``!command``, ``name?``) is commented out, and so is a cell whose remainder is not valid Python.
    A cell that uses ``await`` outside of a function runs in one of its own, in an event loop of its own.
    """
    parts = [_commented(title)] if title else []
    for cell in executed:
        failed = cell.status is CellStatus.ERROR
        lines = _lines_of(cell.source, failed=failed)
        python = "\n".join(_awaited(lines))
        if cell.execution_count is not None:
            python = f"# In [{cell.execution_count}]{', which failed' if failed else ''}\n{python}"
        parts.append(python)
    script = "\n\n".join(part.rstrip() for part in parts if part) + "\n"
    return script.replace("\0", "\\x00")  # which Python refuses, in comments as well


def python_of(source: str, *, failed: bool = False) -> str:
    """Return a cell's source as Python, with lines that are not Python commented out.

    A source longer than :data:`.MAX_PARSED` is not parsed: it is taken for valid unless the cell ``failed``.
    """
    return "\n".join(_lines_of(source, failed=failed))


def _lines_of(source: str, *, failed: bool) -> list[str]:
    """Return the logical lines of a cell in Python; a whole cell that is commented out is one."""
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


def _awaited(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines so that plain Python runs them: in a coroutine with global names, if they await something."""
    code = compiled("\n".join(lines))
    if code is None or not code.co_flags & inspect.CO_COROUTINE:
        return lines
    # Only the first line of each logical line: what follows may be within a text.
    body = [f"    {line}" if line.strip() else line for line in lines]
    begin, end = "async def _axon_cell():", "asyncio.run(_axon_cell())"
    try:
        [function] = symtable.symtable("\n".join([begin, *body]), "<cell>", "exec").get_children()
    except SyntaxError:  # such as `from x import *`
        return lines
    names = ", ".join(sorted(function.get_locals())) if isinstance(function, symtable.Function) else ""
    wrapped = ["import asyncio\n", begin, *([f"    global {names}"] if names else []), *body, "", end]
    return lines if compiled("\n".join(wrapped)) is None else wrapped


def _commented(text: str) -> str:
    # Python ends lines at carriage returns as well.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(f"# {line}".rstrip() for line in lines)
