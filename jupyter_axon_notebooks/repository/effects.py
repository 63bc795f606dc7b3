"""The names that executions of cells use and change, and the random generators. Pure.

This is an estimate from the sources: a call may change its arguments and the object whose method it
is, and a function that the notebook defines does what its body says. Names that no source binds are
those of the last ``import *``, if there is one; like imports, they do not change. Names that the
code finds in another way, files, and the state of modules are unknown.

Random generators count as names that drawing uses and changes, and that setting a seed assigns.
Code that uses a framework with a generator of its own (PyTorch, TensorFlow) draws from it, except
for calls that are known not to. Explicit generators, such as those of ``default_rng`` and the keys
of JAX, are ordinary values.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final, NamedTuple

from .magics import MAX_PARSED, Cell, command_statement, parse, read_cell, setup_statement, words

#: The random generators, and how to set their seeds. No name contains a space.
GENERATORS: Final = {
    "Python's random": "random.seed(0)",
    "NumPy's random": "np.random.seed(0)",
    "PyTorch's random": "torch.manual_seed(0)",
    "TensorFlow's random": "tf.random.set_seed(0)",
}
_PYTHON, _NUMPY, _TORCH, _TENSORFLOW = GENERATORS
#: The folder that relative paths begin at; ``%cd data`` uses and changes it.
_FOLDER: Final = "working folder"
_FOLDER_CALL: Final = "__change_folder__"

#: Packages whose code draws from the generator of a framework.
_FRAMEWORKS: Final = {
    **dict.fromkeys(
        (
            *("accelerate", "diffusers", "fastai", "lightning", "peft", "pytorch_lightning"),
            *("sentence_transformers", "timm", "torch", "torch_geometric", "torchvision"),
            *("transformers", "trl"),
        ),
        _TORCH,
    ),
    **dict.fromkeys(("keras", "tensorflow", "tf_keras"), _TENSORFLOW),
}
#: Names of other functions that set seeds, in lower case, such as ``seed_everything`` and
#: ``set_random_seed``; not ``get_seed``, ``load_seeds`` or ``initial_seed``.
_SETS_SEEDS: Final = re.compile(
    r"_*(?:re_?|(?:set|fix|manual|reset|init|use|apply)(?:_?(?:random|global)|_\w+)?_?)?"
    r"seed(?:s|_\w+|all|everything)?"
)
#: Functions that set seeds, by their full names.
_SEEDS: Final = {
    "random.seed": {_PYTHON},
    "random.setstate": {_PYTHON},
    "numpy.random.seed": {_NUMPY},
    "numpy.random.set_state": {_NUMPY},
    "torch.manual_seed": {_TORCH},
    "torch.random.manual_seed": {_TORCH},
    "torch.set_rng_state": {_TORCH},
    "torch.random.set_rng_state": {_TORCH},
    "tensorflow.random.set_seed": {_TENSORFLOW},
    "tensorflow.random.set_random_seed": {_TENSORFLOW},
    "tensorflow.compat.v1.set_random_seed": {_TENSORFLOW},
}
#: Calls of PyTorch's own functions that draw, besides those that begin with ``rand``.
_TORCH_DRAWS: Final = frozenset(
    ("DataLoader", "bernoulli", "dropout", "multinomial", "normal", "poisson", "random_split")
)
#: Words in the names of a framework's functions and classes that do not draw.
_QUIET: Final = (
    *("Activation", "Argument", "Callback", "Config", "Dataset", "Flatten", "Input", "Logger"),
    *("Loss", "Metric", "Optimizer", "Processor", "ReLU", "Rescaling", "Tokenizer", "dataset"),
)
_QUIET_MODULES: Final = frozenset(("datasets", "transforms"))
#: Modules of scikit-learn that draw from NumPy's generator, unless they get ``random_state``.
_SKLEARN: Final = frozenset(
    (
        *("cluster", "decomposition", "ensemble", "linear_model", "manifold", "mixture"),
        *("model_selection", "neural_network", "svm", "tree", "utils"),
    )
)
#: Of these, what draws only with one of the options below: estimators and functions.
_SKLEARN_QUIET: Final = words(
    """
    AgglomerativeClustering BayesianRidge DBSCAN ElasticNet ElasticNetCV GridSearchCV GroupKFold
    KFold LeaveOneGroupOut LeaveOneOut Lars Lasso LassoCV LinearRegression LogisticRegression
    LogisticRegressionCV NuSVC NuSVR OneClassSVM ParameterGrid PredefinedSplit Ridge RidgeCV
    RidgeClassifier SVC SVR StratifiedGroupKFold StratifiedKFold TimeSeriesSplit cross_val_predict
    cross_val_score cross_validate learning_curve validation_curve
    """
)
_SKLEARN_DRAWING_OPTIONS: Final = frozenset(("probability", "selection", "shuffle", "solver"))
_SKLEARN_UTILS: Final = frozenset(("resample", "shuffle"))
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
    """

    uses: frozenset[str] = frozenset()
    assigns: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()


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
        self._bound: set[str] = set()
        trees = []
        for source in dict.fromkeys(sources):
            if (tree := _parse(source)) is not None:
                trees.append(tree)
                self._bound |= _bound(tree)
                imports = dict(_imports(tree))
                self.imports |= imports
                if source in kept:
                    self.kept_imports |= imports.keys()
        self.builtins -= self._bound
        for tree in trees:
            for statement in tree.body:
                if isinstance(statement, _DEFINITIONS):
                    self.definitions[statement.name] = statement
        for _ in range(2):  # a cell may use names of later ones
            for tree in trees:
                self._find_drawing(tree)

    def read(self, source: str) -> Effects | None:
        """Return the effects of a source, or None if they are unknown."""
        if source not in self._effects:
            tree = _parse(source)
            try:
                self._effects[source] = None if tree is None else _Visitor(self).read(tree)
            except RecursionError:
                self._effects[source] = None
        return self._effects[source]

    def _find_drawing(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                targets, value = node.targets, node.value
            elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
                targets, value = [node.target], node.value
            else:
                continue
            if self._is_generator(value):
                continue
            found = frozenset(generator for name in _names(value) for generator in self.draws(name))
            if found:
                for name in _names(*targets):
                    self.drawing[name] = self.drawing.get(name, frozenset()) | found

    def _is_generator(self, value: ast.expr) -> bool:
        """Return whether a value is an explicit generator of PyTorch."""
        calls = (node for node in ast.walk(value) if isinstance(node, ast.Call))
        return any(self.full_name(call.func) == "torch.Generator" for call in calls)

    def draws(self, name: str) -> frozenset[str]:
        """Return the generators of frameworks from which a value may draw when it is called."""
        if (imported := self._imported(name)) is not None:
            generator = _FRAMEWORKS.get(imported.partition(".")[0])
            return frozenset(() if generator is None else (generator,))
        if name in self.definitions:
            inner = {one for one in _names(self.definitions[name]) if self._imported(one)}
            return frozenset(one for alias in inner for one in self.draws(alias))
        return self.drawing.get(name, frozenset())

    def full_name(self, function: ast.expr) -> str | None:
        """Return the full name of an imported function, such as ``numpy.random.rand``."""
        names: list[str] = []
        while isinstance(function, ast.Attribute):
            names.append(function.attr)
            function = function.value
        if not isinstance(function, ast.Name):
            return None
        imported = self._imported(function.id)
        return None if imported is None else ".".join([imported, *reversed(names)])

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


class _Visitor(ast.NodeVisitor):
    """Collects the effects of a cell, in the order of its code."""

    def __init__(self, reader: EffectReader) -> None:
        self._reader = reader
        self._uses: set[str] = set()
        self._assigns: set[str] = set()
        self._changes: set[str] = set()
        self._writes: set[str] = set()
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
        found = self._uses, self._assigns, self._changes | writes, writes
        return Effects(*map(frozenset, found))

    # Names

    def _is_local(self, name: str) -> bool:
        return any(name in names for names in self._local)

    def _use(self, name: str) -> None:
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
        if generator not in self._assigns:
            self._uses.add(generator)
        (self._writes if explicitly else self._changes).add(generator)

    @contextmanager
    def _scope(self, names: Iterable[str]) -> Iterator[None]:
        self._local.append(set(names))
        try:
            yield
        finally:
            self._local.pop()

    # Nodes

    def visit(self, node: ast.AST) -> None:
        """Add the effects of a node."""
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                self._use(name)
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
                for statement in (*node.body, *node.orelse):
                    self.visit(statement)
            case ast.Delete(targets=targets):
                for deleted in targets:
                    self._visit_target(deleted)
            case ast.Import() | ast.ImportFrom():
                for alias, _ in _imports(node):
                    self._assign(alias)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                for default in (*node.args.defaults, *node.args.kw_defaults, *node.decorator_list):
                    if default is not None:
                        self.visit(default)
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
            case (
                ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp()
            ):
                with self._scope(_bound(node)):
                    self.generic_visit(node)
            case ast.Call():
                self._visit_call(node)
            case _:
                self.generic_visit(node)

    def _visit_assignment(self, value: ast.expr, targets: Iterable[ast.expr]) -> None:
        self.visit(value)
        for target in targets:
            self._visit_target(target)

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
                    self._visit_body(statement)
        elif isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = [node for one in definition.body for node in ast.walk(one)]
            shared = {name for node in inner if isinstance(node, ast.Global) for name in node.names}
            with self._scope(_bound(definition) - shared):
                for statement in definition.body:
                    self.visit(statement)
            # A scope of its own, so that these are no assignments of the cell.
            self._change(shared, writes=True)

    def _visit_call(self, node: ast.Call) -> None:
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        for each in arguments:
            self.visit(each)
        self.visit(node.func)
        function, full_name = node.func, self._reader.full_name(node.func)
        if isinstance(function, ast.Name) and function.id in _LOOKING_UP:
            for text in self._texts - self._assigns:
                self._use(text)
        if full_name == "os.chdir" or _root(function) == [_FOLDER_CALL]:
            self._change_folder()
        if isinstance(function, ast.Attribute):
            self._change(_root(function), writes=function.attr in _CHANGING)
        if not (isinstance(function, ast.Name) and function.id in _READING):
            self._change(_names(*arguments))
        if full_name is not None:
            self._call(full_name, node)
        else:
            for name in _root(function):
                for generator in self._reader.draws(name) if not self._is_local(name) else ():
                    self._draw(generator, explicitly=False)
            is_sample = isinstance(function, ast.Attribute) and function.attr == "sample"
            if is_sample and "pandas" in self._reader.imports.values() and not _has_state(node):
                self._draw(_NUMPY, explicitly=False)

    def _call(self, name: str, node: ast.Call) -> None:
        """Add the effects of a call of an imported function on generators."""
        seeds = _seeds(name, node)
        if seeds is not None:
            for generator in seeds:
                self._assigns.add(generator)
            return
        for generator, explicitly in _draws(name, node):
            self._draw(generator, explicitly=explicitly)

    def _change_folder(self) -> None:
        if _FOLDER not in self._assigns:
            self._uses.add(_FOLDER)
        self._writes.add(_FOLDER)


def _seeds(name: str, call: ast.Call) -> set[str] | None:
    """Return the generators that a call seeds; None if it is no such function."""
    last = name.rpartition(".")[2]
    if name in _SEEDS:
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        is_seeded = any(not _is_none(value) for value in given)
        return _SEEDS[name] if is_seeded else set()
    # Trainers of transformers set the seed when they are created.
    is_trainer = name.startswith(("transformers.", "trl.")) and last.endswith("Trainer")
    if last == "enable_full_determinism" or is_trainer:
        return {*GENERATORS}
    if "seed" not in last.lower() or last[0].isupper():
        return None
    # Of a graphics card, of PyTorch from the system, and of explicit generators.
    others = ("jax.", "torch.cuda.", "torch.initial_", "torch.mps.", "torch.seed", "torch.xpu.")
    if name.startswith(others):
        return set()
    return {*GENERATORS} if _SETS_SEEDS.fullmatch(last.lower()) else None


def _draws(name: str, call: ast.Call) -> Iterator[tuple[str, bool]]:
    """Yield the generators from which a call draws, and whether it only does that."""
    root, _, rest = name.partition(".")
    last = name.rpartition(".")[2]
    is_class, is_quiet = last[:1].isupper(), any(word in name for word in _QUIET)
    if root == "random" and rest and not is_class and last != "getstate":
        yield _PYTHON, True
    elif name.startswith("numpy.random."):
        if not is_class and last not in ("default_rng", "get_state"):
            yield _NUMPY, True
    elif (root == "scipy" and last == "rvs") or (
        root == "sklearn" and rest.partition(".")[0] in _SKLEARN
    ):
        if not _has_state(call) and (root == "scipy" or _sklearn_draws(rest, call)):
            yield _NUMPY, False
    elif root == "torch":
        if _has_state(call, "generator"):
            return
        if last.startswith("rand") or last in _TORCH_DRAWS or ".nn.init." in name:
            yield _TORCH, last != "DataLoader"
        elif ".nn." in name and is_class and not is_quiet:
            yield _TORCH, False
    elif _FRAMEWORKS.get(root) == _TENSORFLOW:
        if ".random." in name:
            yield _TENSORFLOW, not is_class
        elif "keras." in name and is_class and not is_quiet:
            yield _TENSORFLOW, False
    elif root in _FRAMEWORKS and not is_quiet and not _QUIET_MODULES & set(name.split(".")):
        yield _FRAMEWORKS[root], False


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


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _sklearn_draws(name: str, call: ast.Call) -> bool:
    module, _, last = name.partition(".")
    last = last.rpartition(".")[2]
    if module == "utils":
        return last in _SKLEARN_UTILS
    options = {keyword.arg for keyword in call.keywords}
    return last not in _SKLEARN_QUIET or bool(options & _SKLEARN_DRAWING_OPTIONS)


def _has_state(call: ast.Call, option: str = "random_state") -> bool:
    return any(one.arg == option and not _is_none(one.value) for one in call.keywords)


def _names(*nodes: ast.AST) -> set[str]:
    return {one.id for node in nodes for one in ast.walk(node) if isinstance(one, ast.Name)}


def _root(node: ast.expr) -> list[str]:
    """Return the name that an expression such as ``a.b[0].c()`` begins with, if any."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return [node.id] if isinstance(node, ast.Name) else []


def _bound(scope: ast.AST) -> set[str]:
    """Return the names that are local to a function, a lambda or a comprehension."""
    found = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


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
