"""The names that executions of cells use and change, and the random generators. Pure.

This is an estimate from the sources: a call may change its arguments and the object whose method it
is, and a function that the notebook defines does what its body says. Names that no source binds are
those of the last ``import *``, if there is one; like imports, they do not change. Names that the
code finds in another way, files, and the state of modules are unknown.

Global random generators count as names that drawing uses and changes, and that setting a seed
assigns. Code that uses a framework with a generator of its own (PyTorch, TensorFlow) draws from it,
except for calls that are known not to. Explicit generators are ordinary values. Seeds that differ
in each execution are found in code that runs in any case; see :mod:`.randomness`.
"""

from __future__ import annotations

import ast
import builtins
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Final, NamedTuple

from .magics import MAX_PARSED, Cell, command_statement, parse, read_cell, setup_statement, words
from .randomness import (
    FRAMEWORKS,
    GENERATORS,
    METHODS,
    SEEDS,
    STATES,
    EntropySources,
    bindings,
    find_draws,
    find_method_draws,
    find_restored,
    find_seeded,
    identifiers,
    sets_seeds,
    sets_state,
)

#: The folder that relative paths begin at; ``%cd data`` uses and changes it.
_FOLDER: Final = "working folder"
_FOLDER_CALL: Final = "__change_folder__"

_BUILTINS: Final = frozenset(dir(builtins))
#: Builtin functions that do not change their arguments.
_READING: Final = words(
    """
    abs all any ascii bool bytes callable chr complex dict dir display divmod enumerate filter float
    format frozenset getattr hasattr hash hex id int isinstance issubclass len list map max min
    print range repr reversed round set sorted str sum super tuple type vars zip
    """
)
#: Methods that change their object, in the standard library and in usual packages.
_CHANGING: Final = words(
    """
    add append backward clear discard extend fill fit fit_transform insert load_state_dict
    partial_fit pop popitem remove reverse setdefault sort step update
    """
)
#: Functions that look names up by texts.
_LOOKING_UP: Final = frozenset(("dir", "globals", "locals", "vars"))


class Effects(NamedTuple):
    """The effects of an execution.

    Attributes
    ----------
    uses : frozenset of str
        The names that it reads before it assigns them.
    assigns : frozenset of str
        The names whose values it replaces.
    changes : frozenset of str
        The names whose values it may change, including those that it assigns.
    writes : frozenset of str
        The names that it changes by an assignment, by a method such as ``append``, or by drawing.
    entropy : frozenset of str
        The functions whose entropy decides on the random numbers that it draws.
    unseeded : mapping of str to str
        The generators that it leaves with a seed that is not fixed, and the functions from whose
        entropy the seeds come.
    """

    uses: frozenset[str]
    assigns: frozenset[str]
    changes: frozenset[str]
    writes: frozenset[str]
    entropy: frozenset[str]
    unseeded: Mapping[str, str]


class EffectReader:
    """The effects of sources that one kernel executed, with its functions, classes and imports.

    Parameters
    ----------
    kept : collection of str
        The sources that are in the notebook. What they import may be imported by others again.
    """

    def __init__(self, sources: Iterable[str], kept: Collection[str]) -> None:
        self.imports: dict[str, str] = {}
        self.definitions: dict[str, ast.AST] = {}
        #: The generators of frameworks from which the value of a name may draw.
        self.drawing: dict[str, frozenset[str]] = {}
        self._effects: dict[str, Effects | None] = {}
        self.kept_imports: set[str] = set()
        #: The names of builtins that the notebook does not assign.
        self.builtins = _BUILTINS
        #: The names that the sources assign; others come from the kernel or from ``import *``.
        self._bound = Counter[str]()
        trees = []
        for source in dict.fromkeys(sources):
            if (tree := _parse(source)) is not None:
                trees.append(tree)
                self._bound.update(bindings(tree))
                imports = dict(_imports(tree))
                self.imports |= imports
                if source in kept:
                    self.kept_imports |= imports.keys()
        self.builtins -= self._bound.keys()
        for tree in trees:
            for statement in tree.body:
                if isinstance(statement, _DEFINITIONS):
                    self.definitions[statement.name] = statement
        self.entropy = EntropySources(trees, self._bound, self.full_name)
        values = [pair for tree in trees for pair in self._named_values(tree)]
        for names, value in values * 2:  # a cell may use names of later ones
            if found := frozenset(self._find_drawn(value)):
                for name in names:
                    self.drawing[name] = self.drawing.get(name, frozenset()) | found

    def read(self, source: str) -> Effects | None:
        """Return the effects of a source, or None if they are unknown."""
        if source not in self._effects:
            tree = _parse(source)
            try:
                self._effects[source] = None if tree is None else _Visitor(self).read(tree)
            except RecursionError:
                self._effects[source] = None
        return self._effects[source]

    def _named_values(self, tree: ast.Module) -> Iterator[tuple[set[str], ast.AST]]:
        """Yield values, functions and classes with their names."""
        for node in ast.walk(tree):
            match node:
                case ast.Assign():
                    yield _names(*node.targets), node.value
                case ast.AnnAssign(value=ast.expr() as value) | ast.NamedExpr(value=value):
                    yield _names(node.target), value
                case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                    if self.definitions.get(node.name) is node:
                        yield {node.name}, node

    def _find_drawn(self, value: ast.AST) -> Iterator[str]:
        """Yield the generators of frameworks from which a value may draw when it is called."""
        is_definition = isinstance(value, _DEFINITIONS)
        for node in ast.walk(value):
            match node:
                case ast.Call() if not is_definition and self.entropy.is_explicit(node):
                    return
                case ast.Call(func=function):
                    yield from self._find_framework(function, node)
                case ast.ClassDef(bases=bases):
                    for base in bases:
                        yield from self._find_framework(base, ast.Call(base, [], []))
                case ast.Name(id=name) if not is_definition or name in self.definitions:
                    yield from self.drawing.get(name, ())

    def _find_framework(self, function: ast.expr, call: ast.Call) -> Iterator[str]:
        for generator, only in find_draws(self.full_name(function) or "", call):
            if not only and generator in FRAMEWORKS.values():
                yield generator

    def full_name(self, function: ast.expr) -> str | None:
        """Return the full name of an imported function, such as ``numpy.random.rand``."""
        names: list[str] = []
        while isinstance(function, ast.Attribute):
            names.append(function.attr)
            function = function.value
        if not isinstance(function, ast.Name):
            return None
        imported = self._imported(function.id)
        if imported is None:
            return None
        return ".".join([imported, *reversed(names)]).replace("torch.random.", "torch.", 1)

    def is_foreign(self, name: str) -> bool:
        """Return whether no source binds a name, so that it comes from elsewhere."""
        own = self._bound, self.imports, self.definitions, _BUILTINS
        return not any(name in names for names in own)

    def _imported(self, name: str) -> str | None:
        """Return the full name of what a name stands for; None unless it is imported."""
        if name not in self.imports and "*" in self.imports and self.is_foreign(name):
            return self.imports["*"].removesuffix("*") + name
        return self.imports.get(name)


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
#: Statements after which the rest of a function or loop does not run.
_LEAVING = (ast.Return, ast.Continue, ast.Break)


class _Visitor(ast.NodeVisitor):
    """Collects the effects of a cell, in the order of its code."""

    def __init__(self, reader: EffectReader) -> None:
        self._reader = reader
        self._uses: set[str] = set()
        self._assigns: set[str] = set()
        self._changes: set[str] = set()
        self._writes: set[str] = set()
        self._entropy: set[str] = set()
        self._unseeded: dict[str, str] = {}
        #: By the names of saved states of global generators, functions that restore them here.
        self._saved: dict[str, Callable[[], None]] = {}
        #: How many conditions decide whether the code runs.
        self._conditions = 0
        #: Whether one of them is that there is a seed, as in ``if seed is None``.
        self._is_optional = False
        #: The names of the scopes within the cell, innermost last.
        self._local: list[set[str]] = []
        self._entered: set[str] = set()
        self._texts: set[str] = set()

    def read(self, tree: ast.AST) -> Effects:
        self._texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        self.visit(tree)
        # Importing a module again does not change it.
        writes = self._writes | (self._assigns - self._reader.kept_imports)
        return Effects(
            uses=frozenset(self._uses),
            assigns=frozenset(self._assigns),
            changes=frozenset(self._changes | writes),
            writes=frozenset(writes),
            entropy=frozenset(self._entropy),
            unseeded=self._unseeded,
        )

    # Names

    def _is_local(self, name: str) -> bool:
        return any(name in names for names in self._local)

    def _use(self, name: str) -> None:
        if name in self._unseeded:
            self._entropy.add(self._unseeded[name])
        if self._is_local(name):
            return
        if name not in self._assigns:
            self._uses.add(name)
        definition = self._reader.definitions.get(name)
        if definition is not None and name not in self._entered:
            self._entered.add(name)
            outer, self._local = self._local, []
            self._visit_body(definition)
            self._local = outer

    def _assign(self, name: str) -> None:
        self._unseeded.pop(name, None)
        self._saved.pop(name, None)
        if self._local:
            self._local[-1].add(name)
        else:
            self._assigns.add(name)
            self._entered.discard(name)

    def _change(self, names: Iterable[str], *, writes: bool = False) -> None:
        for name in names:
            reader = self._reader
            fixed = (reader.imports, reader.definitions, reader.builtins)
            is_fixed = any(name in names for names in fixed) or reader.is_foreign(name)
            if not self._is_local(name) and not is_fixed:
                (self._writes if writes else self._changes).add(name)

    def _draw(self, generator: str, *, explicitly: bool) -> None:
        if self._is_optional:
            return
        if generator not in self._assigns:
            self._uses.add(generator)
        if generator in self._unseeded:
            self._entropy.add(self._unseeded[generator])
        (self._writes if explicitly else self._changes).add(generator)

    @contextmanager
    def _scope(self, names: Iterable[str]) -> Iterator[None]:
        outer, local = self._local, set(names)
        hidden = {name: self._unseeded.pop(name) for name in local & self._unseeded.keys()}
        self._local = [*outer, local]
        yield
        self._local = outer
        for name in local:
            self._unseeded.pop(name, None)
        self._unseeded |= hidden

    @contextmanager
    def _condition(self, test: ast.expr | None = None) -> Iterator[None]:
        """Visit code that a condition decides on."""
        is_optional = self._is_optional
        if test is not None and any("seed" in name.lower() for name in identifiers(test)):
            self._is_optional = True
        with self._block():
            self._conditions += 1
            yield
        self._is_optional = is_optional

    @contextmanager
    def _block(self) -> Iterator[None]:
        """Visit a loop or a function, which may end early."""
        conditions = self._conditions
        yield
        self._conditions = conditions

    def _full_name(self, function: ast.expr) -> str | None:
        """Return the full name of an imported function, unless its name is local."""
        is_local = any(map(self._is_local, _root(function)))
        return None if is_local else self._reader.full_name(function)

    # Seeds

    def _save(self, generator: str) -> Callable[[], None]:
        """Return a function that restores what is known of a global generator."""
        known = [
            (names, generator in names) for names in (self._assigns, self._changes, self._writes)
        ]
        entropy, entered = self._unseeded.get(generator), {*self._entered}

        def restore() -> None:
            for names, is_member in known:
                (names.add if is_member else names.discard)(generator)
            self._unseeded.pop(generator, None)
            if entropy is not None:
                self._unseeded[generator] = entropy
            if not self._local:  # functions that were called since may set the seed again
                self._entered &= entered

        return restore

    def _set_seed(self, generators: Iterable[str], entropy: str | None) -> None:
        for generator in generators:
            self._unseeded.pop(generator, None)
            is_seeded = self._conditions or self._reader.entropy.is_seeded(generator)
            if entropy is not None and not is_seeded:
                self._unseeded[generator] = entropy

    def _refer(self, function: ast.expr) -> None:
        """Add that a function for seeds may be called, as in ``for f in [random.seed]: f(0)``."""
        seeded = SEEDS.get(self._full_name(function) or "", set())
        self._assigns |= seeded
        self._set_seed(seeded, None)

    def _restored(self, manager: ast.expr) -> set[str]:
        """Return the global generators whose states a context manager restores."""
        definition: ast.AST = manager
        if isinstance(manager, ast.Call) and isinstance(manager.func, ast.Name):
            definition = self._reader.definitions.get(manager.func.id, manager)
        calls = [node for node in ast.walk(definition) if isinstance(node, ast.Call)]
        names = [self._reader.full_name(call.func) or "" for call in calls]
        return set().union(*map(find_restored, names, calls))

    # Nodes

    def visit(self, node: ast.AST) -> None:
        """Add the effects of a node."""
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                self._refer(node)
                self._use(name)
            case ast.Attribute():
                self._refer(node)
                self.generic_visit(node)
            case ast.Name(id=name, ctx=ast.Store()):
                self._assign(name)
            case ast.Name(id=name):
                self._change([name], writes=True)
            case ast.Assign(targets=targets, value=value):
                self._visit_assignment(value, targets)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self._visit_assignment(value, [target])
            case ast.AnnAssign():
                pass
            case ast.AugAssign(target=target, value=value):
                self.visit(value)
                for name in _names(target):
                    self._use(name)
                self._change(_names(target), writes=True)
            case ast.For(iter=values) | ast.AsyncFor(iter=values):
                self._visit_assignment(values, [node.target])
                with self._block():
                    for statement in (*node.body, *node.orelse):
                        self.visit(statement)
            case ast.While():
                with self._block():
                    self.generic_visit(node)
            case ast.Delete(targets=targets):
                for deleted in targets:
                    self._visit_target(deleted)
            case ast.Import() | ast.ImportFrom():
                for alias, _ in _imports(node):
                    if not self._local:  # a local name does not stand for an import
                        self._assign(alias)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                with self._condition():  # a call may have other values
                    for default in (*node.args.defaults, *node.args.kw_defaults):
                        if default is not None:
                            self.visit(default)
                for decorator in node.decorator_list:
                    self.visit(decorator)
                if self._local:  # a function within one that is called
                    self._visit_body(node)
                self._assign(node.name)
            case ast.ClassDef():
                for each in (*node.decorator_list, *node.bases, *node.keywords):
                    self.visit(each)
                with self._scope(()):
                    for statement in node.body:
                        if not isinstance(statement, _DEFINITIONS):
                            self.visit(statement)
                self._assign(node.name)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                with self._scope(bindings(node)):
                    self.generic_visit(node)
            case ast.Lambda():
                with self._scope(bindings(node)), self._condition():
                    self.generic_visit(node)
            case ast.If(test=test) | ast.IfExp(test=test) | ast.BoolOp(values=[test, *_]):
                with self._condition(test):
                    self.generic_visit(node)
                if isinstance(node, ast.If) and _contains(node, _LEAVING):
                    self._conditions += 1
            case ast.ExceptHandler() | ast.match_case():
                with self._condition():
                    self.generic_visit(node)
            case ast.With() | ast.AsyncWith():
                restored = {one for item in node.items for one in self._restored(item.context_expr)}
                saved = [self._save(generator) for generator in restored]
                self.generic_visit(node)
                for restore in () if _contains(node, ast.Yield) else saved:
                    restore()
            case ast.Yield():  # a context manager restores states after the code within it
                self._saved.clear()
                self.generic_visit(node)
            case ast.Call():
                self._visit_call(node)
            case _:
                self.generic_visit(node)

    def _visit_assignment(self, value: ast.expr, targets: Iterable[ast.expr]) -> None:
        entropy, targets = {*self._entropy}, [*targets]
        self.visit(value)
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        sources = self._reader.entropy
        function = sources.of_generator(value, self._unseeded)
        if function is not None and (names or any(map(sources.is_seeded, targets))):
            self._entropy = entropy  # creating it does not draw
        saved = None
        if isinstance(value, ast.Call):
            generator = STATES.get(self._full_name(value.func) or "")
            saved = self._save(generator) if generator else None
        for target in targets:
            self._visit_target(target)
        for name in names:
            self._set_seed([name], function)
            if saved is not None:
                self._saved[name] = saved

    def _visit_target(self, target: ast.expr) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            for element in target.elts:
                self._visit_target(element)
        elif isinstance(target, ast.Starred):
            self._visit_target(target.value)
        else:
            self.visit(target)
            if isinstance(target, (ast.Attribute, ast.Subscript)):
                self._change(_root(target), writes=True)

    def _visit_body(self, definition: ast.AST) -> None:
        """Visit the code of a function, or of the methods of a class, as if it were called."""
        if isinstance(definition, ast.ClassDef):
            for statement in definition.body:
                if isinstance(statement, _DEFINITIONS):
                    # Nothing is known of whether other methods are called.
                    is_called = statement.name in ("__init__", "__post_init__")
                    with nullcontext() if is_called else self._condition():
                        self._visit_body(statement)
        elif isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = [node for one in definition.body for node in ast.walk(one)]
            shared = {name for node in inner if isinstance(node, ast.Global) for name in node.names}
            with self._scope({*bindings(definition)} - shared), self._block():
                for statement in definition.body:
                    self.visit(statement)
            # A scope of its own, so that these are no assignments of the cell.
            self._change(shared, writes=True)

    def _visit_call(self, node: ast.Call) -> None:
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        # Trainers of transformers call it after they set the seed.
        later = [keyword.value for keyword in node.keywords if keyword.arg == "model_init"]
        for each in arguments:
            if each not in later:
                self.visit(each)
        self.visit(node.func)
        function, full_name = node.func, self._full_name(node.func)
        if isinstance(function, ast.Name) and function.id in _LOOKING_UP:
            for text in self._texts - self._assigns:
                self._use(text)
        if full_name == "os.chdir" or _root(function) == [_FOLDER_CALL]:
            self._change_folder()
        if isinstance(function, ast.Attribute):
            self._change(_root(function), writes=function.attr in _CHANGING)
        if not (isinstance(function, ast.Name) and function.id in _READING):
            self._change(_names(*arguments))
        self._find_entropy(node)
        if full_name is not None:
            self._call(full_name, node)
        elif not (isinstance(function, ast.Name) and function.id in self._reader.definitions):
            self._call_value(function, node)
        for each in later:
            self.visit(each)

    def _call_value(self, function: ast.expr, node: ast.Call) -> None:
        """Add the effects of a call of a value, or its method, on global generators."""
        for name in _root(function):
            for generator in self._reader.drawing.get(name, ()) if not self._is_local(name) else ():
                self._draw(generator, explicitly=False)
        if isinstance(function, ast.Attribute):
            modules = self._reader.imports.values()
            for generator in find_method_draws(function.attr, node, modules):
                self._draw(generator, explicitly=False)
            if function.attr not in METHODS and sets_seeds(function.attr):
                self._assigns.update(GENERATORS)

    def _find_entropy(self, node: ast.Call) -> None:
        """Find seeds that differ in each execution, unless an imported function sets them."""
        sources, function = self._reader.entropy, node.func
        if isinstance(function, ast.Name) and function.id in self._reader.definitions:
            if sets_seeds(function.id) and (node.args or node.keywords):
                generators = GENERATORS.keys() & self._assigns
                self._set_seed(generators, sources.of_seed(node, self._unseeded))
        elif (generator := sources.reseeded(node)) is not None:
            self._set_seed([generator], sources.of_seed(node, self._unseeded))
        elif not self._conditions and (found := sources.of_call(node, self._unseeded)):
            self._entropy.add(found)

    def _call(self, name: str, node: ast.Call) -> None:
        """Add the effects of a call of an imported function on global generators."""
        state = node.args[0] if sets_state(name) and node.args else None
        if isinstance(state, ast.Name) and state.id in self._saved and not self._conditions:
            self._saved[state.id]()
            return
        seeded = find_seeded(name)
        if seeded is not None:
            self._assigns |= seeded
            self._set_seed(seeded, self._reader.entropy.of_seed(node, self._unseeded))
            return
        for generator, explicitly in find_draws(name, node):
            self._draw(generator, explicitly=explicitly)

    def _change_folder(self) -> None:
        if _FOLDER not in self._assigns:
            self._uses.add(_FOLDER)
        self._writes.add(_FOLDER)


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names that code imports, and the full names of what they stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (first, first)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _contains(node: ast.AST, kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> bool:
    return any(isinstance(one, kind) for one in ast.walk(node))


def _names(*nodes: ast.AST) -> set[str]:
    return {one.id for node in nodes for one in ast.walk(node) if isinstance(one, ast.Name)}


def _root(node: ast.expr) -> list[str]:
    """Return the name that an expression such as ``a.b[0].c()`` begins with, if any."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return [node.id] if isinstance(node, ast.Name) else []


@lru_cache(maxsize=1_000)
def _parse(source: str) -> ast.Module | None:
    """Return the syntax tree of a cell, with magics as the statements that they run.

    None if there is none. ``%cd data`` becomes a call of :data:`_FOLDER_CALL`.
    """
    if len(source) > MAX_PARSED:
        return None
    cell = read_cell(source)
    if cell.foreign:
        return ast.Module(body=[], type_ignores=[])
    return parse("\n".join(_python_lines(cell)))


def _python_lines(cell: Cell) -> Iterator[str]:
    for head in cell.heads:
        yield setup_statement(head) or ""
    for line in cell.lines:
        if isinstance(line, str):
            yield line
            continue
        statement = command_statement(line)
        if statement is None:
            name, _, rest = line.text.partition(" ")
            is_relative = not rest.strip().startswith(("/", "~"))
            if line.is_assigned:
                statement = f"{line.before.strip()} None"
            elif line.kind == "magic" and name == "cd" and rest.strip() and is_relative:
                statement = f"{_FOLDER_CALL}()"
            elif line.kind == "magic" and name == "pylab":
                statement = "from pylab import *"
            else:
                statement = "pass"
        yield line.indent + statement
