"""Names and values inside a checkpoint's ``metrics``, which may hold any JSON.

A metric's *name* is its path of keys joined with dots: in ``{"val": {"loss": 0.1}}`` the value
is named ``val.loss``. Keys may themselves hold dots, so one name can fit several places;
:func:`resolve` decides which is meant, and everything that ranks or indexes metrics asks it.

Non-finite floats have no JSON form. On the wire they are the strings ``"NaN"``, ``"Infinity"`` and
``"-Infinity"``, told from ordinary strings by the names that stand beside them (``nonfinite``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, Literal

from .errors import InvalidData

_SPELLED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_MISSING = object()

_Path = tuple[str, ...]

#: The longest name by which a nested value is listed and ranked, in characters.
MAX_NAME: Final = 1_000
#: Characters in the names of all values of one object that are not finite.
_MAX_NAMES: Final = 10_000_000


def resolve(metrics: Any, name: str) -> Any:
    """The value that ``name`` stands for, or None where there is none.

    An exact key wins over a path, and a longer literal key over a shorter one: with
    ``{"a.b": 1, "a": {"b": 2}}`` the name ``a.b`` is 1. Paths lead through objects only,
    never into lists.
    """
    if not isinstance(metrics, dict):
        return None
    if name in metrics:
        return metrics[name]
    found = _resolve(metrics, name, 0) if "." in name else _MISSING
    return None if found is _MISSING else found


def _resolve(metrics: dict[str, Any], name: str, start: int) -> Any:
    # Only beginnings as long as some key are looked up: a name may consist of a million dots.
    lengths = set(map(len, metrics))
    rest = len(name) - start
    if rest in lengths and name[start:] in metrics:
        return metrics[name[start:]]
    for length in sorted(lengths, reverse=True):
        end = start + length
        if length < rest and name[end] == "." and isinstance(head := metrics.get(name[start:end]), dict):
            found = _resolve(head, name, end + 1)
            if found is not _MISSING:
                return found
    return _MISSING


def rankable(value: Any) -> float | None:
    """``value`` as a finite float, or None for what no ranking takes.

    Left out are NaN, infinities, booleans, strings, nulls, containers, and integers too large for a float.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def number_text(value: float, sign: str = "") -> str:
    """Return ``value`` for a person, in six digits; ``sign="+"`` marks positive numbers as well."""
    try:
        return f"{value:{sign}.6g}"
    except OverflowError:  # an integer too large for a float
        return f"{'-' if value < 0 else sign}1e308 or more"


def merge_metrics(before: Any, later: Any) -> Any:
    """Return metrics with later ones added; of a name that both have, the later value counts."""
    if not isinstance(before, dict) or not isinstance(later, dict):
        return later or before
    merged = dict(before)
    for name, value in later.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = merge_metrics(merged[name], value) if both else value
    return merged


def rankable_metrics(metrics: Any) -> dict[str, float]:
    """Every name in ``metrics`` that resolves to a rankable number, with that number."""
    if not isinstance(metrics, dict):
        return {}
    if _is_ordinary(metrics):
        return {name: float(value) for name, value in metrics.items()}
    named = values_by_name(metrics).items()
    return {name: number for name, value in named if (number := rankable(value)) is not None}


def named_values(metrics: Any) -> dict[str, Any]:
    """Every value in ``metrics`` that is no container, by its name; of several of one name, the one that it stands for."""
    return {name: value for name, value in values_by_name(metrics).items() if name}


def values_by_name(metrics: Any) -> dict[str, Any]:
    """The name of every value in ``metrics`` that is no container, with what it resolves to; an empty name is one.

    Names of more than :data:`MAX_NAME` characters are left out.
    """
    if not isinstance(metrics, dict):
        return {}
    found: dict[str, Any] = {}
    _resolve_all(metrics, "", found)
    return {name: found[name] for name in _leaf_names(metrics, "")}


def _leaf_names(metrics: dict[str, Any], above: str) -> Iterator[str]:
    for key, value in metrics.items():
        if len(above) + len(key) <= MAX_NAME:
            if isinstance(value, dict):
                yield from _leaf_names(value, f"{above}{key}.")
            else:
                yield above + key


def _resolve_all(metrics: dict[str, Any], above: str, found: dict[str, Any]) -> None:
    # The longest key first, as `resolve` looks for them: the first one of a name is what the name stands for.
    for key in sorted(metrics, key=len, reverse=True):
        if len(above) + len(key) <= MAX_NAME:
            value = metrics[key]
            found.setdefault(above + key, value)
            if isinstance(value, dict):
                _resolve_all(value, f"{above}{key}.", found)


def spell_nonfinite(metrics: Any) -> tuple[Any, list[str]]:
    """``metrics`` with non-finite floats as strings, and the names of those floats.

    Two leaves can share a dotted name, one a float, the other really a string spelled alike; then the
    float is named by its JSON Pointer (RFC 6901) instead, so that :func:`restore_nonfinite` finds the right one.
    So it is where its dotted name looks like the pointer of another.
    """
    if _is_ordinary(metrics):
        return metrics, []
    paths = _bounded(path for path, value in _leaves(metrics) if _is_nonfinite(value))
    if not paths:
        return metrics, []
    genuine = _bounded(path for path, value in _leaves(metrics) if _is_spelled(value))
    ambiguous = {".".join(path) for path in genuine} | {_pointer(path) for path in (*genuine, *paths)}
    names = [_pointer(path) if (name := ".".join(path)) in ambiguous else name for path in paths]
    return _map_leaves(metrics, (), lambda _path, value: _spell(value)), names


def restore_nonfinite(metrics: Any, names: Collection[str]) -> Any:
    """The inverse of :func:`spell_nonfinite`; names that fit no such string are ignored.

    A name that is the JSON Pointer of such a string means that one alone.
    """
    wanted = frozenset(names)
    if not wanted:
        return metrics
    spelled = _bounded(path for path, value in _leaves(metrics) if _is_spelled(value))
    pointers = wanted & set(map(_pointer, spelled))
    dotted = wanted - pointers

    def restored(path: _Path, value: Any) -> Any:
        if _is_spelled(value) and (".".join(path) in dotted or _pointer(path) in pointers):
            return _SPELLED[value]
        return value

    return _map_leaves(metrics, (), restored)


#: Words in the names of metrics, those of several words written as one, by where the best value is.
_DIRECTIONS: Final[dict[str, Literal["min", "max"]]] = {
    **dict.fromkeys(
        [
            "loss",
            "losses",
            "error",
            "errors",
            "err",
            "perplexity",
            "ppl",
            "bpb",
            "bpc",
            "mse",
            "rmse",
            "mae",
            "mape",
            "smape",
            "msle",
            "rmsle",
            "wer",
            "cer",
            "ter",
            "mer",
            "fid",
            "kid",
            "lpips",
            "nll",
            "brier",
            "ece",
            "hinge",
            "logloss",
            "crossentropy",
            "ce",
            "bce",
            "kl",
            "kld",
            "divergence",
            "regret",
            "deviance",
        ],
        "min",
    ),
    **dict.fromkeys(
        [
            "acc",
            "accuracy",
            "f1",
            "f2",
            "fbeta",
            "fscore",
            "auc",
            "auroc",
            "auprc",
            "roc",
            "precision",
            "recall",
            "sensitivity",
            "specificity",
            "ap",
            "map",
            "mrr",
            "ndcg",
            "bleu",
            "sacrebleu",
            "chrf",
            "rouge",
            "meteor",
            "bertscore",
            "iou",
            "miou",
            "dice",
            "jaccard",
            "r2",
            "reward",
            "return",
            "psnr",
            "ssim",
            "kappa",
            "mcc",
            "elbo",
            "likelihood",
            "em",
            "top",
            "winrate",
        ],
        "max",
    ),
}
_FLIPPING: Final = frozenset({"neg", "negative"})
#: Says something only where nothing else does: a Brier score is better the smaller it is.
_VAGUE: Final = "score"
_WORDS: Final = re.compile(r"[fr][0-9](?![0-9])|[a-z]+")
_HUMPS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def direction(name: str) -> Literal["min", "max"] | None:
    """Whether the smallest or the largest value of a metric of this name is the best; None where the name does not say.

    The last well-known word in it decides, whatever stands before and after: ``val_loss``, ``train/loss_ce``,
    ``eval.bleu-4``, ``BinaryAccuracy``. ``neg`` before it turns it round, as in scikit-learn's ``neg_mean_squared_error``.
    """
    words = _WORDS.findall(_HUMPS.sub(" ", name).lower())
    for last in range(len(words) - 1, -1, -1):
        for word in ("".join(words[max(last - 1, 0) : last + 1]), words[last]):
            if word in _DIRECTIONS:
                found = _DIRECTIONS[word]
                flipped = _FLIPPING.intersection(words[:last])
                return found if not flipped else ("max" if found == "min" else "min")
    return "max" if _VAGUE in words else None


def is_no_deeper(metrics: Any, levels: int) -> bool:
    """Whether ``metrics`` has at most so many containers inside each other."""
    layer = [metrics]
    for _ in range(levels + 1):
        inner: list[Any] = []
        for value in layer:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        if not inner:
            return True
        layer = inner
    return False


def _is_ordinary(metrics: Any) -> bool:
    """Whether ``metrics`` is what it nearly always is, an object of finite numbers: nothing in it needs a closer look."""
    return isinstance(metrics, dict) and all(
        type(value) is float and math.isfinite(value) for value in metrics.values()
    )


def _is_spelled(value: Any) -> bool:
    return isinstance(value, str) and value in _SPELLED


def _is_nonfinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _spell(value: Any) -> Any:
    if not _is_nonfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _bounded(paths: Iterable[_Path]) -> list[_Path]:
    """``paths``, if their names take no more memory than metrics should: each repeats the keys above it."""
    found: list[_Path] = []
    length = 0
    for path in paths:
        length += sum(map(len, path))
        if length > _MAX_NAMES:
            reason = f"the names of values that are not finite have more than {_MAX_NAMES} characters in all"
            raise InvalidData("$.metrics", reason)
        found.append(path)
    return found


def _pointer(path: _Path) -> str:
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def _leaves(value: Any, path: _Path = (), *, into_lists: bool = True) -> Iterator[tuple[_Path, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key), into_lists=into_lists)
    elif into_lists and isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, str(index)), into_lists=into_lists)
    else:
        yield path, value


def _map_leaves(value: Any, path: _Path, change: Any) -> Any:
    if isinstance(value, dict):
        return {key: _map_leaves(inner, (*path, key), change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_map_leaves(inner, (*path, str(i)), change) for i, inner in enumerate(value)]
    return change(path, value)
