"""IPython's additions to Python syntax: magics, shell commands, help and automatic calls. Pure.

IPython's own transformer is not available, since IPython is a dependency of kernels and not of
servers. A cell is read in one pass over its logical lines, in linear time whatever it contains.
Python's parser holds the interpreter lock, so its input is bounded.
"""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
import warnings
from collections.abc import Iterator
from types import CodeType
from typing import Any, Final, Literal, NamedTuple


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


#: The longest source that is parsed, in characters. A longer cell is data rather than code.
MAX_PARSED: Final = 30_000
#: The longest statement of a magic or a ``get_ipython()`` call. A cell may contain thousands,
#: which are parsed one by one.
_MAX_STATEMENT: Final = 2_000
#: A dotted name that is longer than any in practice: parsing takes quadratic time in its length.
_LONG_DOTTED: Final = re.compile(r"(?<![\w.])\w+(?:\.\w+){256}")
#: The most nested magics, as in ``%time %prun f()``.
_MAX_NESTED: Final = 8
#: The longest shell command that is examined; a longer one counts as harmful.
_MAX_COMMAND: Final = 2_000

#: Magics that run the statement after their options, and these options; a colon follows options
#: with a value.
_RUNNING: Final = {
    "debug": "b:",
    "lprun": "rsf:m:D:T:u:z",
    "memit": "r:t:i:coe",
    "mprun": "rf:T:c",
    "prun": "D:l:rs:T:q",
    "pyinstrument": "",
    "scalene": "",
    "snakeviz": "tf:",
    "time": "",
    "timeit": "n:r:tcp:qov:",
}
_LONG_WITH_VALUE: Final = frozenset({"breakpoint", "filename", "interval"})
#: Cell magics that run their body in the notebook, and take no code in their first line.
_AROUND_BODY: Final = frozenset(
    {
        "capture",
        "chime",
        "memray_flamegraph",
        "notify",
        "pyinstrument",
        "scalene",
        "time",
        "viztracer",
        "wandb",
    }
)
#: Cell magics whose body is a shell script.
_SHELL_CELLS: Final = frozenset({"!", "bash", "sh", "sx", "system"})
#: Cell magics that only display their body.
_SHOWING: Final = frozenset(
    {"HTML", "SVG", "css", "html", "javascript", "js", "latex", "markdown", "svg"}
)
#: Line magics that set up the notebook or display something, without an effect on computations.
_HARMLESS: Final = words(
    """
    aimport alias_magic autoreload autosave cat colors config doctest_mode hist history less
    load_ext ls lsmagic magic man matplotlib more page pdb pdef pdoc pfile pinfo pinfo2 pip
    precision psearch psource pwd pylab quickref reload_ext tensorboard unload_ext watermark who
    who_ls whos xmode
    """
)
#: Programs that only install or display something.
_PROGRAMS: Final = words(
    """
    apt apt-get cat cd date df dir du echo false file free grep groups head hostname id ls
    lsb_release lscpu lsmod md5sum nproc nvcc nvidia-smi pip pip3 printenv ps pwd rocm-smi
    sha256sum stat tail test tree true uname uptime wc whereis which who whoami
    """
)
#: Subcommands of other programs that only install or display something.
_CONDA: Final = {"config", "info", "install", "list", "search", "update"}
_SUBCOMMANDS: Final = {
    **dict.fromkeys(("conda", "mamba", "micromamba"), _CONDA),
    "git": {"branch", "describe", "diff", "log", "rev-parse", "show", "status"},
    "jupyter": {"--paths", "--version", "kernelspec", "labextension", "nbextension"},
    "uv": {"add", "pip", "sync"},
}
_AUTOMAGIC: Final = frozenset({*_RUNNING, *_HARMLESS, *_SUBCOMMANDS, "cd"})
_PYTHON: Final = re.compile(r"(?:/\S*/)?python(?:3(?:\.\d+)?)?")

_PROMPT: Final = re.compile(r"^(?:>>>|\.\.\.)(?: |$)|^(?:In \[\d+\]| *\.{3,}): ?", re.MULTILINE)
_CELL_MAGIC: Final = re.compile(r"%%(\w+|!)(?![\w?])")
_AUTOMATIC: Final = re.compile(r"(\w+)(?: +[^ =]|$)")
_WITHOUT_EFFECT: Final = (
    *(ast.Module, ast.Expr, ast.BinOp, ast.UnaryOp, ast.Name, ast.Attribute, ast.Load),
    *(ast.operator, ast.unaryop),
)
_SHELL_CALL: Final = "get_ipython()."
_SPECIAL: Final = re.compile(r"""[#'"()\[\]{}\n\\=?]""")
_ASSIGNED: Final = re.compile(r"[ \t]*(?=%[A-Za-z_]|!)")
_OPTION: Final = re.compile(r"[ \t]*-(?:-([\w-]+)(=\S*)?|([A-Za-z]\S*))")
_VALUE: Final = re.compile(r"""[ \t]*(?:"[^"]*"|'[^']*'|\S+)""")
_ENDS_TEXT: Final = {
    mark: re.compile(rf"\\|{mark}" + ("" if mark[1:] else r"|\n"))
    for mark in ("'", '"', "'''", '"""')
}


class Command(NamedTuple):
    """A logical line in IPython's own syntax."""

    kind: Literal["magic", "shell", "help", "call"]
    #: White space before it, and the target of an assignment such as ``x = %time f()``.
    before: str
    #: The text after the sign with continued lines joined; of a call, the call in Python.
    text: str
    #: The original text, on one line.
    original: str

    @property
    def indent(self) -> str:
        """The white space at the start of the line."""
        return self.before[: len(self.before) - len(self.before.lstrip())]

    @property
    def is_assigned(self) -> bool:
        """True if its result is assigned to a name."""
        return bool(self.before.strip())


class Cell(NamedTuple):
    """A cell of code.

    ``heads`` are its cell magics. The body of a ``foreign`` cell, ``lines``, is not code of the
    notebook.
    """

    heads: list[Command]
    foreign: bool
    lines: list[str | Command]


def read_cell(source: str) -> Cell:
    """Split a cell's source into cell magics, Python lines and lines in IPython's own syntax."""
    body = _clean(source)
    heads: list[Command] = []
    while (match := _CELL_MAGIC.match(start := body.lstrip())) is not None:
        head, _, body = start.partition("\n")
        head = head.rstrip()
        heads.append(Command("magic", "", head[2:], head))
        name = match[1]
        if len(heads) > _MAX_NESTED or not (name in _RUNNING or name in _AROUND_BODY):
            return Cell(heads, True, list(body.split("\n")) if body else [])
        body = _clean(body)
    if not heads and "\n" not in body.strip():
        match = _AUTOMATIC.match(line := body.strip())
        known = match is not None and match[1] in _AUTOMAGIC
        if known and ((tree := parse(line)) is None or _has_no_effect(tree)):
            body = f"%{line}"  # IPython's automagic: a cell of one line may omit the sign
    return Cell(heads, False, list(_logical_lines(body)))


def parse(text: str) -> ast.Module | None:
    """Return the syntax tree of Python code, or None if it is invalid or too large to parse."""
    tree: ast.Module | None = _compile(text, ast.PyCF_ONLY_AST)
    return tree


def compile_cell(text: str) -> CodeType | None:
    """Return the byte code of Python code, or None if it is invalid or too large to parse."""
    code: CodeType | None = _compile(text, 0)
    return code


def _compile(text: str, flags: int) -> Any:
    if len(text) > MAX_PARSED or _LONG_DOTTED.search(text) is not None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compile(
                text, "<cell>", "exec", flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
            )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def command_statement(command: Command) -> str | None:
    """Return the Python statement that a command runs, without indentation, or None.

    For ``%time f()`` and ``%timeit -n 10 f()`` it is ``f()``. Only ``%time`` returns the value of
    its statement, so that ``x = %time f()`` becomes ``x = f()``, but ``x = %timeit -o f()``
    becomes ``f()``.
    """
    if command.kind == "call":
        return command.text if _statement(command.text) is not None else None
    if command.kind != "magic":
        return None
    text, returns_value = command.text, True
    for _ in range(_MAX_NESTED):
        name, _, rest = text.partition(" ")
        if name not in _RUNNING:
            return None
        returns_value = returns_value and name == "time"
        text = rest[_end_of_options(rest, _RUNNING[name]) :].strip()
        if not text.startswith("%"):
            break
        text = text[1:]
    if not text or text.startswith("#") or (tree := _statement(text)) is None:
        return None
    if command.is_assigned and returns_value and [type(node) for node in tree.body] == [ast.Expr]:
        return command.before.lstrip() + text
    return text


def _statement(text: str) -> ast.Module | None:
    return parse(text) if len(text) <= _MAX_STATEMENT else None


def setup_statement(head: Command) -> str | None:
    """Return the statement in the first line of a cell magic, as in ``%%timeit x = 1``, or None."""
    name = head.text.partition(" ")[0]
    return None if name in _AROUND_BODY else command_statement(head)


def is_harmless(command: Command) -> bool:
    """Return whether a command only sets up the notebook or displays something."""
    if command.is_assigned:
        return False
    if command.kind == "shell":
        return _is_harmless_shell(command.text)
    if command.kind != "magic":
        return command.kind == "help"
    name, _, rest = command.text.partition(" ")
    if name in ("sx", "system"):
        return _is_harmless_shell(rest)
    if name in _SUBCOMMANDS:
        return _is_harmless_shell(command.text)
    if name in ("env", "set_env"):
        return len(rest.split()) < 2 and "=" not in rest
    if name in _RUNNING:
        return not rest.strip()
    return name in _HARMLESS


def is_harmless_cell(cell: Cell) -> bool:
    """Return whether the body of a foreign cell only sets up the notebook or displays something."""
    name = cell.heads[-1].text.split(None, 1)[0] if cell.heads[-1].text else ""
    if name in _SHELL_CELLS:
        body = "\n".join(line for line in cell.lines if isinstance(line, str)).replace("\\\n", " ")
        return all(
            _is_harmless_shell(line)
            for line in body.split("\n")
            if not line.lstrip().startswith("#")
        )
    return name in _SHOWING


def _clean(source: str) -> str:
    """Return a source without carriage returns, pasted prompts and common indentation."""
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    start = source.lstrip("\n \t")
    if start.startswith((">>> ", "In [")):
        source = _PROMPT.sub("", source)
    elif source[: len(source) - len(start)].rpartition("\n")[2]:
        source = textwrap.dedent(source)
    return source


def _has_no_effect(tree: ast.AST) -> bool:
    """Return whether a line such as ``ls``, ``ls -l`` or ``cd /tmp`` has no effect as Python."""
    return all(isinstance(node, _WITHOUT_EFFECT) for node in ast.walk(tree))


def _logical_lines(source: str) -> Iterator[str | Command]:
    at = 0
    while at <= len(source):
        first = at
        while first < len(source) and source[first] in " \t\f":
            first += 1
        sign = source[first : first + 1]
        if sign and sign in "%!?,;/":
            end = _end_of_continued(source, first)
            yield _command(source, at, first, end)
        else:
            end, command = _end_of_python(source, at)
            yield source[at:end] if command is None else command
        at = end + 1


def _end_of_python(source: str, at: int) -> tuple[int, Command | None]:
    """Return the end of the logical line at ``at``, and its command if it is not Python."""
    begin, depth, question, assigned = at, 0, -1, False
    while (match := _SPECIAL.search(source, at)) is not None:
        place, char = match.start(), match[0]
        at = place + 1
        if char == "#":
            at = _or_end(source, source.find("\n", place))
        elif char in "'\"":
            at = _end_of_text(source, place, char)
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth = max(depth - 1, 0)
        elif char == "\\":
            at += 1
        elif char == "?":
            question = place
        elif char == "=":
            if source.startswith("=", at):
                at += 1
            elif (
                not depth
                and not assigned
                and source[place - 1 : place] not in tuple("!<>:+-*/%&|^@")
            ):
                assigned = True
                if value := _ASSIGNED.match(source, at):
                    end = _end_of_continued(source, value.end())
                    return end, _command(source, begin, value.end(), end)
        elif not depth:  # a line break
            at = place
            break
    else:
        at = len(source)
    line = source[begin:at]
    if question >= 0 and begin + len(line.rstrip()) - 1 == question:
        original = line.strip()
        return at, Command(
            "help", line[: len(line) - len(line.lstrip())], original, " ".join(original.split("\n"))
        )
    return at, _command_of_call(line) if line.lstrip().startswith(_SHELL_CALL) else None


def _command_of_call(line: str) -> Command | None:
    """Return the command of a ``get_ipython()`` call, as nbconvert writes them."""
    match _statement(line.strip()):
        case ast.Module(
            body=[ast.Expr(value=ast.Call(func=ast.Attribute(attr=name), args=args, keywords=[]))]
        ):
            texts = [
                arg.value
                for arg in args
                if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            ]
        case _:
            return None
    if len(texts) != len(args):
        return None
    indent, original = line[: len(line) - len(line.lstrip())], " ".join(line.strip().split("\n"))
    match name, texts:
        case ("run_line_magic", [_, _]) | ("magic", [_]):
            return Command("magic", indent, " ".join(texts), original)
        case ("system", [command]):
            return Command("shell", indent, command, original)
        case ("run_cell_magic", [magic, "", body]) if (
            not indent and magic in _AROUND_BODY | _RUNNING.keys()
        ):
            return Command("call", indent, body.strip(), original)
        case ("run_cell_magic", [magic, options, _]):
            return Command("magic", indent, f"%{magic} {options}", original)
    return None


def _command(source: str, begin: int, sign: int, end: int) -> Command:
    lines = source[sign:end].split("\n")
    before = source[begin:sign]
    joined = " ".join([line.rstrip()[:-1] for line in lines[:-1]] + [lines[-1].rstrip()])
    original = before.lstrip() + " ".join(line.strip() for line in lines)
    escape, text = joined[:1], joined[1:]
    if escape == "%" and not text.endswith("?"):
        return Command("magic", before, text, original)
    if escape == "!":
        return Command("shell", before, text.removeprefix("!"), original)
    if escape in ",;/":
        name, _, rest = text.partition(" ")
        words = rest.split()
        arguments = {",": '"' + '", "'.join(words) + '"', ";": f'"{rest}"', "/": ", ".join(words)}[
            escape
        ]
        return Command("call", before, f"{name}({arguments})", original)
    return Command("help", before, text, original)


def _end_of_continued(source: str, at: int) -> int:
    """Return the end of a line and its continuation lines."""
    end = _or_end(source, source.find("\n", at))
    while end < len(source) and source[end - 1] == "\\":
        end = _or_end(source, source.find("\n", end + 1))
    return end


def _end_of_text(source: str, at: int, quote: str) -> int:
    """Return the end of the string literal at ``at``, or that of the line or source."""
    mark = quote * 3 if source.startswith(quote * 3, at) else quote
    at += len(mark)
    while (match := _ENDS_TEXT[mark].search(source, at)) is not None:
        if match[0] == "\n":
            return match.start()
        if match[0] == mark:
            return match.end()
        at = match.end() + 1
    return len(source)


def _or_end(source: str, found: int) -> int:
    return len(source) if found < 0 else found


def _end_of_options(text: str, known: str) -> int:
    at = 0
    while (match := _OPTION.match(text, at)) is not None:
        name, value, letters = match.groups()
        at_value = name in _LONG_WITH_VALUE and value is None
        if letters is not None:
            for index, letter in enumerate(letters):
                place = known.find(letter)
                if place < 0 or letter == ":":
                    return at  # a statement such as `-f()`
                if known[place + 1 : place + 2] == ":":
                    at_value = index == len(letters) - 1
                    break
        at = match.end()
        if at_value and (found := _VALUE.match(text, at)):
            at = found.end()
    return at


def _is_harmless_shell(line: str) -> bool:
    """Return whether all commands of a shell line only install or display something."""
    if len(line) > _MAX_COMMAND or "`" in line or "$(" in line:
        return False
    words = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    words.whitespace_split = True
    words.commenters = "#"
    commands: list[list[str]] = [[]]
    try:
        found = iter(list(words))
    except ValueError:  # an unterminated quotation
        return False
    for word in found:
        if word in ("|", "||", "&&", ";"):
            commands.append([])
        elif word in (">", ">>", "&>", ">&"):
            target = next(found, "")
            # `pip install torch>=2` means a version.
            if target not in ("/dev/null", "1", "2") and not target.startswith("="):
                return False
        elif word and not word.strip("();<>|&"):
            return False
        else:
            commands[-1].append(word)
    return all(map(_is_harmless_program, commands))


def _is_harmless_program(words: list[str]) -> bool:
    while words and (words[0] in ("sudo", "time") or re.match(r"\w+=", words[0])):
        words = words[1:]
    if not words:
        return True
    program, rest = words[0], words[1:]
    if _PYTHON.fullmatch(program) or program == "{sys.executable}":
        if rest[:2] == ["-m", "pip"]:
            return True
        return rest in (["--version"], ["-V"], ["-VV"])
    if program in _SUBCOMMANDS:
        return rest == ["--version"] or (bool(rest) and rest[0] in _SUBCOMMANDS[program])
    return program in _PROGRAMS
