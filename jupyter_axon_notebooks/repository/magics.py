"""IPython's additions to Python syntax: magics, shell commands and help. Pure.

IPython's own transformer is not available, since IPython is a dependency of kernels and not of
servers. Only common syntax is known: a cell with other syntax counts as invalid Python.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from typing import Final, NamedTuple

#: The longest source that is parsed, in characters. A longer cell is data rather than code.
MAX_PARSED: Final = 30_000
#: Parsing takes quadratic time in the length of a dotted name.
_LONG_DOTTED: Final = re.compile(r"(?<![\w.])\w+(?:\.\w+){256}")
#: Cell magics that run their body in the notebook.
_AROUND_BODY: Final = frozenset({"capture", "prun", "time", "timeit", "wandb"})
#: Cell magics that only display their body.
_SHOWING: Final = frozenset({"html", "javascript", "js", "latex", "markdown", "svg"})
_CELL_MAGIC: Final = re.compile(r"\s*(%%(\w+)(?![\w?])[^\n]*)(?:\n|\Z)")
_COMMAND: Final = re.compile(
    r"""(?P<indent>[ \t]*)
    (?P<target>[\w.,\[\]'" \t]{1,200}=[ \t]*)?
    (?P<text>%[A-Za-z_].* | !(?!=).* | (?:pip|conda)[ ]install[ ].*
      | \?.+ | %{0,2}[\w.]+\?{1,2}[ \t]*)""",
    re.DOTALL | re.VERBOSE,
)
#: Magics that run the statement behind their options.
_RUNNING: Final = re.compile(
    r"(%(?:time\b|timeit\b(?:[ \t]+-[a-z][ \t]*\d*)*))[ \t]*(.*)", re.DOTALL
)
#: Commands that only install something, set up the notebook or display something.
_HARMLESS: Final = re.compile(
    r"""\?.* | .*\? | %(?:time|timeit)\s*
    | %(?:autoreload|config|lsmagic|load_ext|matplotlib|reload_ext|tensorboard|who|whos)\b.*
    | %env\ *\w*
    | (?:%|!|!!)?\s* (?:sudo\ )? (?:\S*python[\d.]*\ -m\ |\{sys\.executable\}\ -m\ )?
      (?:pip3?|apt(?:-get)?|conda\ install|mamba\ install|uv\ (?:add|pip|sync)
        |cat|date|df|du|echo|free|git\ (?:diff|log|status)|head|ls|nvcc|nvidia-smi|ps|pwd|tail
        |uname|wc|which|whoami)
      \b (?:[^;&|<>`$\n]|>=)*
    """,
    re.VERBOSE,
)
_SILENCED: Final = re.compile(r"[12&]?>\s*(?:/dev/null|&1)")
_NBCONVERT: Final = re.compile(
    r"^([ \t]*)get_ipython\(\)\.(run_line_magic|system|run_cell_magic)(\(.*\))[ \t]*$", re.MULTILINE
)


class Cell(NamedTuple):
    """A cell in Python.

    Attributes
    ----------
    heads : list of str
        The cell magics.
    lines : list of str
        The body, with commands as comments. Code that a magic runs stays.
    commands : list of str
        The commands in the body that are comments now.
    is_python : bool
        Whether ``lines`` are Python, as far as is known: code that is too long is not parsed.
    """

    heads: list[str]
    lines: list[str]
    commands: list[str]
    is_python: bool = True


def read_cell(source: str) -> Cell:
    """Return a cell in Python, with IPython's own syntax as comments."""
    body = _replace_calls(source.replace("\r\n", "\n").replace("\r", "\n"))
    if body[:1] in (" ", "\t"):
        body = textwrap.dedent(body)
    heads: list[str] = []
    while (match := _CELL_MAGIC.match(body)) is not None:
        heads.append(match[1].rstrip())
        body = body[match.end() :]
        if match[2] not in _AROUND_BODY:
            return Cell(heads, body.split("\n"), [], is_python=False)
    if len(body) > MAX_PARSED or parse(body) is not None:
        return Cell(heads, body.split("\n"), [])
    lines, commands = _comment_commands(body)
    return Cell(heads, lines, commands, parse("\n".join(lines)) is not None)


def parse(text: str) -> ast.Module | None:
    """Return the syntax tree of Python code, or None if it is invalid or too large to parse."""
    if len(text) > MAX_PARSED or _LONG_DOTTED.search(text) is not None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            compile(tree, "<cell>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree


def is_harmless(command: str) -> bool:
    """Return whether a command only sets up the notebook or displays something."""
    return _HARMLESS.fullmatch(_SILENCED.sub("", command)) is not None


def only_shows(cell: Cell) -> bool:
    """Return whether the body of a cell that is not Python is only displayed."""
    return bool(cell.heads) and cell.heads[-1][2:].split(" ")[0] in _SHOWING


def _comment_commands(body: str) -> tuple[list[str], list[str]]:
    lines: list[str] = []
    commands: list[str] = []
    is_text = False  # inside a text in triple quotes
    remaining = iter(body.split("\n"))
    for line in remaining:
        match = None if is_text else _COMMAND.fullmatch(line)
        if match is None:
            is_text ^= (line.count("'''") + line.count('"""')) % 2 == 1
            lines.append(line)
            continue
        text = match["text"].rstrip()
        while text.endswith("\\"):
            text = f"{text[:-1].rstrip()} {next(remaining, '').strip()}"
        target = match["target"] or ""
        run = _RUNNING.fullmatch(text)
        if run is not None and run[2] and parse(run[2]) is not None:
            magic = "%time" if target else run[1]
            lines.append(f"{match['indent']}{target}{run[2]}  # {magic}")
        else:
            commands.append(target + text)
            comment = f"# {target}{text}"
            lines.append(f"{match['indent']}pass  {comment}" if match["indent"] else comment)
    return lines, commands


def _replace_calls(source: str) -> str:
    """Return a source with magics instead of the calls that nbconvert writes for them."""

    def replace(match: re.Match[str]) -> str:
        indent, name, arguments = match.groups()
        values = ast.literal_eval(arguments)
        if name == "system":
            return f"{indent}!{values}"
        if name == "run_line_magic":
            return f"{indent}%{' '.join(values)}"
        magic, options, body = values
        head = f"# %%{magic} {options}".rstrip()
        return f"{head}\n{body if magic in _AROUND_BODY else textwrap.indent(body, '# ')}"

    try:
        return _NBCONVERT.sub(replace, source)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        return source  # not written by nbconvert
