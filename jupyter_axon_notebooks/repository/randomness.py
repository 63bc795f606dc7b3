"""Random generators: what seeds them, what draws from them, and seeds that are not fixed. Pure.

The *global generators* of packages have the names of :data:`GENERATORS`. *Explicit generators* are
values, such as those of ``default_rng`` and the keys of JAX. A *source of entropy* is a function
whose result differs in each execution: ``time.time()``, ``os.urandom()``, or ``default_rng()``
without a seed. Seeds of unknown origin, such as parameters and configurations, count as fixed.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from .magics import words

#: The random generators, and how to set their seeds. No name contains a space.
GENERATORS: Final = {
    "Python's random": "random.seed(0)",
    "NumPy's random": "np.random.seed(0)",
    "PyTorch's random": "torch.manual_seed(0)",
    "TensorFlow's random": "tf.random.set_seed(0)",
}
_PYTHON, _NUMPY, _TORCH, _TENSORFLOW = GENERATORS
#: Packages whose code draws from the generator of a framework.
FRAMEWORKS: Final = {
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
#: Names of context managers that set a seed and restore the state of the generators.
_SEEDS_WITHIN: Final = re.compile(r"_*(?:local|np|numpy|scoped|temp|temporary|tmp|torch)_?seed")
#: Functions that set seeds, by their full names.
SEEDS: Final = {
    "random.seed": {_PYTHON},
    "random.setstate": {_PYTHON},
    "numpy.random.seed": {_NUMPY},
    "numpy.random.set_state": {_NUMPY},
    "torch.manual_seed": {_TORCH},
    "torch.seed": {_TORCH},
    "torch.set_rng_state": {_TORCH},
    "tensorflow.random.set_seed": {_TENSORFLOW},
    "tensorflow.random.set_random_seed": {_TENSORFLOW},
    "tensorflow.compat.v1.set_random_seed": {_TENSORFLOW},
}
#: Functions that return the state of a generator, by their full names.
STATES: Final = {
    "random.getstate": _PYTHON,
    "numpy.random.get_state": _NUMPY,
    "torch.get_rng_state": _TORCH,
}
#: Functions that set such a state.
_SETS_STATES: Final = frozenset(name for name in SEEDS if name.endswith(("setstate", "_state")))
#: Context managers that restore the states of generators, by their last names.
_RESTORING: Final = {"fork_rng": {_TORCH}, "isolate_rng": {*GENERATORS}}
#: Functions that return something else in each execution, by their full names.
_ENTROPY: Final = words(
    """
    datetime.datetime.now datetime.datetime.today datetime.datetime.utcnow os.getpid os.getrandom
    os.urandom pandas.Timestamp.now pandas.Timestamp.today time.monotonic time.monotonic_ns
    time.perf_counter time.perf_counter_ns time.process_time time.process_time_ns time.time
    time.time_ns torch.seed uuid.uuid1 uuid.uuid4 random.SystemRandom
    secrets.choice secrets.randbelow secrets.randbits secrets.token_bytes secrets.token_hex
    secrets.token_urlsafe
    """
)
#: Explicit generators that take a seed from the system if they get none, and have methods to seed.
_RESEEDABLE: Final = words("numpy.random.RandomState random.Random")
#: The explicit generators that take a seed from the system if they get none. PyTorch's do not.
_EXPLICIT: Final = _RESEEDABLE | words(
    """
    numpy.random.Generator numpy.random.MT19937 numpy.random.PCG64 numpy.random.PCG64DXSM
    numpy.random.Philox numpy.random.SFC64 numpy.random.SeedSequence numpy.random.default_rng
    tensorflow.random.Generator.from_non_deterministic_state
    """
)
_GENERATORS: Final = _EXPLICIT | words(
    """
    jax.random.PRNGKey jax.random.key keras.random.SeedGenerator
    tensorflow.random.Generator.from_seed torch.Generator
    """
)
#: Methods that set the seeds and states of explicit generators.
METHODS: Final = words("manual_seed reset_from_seed seed set_state setstate")
#: Options that set the seed of what a function does.
_OPTIONS: Final = frozenset(("random_state", "seed"))
#: Methods of data that have such options.
_DRAWING: Final = frozenset(("sample", "shuffle", "train_test_split"))
#: Functions whose result differs if their argument does.
_CONVERSIONS: Final = words("abs float from_bytes hash int pow round str")
#: Calls of PyTorch's own functions that draw, besides those that begin with ``rand``.
_TORCH_DRAWS: Final = frozenset(
    ("DataLoader", "bernoulli", "dropout", "multinomial", "normal", "poisson", "random_split")
)
#: Methods of PyTorch's tensors that draw.
_TENSOR_DRAWS: Final = words(
    "bernoulli_ cauchy_ exponential_ geometric_ log_normal_ normal_ random_ uniform_"
)
#: Options of ``DataFrame.sample`` that methods of other classes do not have.
_SAMPLE_OPTIONS: Final = frozenset(("frac", "n", "replace", "weights"))
#: Words in the names of a framework's functions and classes that do not draw.
_QUIET: Final = words(
    """
    Accelerator Activation Argument Callback Config Dataset Fabric Flatten Input Logger Loss Metric
    Optimizer Processor ReLU Rescaling Tokenizer dataset
    """
)
_QUIET_MODULES: Final = words(
    "callbacks datasets loggers logging losses metrics optimizers transforms utils"
)
#: Functions and estimators of scikit-learn that draw from NumPy's generator, unless they get
#: ``random_state``; without "Classifier" and "Regressor" at the end of the name.
_SKLEARN: Final = words(
    """
    AdaBoost AffinityPropagation Bagging BayesianGaussianMixture BernoulliRBM BisectingKMeans
    DecisionTree DictionaryLearning ExtraTree ExtraTrees FactorAnalysis FastICA GaussianMixture
    GaussianRandomProjection GradientBoosting GroupShuffleSplit HalvingGridSearchCV
    HalvingRandomSearchCV HistGradientBoosting IsolationForest IterativeImputer KMeans
    LatentDirichletAllocation LinearSVC LinearSVR LocallyLinearEmbedding MDS MLP MiniBatchKMeans
    MiniBatchNMF NMF Nystroem ParameterSampler PassiveAggressive Perceptron RANSAC RBFSampler
    RandomForest RandomizedSearchCV RepeatedKFold RepeatedStratifiedKFold SGD ShuffleSplit
    SparseRandomProjection SpectralClustering SpectralEmbedding StratifiedShuffleSplit TSNE TheilSen
    TruncatedSVD k_means permutation_importance resample shuffle train_test_split
    """
)
#: Options with which others draw, and their values.
_SKLEARN_OPTIONS: Final = frozenset(("probability", "selection", "shuffle", "solver", "svd_solver"))
_SKLEARN_VALUES: Final = frozenset((True, "random", "randomized", "liblinear", "sag", "saga"))

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class EntropySources:
    """The seeds and explicit generators of sources that differ in each execution.

    Parameters
    ----------
    trees : sequence of ast.Module
        The sources.
    bound : mapping of str to int
        How often they bind each name.
    full_name : callable
        Returns the full name of an imported function, or None.
    """

    def __init__(
        self,
        trees: Sequence[ast.Module],
        bound: Mapping[str, int],
        full_name: Callable[[ast.expr], str | None],
    ) -> None:
        self._bound = bound
        self._full_name = full_name
        #: Names that only get values from sources of entropy, and these functions.
        self._values: dict[str, str] = {}
        self._generators: set[str] = set()
        #: Names of explicit generators that get a fixed seed, or a state, after they are created;
        #: with a dot, those of attributes that get a generator with a fixed seed.
        self._seeded: set[str] = set()
        with suppress(RecursionError):
            self._find_values(trees)
            for tree in trees:
                self._find_seeded(tree)

    def _find_values(self, trees: Sequence[ast.Module]) -> None:
        values, found = Counter[str](), dict[str, str]()
        for tree in trees:
            for targets, value in _assignments(tree.body):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
                if self.is_explicit(value):
                    self._generators.update(names)
                elif (function := self.of_value(value)) is not None:
                    values.update(names)
                    found |= dict.fromkeys(names, function)
        self._values = {
            name: function for name, function in found.items() if values[name] == self._bound[name]
        }

    def _find_seeded(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=generator, attr=method)) if (
                    method in METHODS and self._full_name(node.func) is None
                ):
                    if self._is_fixed(node):
                        self._seeded |= identifiers(generator)
                case ast.Call(func=ast.Name(id=name)) if sets_seeds(name):
                    self._seeded |= {one.id for one in node.args if isinstance(one, ast.Name)}
                case ast.Attribute(value=generator, attr="state", ctx=ast.Store()):
                    self._seeded |= identifiers(generator)
                case ast.Assign(targets=targets, value=ast.Call() as call) if self.is_explicit(
                    call
                ) and self._is_fixed(call):
                    attributes = (one for one in targets if isinstance(one, ast.Attribute))
                    self._seeded |= {f".{one.attr}" for one in attributes}

    def _is_fixed(self, call: ast.Call) -> bool:
        return _seed(call) is not None and self.of_seed(call) is None

    def of_value(self, node: ast.expr, unseeded: Mapping[str, str] = _NOTHING) -> str | None:
        """Return the source of entropy that a value comes from, if any.

        Parameters
        ----------
        unseeded : mapping of str to str
            Names of explicit generators without a fixed seed, and the sources of their seeds.
        """
        match node:
            case ast.Name(id=name):
                return unseeded.get(name) or self._values.get(name)
            case (
                ast.Attribute(value=inner)
                | ast.NamedExpr(value=inner)
                | ast.Subscript(value=inner)
                | ast.UnaryOp(operand=inner)
            ):
                return self.of_value(inner, unseeded)
            case ast.BinOp(left=left, right=right):
                return self._first((left, right), unseeded)
            case ast.Call(func=function):
                name = self._full_name(function) or ""
                if name in _ENTROPY:
                    return name
                if self.is_explicit(node):
                    return self.of_seed(node, unseeded)
                last = function.attr if isinstance(function, ast.Attribute) else _id(function)
                if last in _CONVERSIONS or name.startswith(("math.", "numpy.", "struct.")):
                    return self._first(node.args, unseeded)
                if isinstance(function, ast.Attribute):
                    return self.of_value(function.value, unseeded)
        return None

    def of_seed(self, call: ast.Call, unseeded: Mapping[str, str] = _NOTHING) -> str | None:
        """Return the source of entropy for the seed that a call sets, if any."""
        name = self._full_name(call.func)
        if (seed := _seed(call)) is not None:
            return self.of_value(seed, unseeded)
        if name is None and isinstance(call.func, ast.Attribute) and call.func.attr == "seed":
            return f"{_id(call.func.value)}.seed".lstrip(".")
        return name if name in {*_EXPLICIT, *SEEDS} else None

    def of_generator(self, node: ast.expr, unseeded: Mapping[str, str]) -> str | None:
        """Return the source of entropy for the seed of a new explicit generator, if any."""
        if isinstance(node, ast.Call) and self.is_explicit(node):
            return self.of_seed(node, unseeded)
        return None

    def of_call(self, call: ast.Call, unseeded: Mapping[str, str]) -> str | None:
        """Return the source of entropy for the numbers that a function draws, if any.

        If methods seed generators, those without a name are assumed to be among them.
        """
        name = self._full_name(call.func)
        if (found := self.of_generator(call, unseeded)) is not None:
            return None if self._seeded and found in _RESEEDABLE else found
        if name is None:
            is_drawing = isinstance(call.func, ast.Attribute) and call.func.attr in _DRAWING
        else:
            is_drawing = find_seeded(name) is None
        if not is_drawing:
            return None
        seeds = (keyword.value for keyword in call.keywords if keyword.arg in _OPTIONS)
        return self._first(seeds, unseeded)

    def is_seeded(self, target: ast.expr | str) -> bool:
        """Return whether a generator may get a fixed seed after it is created."""
        if isinstance(target, ast.Attribute):
            return not self._seeded.isdisjoint((target.attr, f".{target.attr}"))
        return target in self._seeded

    def reseeded(self, call: ast.Call) -> str | None:
        """Return the name of the explicit generator whose seed a call sets, if any."""
        function = call.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            name = function.value.id
            return name if function.attr in METHODS and name in self._generators else None
        return None

    def _first(self, nodes: Iterable[ast.expr], unseeded: Mapping[str, str]) -> str | None:
        return next((found for one in nodes if (found := self.of_value(one, unseeded))), None)

    def is_explicit(self, node: ast.expr) -> bool:
        """Return whether a value is a new generator, such as ``Generator().manual_seed(0)``."""
        if not isinstance(node, ast.Call):
            return False
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in METHODS:
            function = function.value.func if isinstance(function.value, ast.Call) else function
        return self._full_name(function) in _GENERATORS


def find_seeded(name: str) -> set[str] | None:
    """Return the global generators that a function seeds; None if it is no such function."""
    last = name.rpartition(".")[2]
    if name in SEEDS:
        return SEEDS[name]
    # Trainers of transformers set the seed when they are created.
    is_trainer = name.startswith(("transformers.", "trl.")) and last.endswith("Trainer")
    if last in ("enable_full_determinism", "set_determinism") or is_trainer:
        return {*GENERATORS}
    if "seed" not in last.lower() or last[0].isupper():
        return None
    # Of a graphics card, and of explicit generators.
    others = ("jax.", "torch.cuda.", "torch.initial_", "torch.mps.", "torch.xpu.")
    if name.startswith(others):
        return set()
    return {*GENERATORS} if sets_seeds(last) or _SEEDS_WITHIN.fullmatch(last.lower()) else None


def sets_seeds(name: str) -> bool:
    """Return whether a function sets seeds, by its name."""
    return _SETS_SEEDS.fullmatch(name.lower()) is not None


def sets_state(name: str) -> bool:
    """Return whether a function sets the state of a global generator, by its full name."""
    return name in _SETS_STATES


def find_restored(name: str, call: ast.Call) -> set[str]:
    """Return the global generators whose states a function restores."""
    last = name.rpartition(".")[2]
    if name in _SETS_STATES:
        return SEEDS[name]
    if _SEEDS_WITHIN.fullmatch(last.lower()):
        return {*GENERATORS}
    is_optional = any(keyword.arg == "enabled" for keyword in call.keywords)
    return set() if is_optional else _RESTORING.get(last, set())


def find_draws(name: str, call: ast.Call) -> Iterator[tuple[str, bool]]:
    """Yield the global generators from which a call draws, and whether it only does that."""
    root, _, rest = name.partition(".")
    last = name.rpartition(".")[2]
    is_class = last[:1].isupper()
    is_quiet = any(word in name for word in _QUIET) or bool({*name.split(".")} & _QUIET_MODULES)
    if root == "random" and rest and not is_class and last != "getstate":
        yield _PYTHON, True
    elif name.startswith("numpy.random."):
        if not is_class and last not in ("default_rng", "get_state"):
            yield _NUMPY, True
    elif (root == "scipy" and last == "rvs") or (root == "sklearn" and _sklearn_draws(rest, call)):
        if not has_state(call):
            yield _NUMPY, False
    elif root == "torch":
        if last.startswith("rand") or last in _TORCH_DRAWS or ".nn.init." in name:
            if not has_state(call, "generator"):
                yield _TORCH, last != "DataLoader"
        elif name == "torch.hub.load" or (".nn." in name and is_class and not is_quiet):
            yield _TORCH, False
    elif FRAMEWORKS.get(root) == _TENSORFLOW:
        if name in _GENERATORS or last.startswith("stateless_") or last in ("fold_in", "split"):
            return
        if ".random." in name:
            if "keras." in name and has_state(call, "seed"):
                return
            yield _TENSORFLOW, not is_class
        elif "keras." in name and is_class and not is_quiet:
            yield _TENSORFLOW, False
    elif root in FRAMEWORKS and not is_quiet:
        yield FRAMEWORKS[root], False


def find_method_draws(method: str, call: ast.Call, modules: Collection[str]) -> Iterator[str]:
    """Yield the global generators from which a method of data draws, by the imported modules."""
    if method in _TENSOR_DRAWS and not has_state(call, "generator"):
        yield _TORCH
    is_pandas = any(one.arg in _SAMPLE_OPTIONS for one in call.keywords) and "pandas" in modules
    is_seeded = has_state(call) or has_state(call, "seed")  # the latter is an option of Polars
    if method == "sample" and is_pandas and not is_seeded:
        yield _NUMPY


def _seed(call: ast.Call) -> ast.expr | None:
    """Return the first argument of a call, unless it is None."""
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    return arguments[0] if arguments and not _is_none(arguments[0]) else None


def _id(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _sklearn_draws(name: str, call: ast.Call) -> bool:
    last = name.rpartition(".")[2].removesuffix("Classifier").removesuffix("Regressor")
    options = {
        keyword.value.value
        for keyword in call.keywords
        if keyword.arg in _SKLEARN_OPTIONS and isinstance(keyword.value, ast.Constant)
    }
    is_made = name.startswith("datasets.make_")
    return is_made or last in _SKLEARN or not _SKLEARN_VALUES.isdisjoint(options)


def has_state(call: ast.Call, option: str = "random_state") -> bool:
    """Return whether a call may have an option that sets the seed or the generator.

    ``**options`` may contain it, and without shuffling there is no need for it.
    """
    return any(
        one.arg is None
        or (one.arg == option and not _is_none(one.value))
        or (one.arg == "shuffle" and isinstance(one.value, ast.Constant) and not one.value.value)
        for one in call.keywords
    )


def _assignments(body: Sequence[ast.stmt]) -> Iterator[tuple[list[ast.expr], ast.expr]]:
    """Yield the targets and values of assignments that depend on no condition."""
    for statement in body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                yield targets, value
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield [target], value
            case (
                ast.FunctionDef(body=inner)
                | ast.AsyncFunctionDef(body=inner)
                | ast.With(body=inner)
                | ast.AsyncWith(body=inner)
                | ast.For(body=inner)
            ):
                yield from _assignments(inner)


def bindings(tree: ast.AST) -> Iterator[str]:
    """Yield the names that code assigns, and those of parameters."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def identifiers(node: ast.expr) -> set[str]:
    """Return the names in an expression such as ``self.rng.bit_generator``."""
    nodes = [*ast.walk(node)]
    names = {one.id for one in nodes if isinstance(one, ast.Name)}
    return names | {one.attr for one in nodes if isinstance(one, ast.Attribute)}
