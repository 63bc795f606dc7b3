"""The configuration of a run: hyperparameters as a JSON object, given or derived from the code.

Pure functions of their arguments. Frameworks are recognised by the methods of their objects and are
not imported.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import enum
import math
import os
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec

from ..metrics import encode_nonfinite
from ..repository.runs import MAX_CONFIG_SIZE


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MAX_DEPTH: Final = 32
#: The longest ``repr`` that stands for an object, in characters.
_MAX_REPR: Final = 1_000

#: Limits of derived values. What is longer is data rather than a hyperparameter.
_MAX_DERIVED_TEXT: Final = 500
_MAX_DERIVED_ITEMS: Final = 50
_MAX_DERIVED_DEPTH: Final = 6

_INT64: Final = range(-(2**63), 2**63)

#: Functions whose result differs in each execution.
_CLOCKS: Final = _words(
    """
    getpid monotonic monotonic_ns now perf_counter perf_counter_ns process_time time time_ns today
    utcnow uuid1 uuid4
    """
)
_MUTATORS: Final = _words(
    "add append appendleft clear extend insert pop popitem remove setdefault update"
)
#: Functions that return hyperparameters to choose from.
_CHOICES: Final = _words(
    """
    ParameterGrid ParameterSampler geomspace items linspace logspace product sample sorted zip
    """
)
#: Functions that draw or round a hyperparameter.
_DRAWS: Final = _words(
    """
    choice choices dict exp float int integers list log loguniform max min pow randint random
    randrange round sample sqrt suggest_categorical suggest_float suggest_int tuple uniform
    """
)
#: Methods of classes that only hold values.
_DATA_METHODS: Final = _words("__eq__ __hash__ __init__ __repr__ __str__")
#: Variables of loops over a range that are hyperparameters.
_SEED_WORDS: Final = _words("fold repeat seed split trial")

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS: Final = _words(
    """
    apikey auth authorization bearer credential credentials key keys passcode passphrase passwd
    password passwords pat pw pwd secret secrets token
    """
)
#: Names that contain a secret's word without a separator, such as ``dbpassword`` and ``hftoken``.
_SECRET_NAME: Final = re.compile(
    r"(?:access|api|auth|private|signing|ssh)key|credential|passw|secret|token\Z", re.IGNORECASE
)
#: Values that are secrets whatever their name: tokens of well-known services, and passwords in
#: URLs, headers and connection strings.
_SECRET_VALUE: Final = re.compile(
    r"(?<![\w-])(?:(?:sk|pk|rk)[-_][\w-]{16,}|(?:hf|gh[opsu])_\w{16,}|github_pat_\w{16,}"
    r"|(?:glpat|xox[abprs])-[\w-]{16,}|AKIA[0-9A-Z]{16}|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*)"
    r"|\A[0-9a-f]{40}\Z|://[^/\s:@]*:[^/\s@]+@|(?i:\b(?:basic|bearer)\s+[\w.~+/=-]{6,}"
    r"|(?:api[-_]?key|passw(?:or)?d|pwd|secret|sig|signature|token)\s*[=:]\s*[^\s;&])"
)


class _NotDerived(Exception):
    """A value that is no hyperparameter."""


# Given configurations


def normalize_config(config: Any) -> dict[str, Any]:
    """Return a configuration as a JSON object.

    Values that JSON does not have become their ``repr``; NumPy scalars become numbers, sets and
    tuples become lists, and paths become strings. Non-finite numbers become the
    strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.

    Parameters
    ----------
    config : mapping or object
        A mapping, a dataclass, an ``argparse.Namespace``, an object of pydantic, attrs, OmegaConf
        or Hugging Face's ``TrainingArguments``.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If it contains itself, is nested too deeply, or is larger than :data:`.MAX_CONFIG_SIZE`.
    """
    fields = _fields(config)
    if fields is None:
        raise TypeError(
            f"config is {_short_repr(config)}; expected a mapping, a dataclass, a Namespace or a "
            "configuration object of pydantic, attrs, OmegaConf or transformers"
        )
    converted: dict[str, Any] = _convert(fields, "config", [])
    size = len(msgspec.json.encode(converted))
    if size > MAX_CONFIG_SIZE:
        largest = max(converted, key=lambda name: len(msgspec.json.encode(converted[name])))
        raise ValueError(
            f"config has {size:,} bytes as JSON; at most {MAX_CONFIG_SIZE:,} are recorded. Its "
            f"largest value is {largest[:80]!r}: leave it out, or save it to a file and give the "
            "path"
        )
    return converted


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """Return the fields of an object that is a configuration; None for other objects."""
    if isinstance(value, Mapping):
        return _of_omegaconf(value)
    if isinstance(value, type):
        return None
    if isinstance(value, (argparse.Namespace, types.SimpleNamespace)):
        return vars(value)
    for method in ("to_sanitized_dict", "model_dump", "to_dict"):
        # of transformers, pydantic, and transformers' model configurations
        if callable(convert := getattr(value, method, None)) and not hasattr(value, "shape"):
            with suppress(Exception):
                converted = convert()
                if isinstance(converted, Mapping):
                    return converted
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if (attributes := getattr(type(value), "__attrs_attrs__", None)) is not None:
        return {field.name: getattr(value, field.name, None) for field in attributes}
    return None


def _of_omegaconf(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    omegaconf = getattr(sys.modules.get("omegaconf"), "OmegaConf", None)
    if omegaconf is None or not omegaconf.is_config(value):
        return value
    resolved: Mapping[Any, Any] = omegaconf.to_container(value, resolve=True)
    return resolved


def _convert(value: Any, name: str, parents: list[int]) -> Any:
    try:
        scalar, fields = _scalar(value), _fields(value)
    except Exception:  # noqa: BLE001 - an attribute of an object may raise anything
        return _short_repr(value)
    if scalar is not None or value is None:
        return scalar
    if id(value) in parents:
        raise ValueError(f"{name} contains itself; a configuration must be a tree")
    if len(parents) >= _MAX_DEPTH:
        raise ValueError(f"{name} is nested more than {_MAX_DEPTH} levels deep")
    inner = [*parents, id(value)]
    if fields is not None:
        return {
            _key(key): _convert(each, f"{name}.{_key(key)}", inner) for key, each in fields.items()
        }
    if isinstance(value, (list, tuple)):
        return [_convert(each, f"{name}[{i}]", inner) for i, each in enumerate(value)]
    if isinstance(value, Set):
        return sorted((_convert(each, name, inner) for each in value), key=repr)
    return _short_repr(value)


def _scalar(value: Any) -> str | int | float | bool | None:
    """Return a JSON scalar; None for everything else."""
    if isinstance(value, enum.Enum):
        return _scalar(value.value)
    if isinstance(value, (bool, str)):
        return _text(value) if isinstance(value, str) else value
    if isinstance(value, os.PathLike):
        return _text(os.fsdecode(value))
    # NumPy scalars and 0-d tensors. An `item` of something larger raises.
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        with suppress(Exception):
            value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if value in _INT64 else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(encode_nonfinite(float(value))[0])
    return None


def _key(key: Any) -> str:
    return _text(key) if isinstance(key, str) else _short_repr(key)


def _text(value: str) -> str:
    return str(value).encode("utf-8", "replace").decode()  # without lone surrogates


def _short_repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a `repr` may raise anything
        text = f"<{type(value).__name__}>"
    return _text(text if len(text) <= _MAX_REPR else f"{text[:_MAX_REPR]}…")


# Derived configurations


class CodeCell(NamedTuple):
    """An executed cell in Python.

    ``is_parameters`` is whether it is tagged ``parameters`` or ``injected-parameters``, as for
    papermill.
    """

    source: str
    is_parameters: bool = False


def derive_config(cells: Sequence[CodeCell], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters in executed code: names assigned at its top level.

    A name counts if later code uses it, and its value in ``namespace`` is a number, string, bool,
    None, a short list, tuple or dict of these, or a dataclass, Namespace, object of pydantic or
    attrs, or class without methods that holds them. The names of parameters' cells come first,
    whether or not they are used.

    The loop that the last cell runs counts, too, if it is a search: its variables take values from
    a list, a grid or a range of seeds, and names that its body assigns have one value in each run.

    Left out are other loop variables and what loops or functions change, results of clocks, numbers
    that functions of the notebook return, calls that return None, private names, and secrets: names
    such as ``api_key`` and ``token``, also inside of dicts, and values that look like one. In doubt
    a value is left out.

    Parameters
    ----------
    cells : sequence of CodeCell
        In the order of execution. Cells that are not valid Python are skipped.
    namespace : mapping
        The values of the names at the time of the run's first point.
    """
    bindings = _Bindings(namespace)
    for number, cell in enumerate(cells, 1):
        bindings.add(cell, is_running=number == len(cells))
    config: dict[str, Any] = {}
    for name in bindings.hyperparameters():
        if name in namespace and not name.startswith("_") and not _is_secret(name):
            value = namespace[name]
            if value is None and bindings.is_computed(name):
                continue  # a call returned nothing
            if isinstance(value, (int, float)) and bindings.is_result(name):
                continue  # of a training rather than for one
            with suppress(_NotDerived):
                config[name] = _derive(value, _MAX_DERIVED_DEPTH)
    kinds = [type(namespace[name]) for name in config]
    return {name: each for name, each in config.items() if namespace[name] not in kinds}


def _derive(value: Any, depth: int) -> Any:
    if value is None:
        return None
    if (scalar := _scalar(value)) is not None:
        if isinstance(scalar, str) and (
            len(scalar) > _MAX_DERIVED_TEXT or _SECRET_VALUE.search(scalar)
        ):
            raise _NotDerived
        return scalar
    constants = _constants(value)
    if constants is not None or _is_configuration(value):
        fields = constants or _fields(value) or {}
        if not fields or len(fields) > _MAX_DERIVED_ITEMS * 2 or not depth:
            raise _NotDerived
        found = {}
        for key, each in fields.items():
            if not isinstance(key, (str, int)):
                raise _NotDerived
            with suppress(_NotDerived):
                if not _is_secret(str(key)):
                    found[_text(str(key))] = _derive(each, depth - 1)
        if not found:
            raise _NotDerived
        return found
    if isinstance(value, (list, tuple)) and 0 < len(value) <= _MAX_DERIVED_ITEMS and depth:
        return [_derive(each, depth - 1) for each in value]
    raise _NotDerived


def _is_configuration(value: Any) -> bool:
    """Return whether an object exists to hold values."""
    is_namespace = isinstance(value, (dict, argparse.Namespace, types.SimpleNamespace))
    is_declared = dataclasses.is_dataclass(value) or hasattr(type(value), "__attrs_attrs__")
    is_model = is_declared or callable(getattr(type(value), "model_dump", None))  # of pydantic
    return is_namespace or (is_model and not isinstance(value, type))


def _constants(value: Any) -> dict[str, Any] | None:
    """Return the attributes of a class such as ``class CFG: lr = 0.1``, or of an instance of it."""
    kind = value if isinstance(value, type) else type(value)
    if kind.__bases__ != (object,) or dataclasses.is_dataclass(kind):
        return None
    special = {name for name in vars(kind) if name.startswith("__") and callable(vars(kind)[name])}
    attributes = {name: each for name, each in vars(kind).items() if not name.startswith("__")}
    if kind is not value:
        attributes |= getattr(value, "__dict__", {})
    methods = (property, staticmethod, classmethod)
    has_methods = any(callable(one) or isinstance(one, methods) for one in attributes.values())
    return attributes if attributes and not has_methods and special <= _DATA_METHODS else None


def _is_secret(name: str) -> bool:
    if _SECRET_NAME.search(name):
        return True
    words = [word.lower() for word in _WORD.findall(name)]
    if not _SECRET_WORDS.isdisjoint(words):
        return True
    return any(f"{first}{second}" in _SECRET_WORDS for first, second in pairwise(words))


class _Bindings:
    """The names that top-level code binds, how, and where they are used."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._is_running = self._in_search = False
        self._statement = 0
        #: By name: whether its last binding is a plain assignment, and the first statement.
        self._plain: dict[str, bool] = {}
        self._bound_at: dict[str, int] = {}
        self._used_at: dict[str, int] = {}
        self._parameters: dict[str, None] = {}
        self._computed: dict[str, bool] = {}
        self._functions: set[str] = set()
        self._results: dict[str, bool] = {}

    def is_computed(self, name: str) -> bool:
        """Return whether the last value of a name is the result of a call."""
        return self._computed.get(name, False)

    def is_result(self, name: str) -> bool:
        """Return whether a name follows from what a function of the notebook returned."""
        return self._results.get(name, False)

    def hyperparameters(self) -> Iterator[str]:
        yield from (name for name in self._parameters if self._plain.get(name))
        for name, is_plain in self._plain.items():
            is_used = self._used_at.get(name, -1) > self._bound_at.get(name, 0)
            if is_plain and is_used and name not in self._parameters:
                yield name

    def add(self, cell: CodeCell, *, is_running: bool) -> None:
        self._is_running = is_running
        try:
            tree = ast.parse(cell.source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
        with suppress(RecursionError):
            for statement in tree.body:
                self._add_statement(statement, cell.is_parameters, in_loop=False)

    def _add_statement(self, node: ast.stmt, is_parameters: bool, *, in_loop: bool) -> None:
        self._statement += 1
        match node:
            case ast.If(test=test, body=body, orelse=other):
                self._use(test)
                self._add_block([*body, *other], is_parameters, in_loop=in_loop)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                for item in items:
                    self._use(item.context_expr)
                    self._bind(item.optional_vars, plain=False)
                self._add_block(body, is_parameters, in_loop=in_loop)
            case ast.Try(body=body, handlers=handlers, orelse=other, finalbody=final):
                blocks = [*body, *(each for one in handlers for each in one.body), *other, *final]
                self._add_block(blocks, is_parameters, in_loop=in_loop)
            case (
                ast.For(target=target, iter=values, body=body, orelse=other)
                | ast.AsyncFor(target=target, iter=values, body=body, orelse=other)
            ):
                self._use(values)
                is_search = (
                    self._is_running and not in_loop and self._bind_search(target, values, body)
                )
                if not is_search:
                    self._bind(target, plain=False)
                self._in_search, before = is_search, self._in_search
                self._add_block([*body, *other], False, in_loop=not is_search)
                self._in_search = before
            case ast.While(test=test, body=body, orelse=other):
                self._use(test)
                self._add_block([*body, *other], False, in_loop=True)
            case ast.Assign(targets=targets, value=value):
                self._use(value)
                for target in targets:
                    self._bind(target, value, is_parameters, plain=not in_loop)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self._use(value)
                self._bind(target, value, is_parameters, plain=not in_loop)
            case ast.AugAssign(target=target, value=value):
                self._use(value)
                self._bind(target, plain=False)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._use(node)
                is_class = isinstance(node, ast.ClassDef)
                self._bind(ast.Name(node.name, ast.Store()), plain=is_class and not in_loop)
                if not is_class:
                    self._functions.add(node.name)
                self._note_changes(node)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                for alias in names:
                    self._plain[alias.asname or alias.name.partition(".")[0]] = False
            case ast.Delete(targets=targets):
                for target in targets:
                    self._bind(target, plain=False)
            case _:
                self._use(node)
        if in_loop:
            self._note_changes(node)

    def _add_block(self, body: Iterable[ast.stmt], is_parameters: bool, *, in_loop: bool) -> None:
        for statement in body:
            self._add_statement(statement, is_parameters, in_loop=in_loop)

    def _bind(
        self,
        target: ast.expr | None,
        value: ast.expr | None = None,
        is_parameters: bool = False,
        *,
        plain: bool,
    ) -> None:
        match target:
            case ast.Name(id=name):
                is_plain = plain and (value is None or not _reads_clock(value))
                is_plain = is_plain and (not self._in_search or self._is_choice(value))
                self._plain.pop(name, None)  # the order of keys is that of the last assignments
                self._plain[name] = is_plain
                self._computed[name] = value is not None and _has_call(value)
                self._results[name] = value is not None and self._has_result(value)
                self._bound_at.setdefault(name, self._statement)
                if is_parameters and is_plain:
                    self._parameters[name] = None
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                for each in targets:
                    self._bind(each, value, is_parameters, plain=plain)
            case ast.Starred(value=each):
                self._bind(each, value, is_parameters, plain=plain)
            case ast.Attribute() | ast.Subscript():
                self._use(target)

    def _bind_search(self, target: ast.expr, values: ast.expr, body: Sequence[ast.stmt]) -> bool:
        """Bind the variables of a loop over hyperparameters; return False if it is another loop."""
        match target, values:
            case (
                ast.Tuple(elts=[counter, target]),
                ast.Call(func=ast.Name(id="enumerate"), args=[values, *_]),
            ):
                self._bind(counter, plain=False)
        names = {each.id for each in ast.walk(target) if isinstance(each, ast.Name)}
        if not self._has_choices(values, names) or names & _positions(body):
            return False
        self._bind(target, plain=True)
        return True

    def _has_choices(self, values: ast.expr, names: Set[str]) -> bool:
        """Return whether an iterable has hyperparameters to choose from, and not rows of data."""
        match values:
            case ast.List() | ast.Tuple() | ast.Set():
                return True
            case ast.Name(id=name):
                with suppress(_NotDerived):
                    choices = self._namespace.get(name)
                    is_collection = isinstance(choices, (list, tuple, dict))
                    return is_collection and _derive(choices, _MAX_DERIVED_DEPTH) is not None
                return False
            case ast.Call(func=ast.Name(id="range")):
                words = {word.lower() for name in names for word in _WORD.findall(name)}
                return not words.isdisjoint(_SEED_WORDS)
            case ast.Call(func=ast.Name(id=function) | ast.Attribute(attr=function)):
                return function in _CHOICES
        return False

    def _has_result(self, value: ast.expr) -> bool:
        return any(
            isinstance(each, ast.Name) and (each.id in self._functions or self.is_result(each.id))
            for each in ast.walk(value)
        )

    def _is_choice(self, value: ast.expr | None) -> bool:
        """Return whether a value follows from hyperparameters and draws, not from a training."""
        if value is None:
            return True
        calls = [each.func for each in ast.walk(value) if isinstance(each, ast.Call)]
        called = {id(each) for function in calls for each in ast.walk(function)}
        return all(getattr(one, "attr", getattr(one, "id", "")) in _DRAWS for one in calls) and all(
            self._plain.get(each.id)
            for each in ast.walk(value)
            if isinstance(each, ast.Name) and id(each) not in called
        )

    def _use(self, node: ast.AST) -> None:
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load):
                self._used_at[each.id] = self._statement
            elif isinstance(each, ast.NamedExpr):
                self._bind(each.target, plain=False)

    def _note_changes(self, node: ast.stmt) -> None:
        """Exclude names whose values code in a loop or function changes, as ``losses.append()``."""
        for each in ast.walk(node):
            match each:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
                    if method in _MUTATORS:
                        self._plain[name] = False
                case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
                    self._plain[name] = False
                case ast.Global(names=names):
                    self._plain.update(dict.fromkeys(names, False))


def _positions(body: Sequence[ast.stmt]) -> set[str]:
    """Return the names that code passes as ``epoch`` or ``step``."""
    calls = (each for node in body for each in ast.walk(node) if isinstance(each, ast.Call))
    given = (one for call in calls for one in call.keywords if one.arg in ("epoch", "step"))
    return {each.id for one in given for each in ast.walk(one.value) if isinstance(each, ast.Name)}


def _has_call(value: ast.expr) -> bool:
    return any(isinstance(node, ast.Call) for node in ast.walk(value))


def _reads_clock(value: ast.expr) -> bool:
    for node in ast.walk(value):
        if isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", None))
            if name in _CLOCKS:
                return True
    return False
