"""The names and values in a checkpoint's ``metrics``, which may hold any JSON.

A metric's *name* is its path of keys joined with dots: in ``{"val": {"loss": 0.1}}`` the value is
named ``val.loss``. Keys may contain dots themselves, so a name can match several values;
:func:`resolve` defines which one it means.

Non-finite floats have no JSON form. They are stored as the strings ``"NaN"``, ``"Infinity"`` and
``"-Infinity"``. The field ``nonfinite`` lists their names, to distinguish them from other strings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Final, Literal, TypeVar

from .errors import InvalidData

_NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_MISSING = object()

_T = TypeVar("_T")
_Path = tuple[str, ...]

#: The longest name of a nested value that is listed and ranked, in characters.
MAX_NAME: Final = 1_000
#: The maximum total length of the names of all non-finite values of one object.
_MAX_NAMES: Final = 10_000_000


def resolve(metrics: Any, name: str) -> Any:
    """Return the value of ``name``, or None.

    An exact key takes precedence over a path, and a longer key over a shorter one: in ``{"a.b": 1,
    "a": {"b": 2}}`` the value of ``a.b`` is 1. Paths lead through objects, not into lists.
    """
    if not isinstance(metrics, dict):
        return None
    if name in metrics:
        return metrics[name]
    found = _resolve(metrics, name, 0) if "." in name else _MISSING
    return None if found is _MISSING else found


def _resolve(metrics: dict[str, Any], name: str, start: int) -> Any:
    # Look up only prefixes that are as long as a key: a name may consist of a million dots.
    lengths = set(map(len, metrics))
    rest = len(name) - start
    if rest in lengths and name[start:] in metrics:
        return metrics[name[start:]]
    for length in sorted(lengths, reverse=True):
        end = start + length
        if (
            length < rest
            and name[end] == "."
            and isinstance(head := metrics.get(name[start:end]), dict)
        ):
            found = _resolve(head, name, end + 1)
            if found is not _MISSING:
                return found
    return _MISSING


def finite_number(value: Any) -> float | None:
    """Return ``value`` as a finite float, or None.

    Booleans are not numbers here, and integers that are too large for a float are not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def to_float(number: float) -> float:
    """Return a number as a float; an integer that is too large becomes infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number > 0 or -1)


def format_number(value: float, sign: str = "") -> str:
    """Return ``value`` with six digits for display; ``sign="+"`` marks positive numbers too."""
    try:
        return f"{value:{sign}.6g}"
    except OverflowError:  # an integer that is too large for a float
        return f"{'-' if value < 0 else sign}1e308 or more"


def merge_metrics(before: Any, later: Any) -> Any:
    """Return metrics updated with later ones, which replace those of the same name."""
    if not isinstance(before, dict) or not isinstance(later, dict):
        return later or before
    merged = dict(before)
    for name, value in later.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = merge_metrics(merged[name], value) if both else value
    return merged


def finite_metrics(metrics: Any) -> dict[str, float]:
    """Return the finite numbers in ``metrics`` by name."""
    if _is_ordinary(metrics):
        return {name: float(value) for name, value in metrics.items()}
    named = flatten_metrics(metrics).items()
    return {name: number for name, value in named if (number := finite_number(value)) is not None}


def flatten_metrics(metrics: Any) -> dict[str, Any]:
    """Return the values in ``metrics`` that are not objects, by name.

    Names of more than :data:`MAX_NAME` characters are left out.
    """
    found: dict[str, Any] = {}
    if not isinstance(metrics, dict) or _flatten(metrics, "", found):
        return found
    names = [*found]
    found = {}
    _resolve_all(metrics, "", found)
    return {name: found[name] for name in names}


def _flatten(metrics: dict[str, Any], prefix: str, found: dict[str, Any]) -> bool:
    """Add the values below ``prefix``.

    Return whether no key contains a dot, so that every name fits one value.
    """
    is_plain = True
    for key, value in metrics.items():
        if len(prefix) + len(key) > MAX_NAME:
            continue
        is_plain &= "." not in key
        if isinstance(value, dict):
            is_plain &= _flatten(value, f"{prefix}{key}.", found)
        else:
            found[prefix + key] = value
    return is_plain


def _resolve_all(metrics: dict[str, Any], prefix: str, found: dict[str, Any]) -> None:
    # Longest key first, as in `resolve`, so that the first value of a name is the one it means.
    for key in sorted(metrics, key=len, reverse=True):
        if len(prefix) + len(key) <= MAX_NAME:
            value = metrics[key]
            found.setdefault(prefix + key, value)
            if isinstance(value, dict):
                _resolve_all(value, f"{prefix}{key}.", found)


def rank(
    items: Iterable[_T], name: str, *, minimize: bool, fields: Callable[[_T], tuple[Any, ...]]
) -> list[_T]:
    """Return the items that have a finite number ``name``, best first.

    Parameters
    ----------
    fields : callable
        Returns the metrics of an item, followed by the values by which ties are sorted.
    """
    ranked: list[tuple[Any, int, _T]] = []
    for index, item in enumerate(items):
        metrics, *order = fields(item)
        value = finite_number(resolve(metrics, name))
        if value is not None:
            ranked.append(((value if minimize else -value, *order), index, item))
    return [item for *_, item in sorted(ranked, key=lambda one: one[:2])]


def column_names(names: Collection[str], taken: Collection[str]) -> list[str]:
    """Return column names for metrics, prefixed with ``metrics.`` where they are ``taken``."""
    columns = []
    for name in names:
        column = name
        while column in taken or (column != name and column in names):
            column = f"metrics.{column}"
        columns.append(column)
    return columns


def encode_nonfinite(metrics: Any) -> tuple[Any, list[str]]:
    """Return ``metrics`` with non-finite floats as strings, and the names of those floats.

    A dotted name is ambiguous if an ordinary string such as ``"NaN"`` has the same name, or if it
    equals the JSON Pointer (RFC 6901) of another value. Then the pointer is used as the name.
    """
    if _is_ordinary(metrics):
        return metrics, []
    paths = _bounded(path for path, value in _leaves(metrics) if _is_nonfinite(value))
    if not paths:
        return metrics, []
    strings = _bounded(path for path, value in _leaves(metrics) if _is_encoded(value))
    ambiguous = {".".join(path) for path in strings} | {
        _pointer(path) for path in (*strings, *paths)
    }
    names = [_pointer(path) if (name := ".".join(path)) in ambiguous else name for path in paths]
    return _map_leaves(metrics, (), lambda _path, value: _encode(value)), names


def limit_nonfinite(metrics: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the ``metrics`` that :func:`encode_nonfinite` accepts, and the names of the others.

    A value is left out if the names of its non-finite numbers are too long in total. Usually it is
    a long list.
    """
    with suppress(InvalidData):
        encode_nonfinite(metrics)
        return metrics, []
    left_out: list[str] = []
    budget = _MAX_NAMES

    def limit(values: dict[str, Any], parents: _Path) -> dict[str, Any]:
        nonlocal budget
        limited: dict[str, Any] = {}
        for key, value in values.items():
            path = (*parents, key)
            if isinstance(value, dict):
                limited[key] = limit(value, path)
                continue
            length = 0
            for leaf, number in _leaves(value, path):
                if _is_nonfinite(number) or _is_encoded(number):
                    length += sum(map(len, leaf))
                    if length > budget:
                        left_out.append(".".join(path))
                        break
            else:
                limited[key] = value
                budget -= length
        return limited

    return limit(metrics, ()), left_out


def decode_nonfinite(metrics: Any, names: Collection[str]) -> Any:
    """Undo :func:`encode_nonfinite`; names that match no encoded float are ignored."""
    wanted = frozenset(names)
    if not wanted:
        return metrics
    encoded = _bounded(path for path, value in _leaves(metrics) if _is_encoded(value))
    pointers = wanted & set(map(_pointer, encoded))
    dotted = wanted - pointers

    def decode(path: _Path, value: Any) -> Any:
        if _is_encoded(value) and (".".join(path) in dotted or _pointer(path) in pointers):
            return _NONFINITE[value]
        return value

    return _map_leaves(metrics, (), decode)


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Metrics whose lowest or highest value is the best: words, and phrases without separators.
#: ``frontend/src/pure/direction.ts`` has the same table.
_LOWER: Final = _split(
    """
    loss losses error errors err errorrate worderrorrate charerrorrate charactererrorrate
    tokenerrorrate perplexity ppl bpb bpc bpd mse rmse mae mape smape msle rmsle
    absolutepercentageerror wer cer ter mer fid kid lpips nll negloglikelihood
    negativeloglikelihood brier ece logloss crossentropy ce bce kl kld kldivergence jsdivergence
    regret deviance diceloss diceceloss iouloss giouloss jaccardloss
    """
)
_HIGHER: Final = _split(
    """
    acc accuracy f1 f2 fbeta fscore fmeasure auc auroc auprc precisionrecallauc precision recall
    sensitivity specificity ap map mrr ndcg bleu sacrebleu chrf rouge meteor bertscore iou miou
    dice jaccard r2 rsquared reward return psnr ssim kappa mcc elbo likelihood em exactmatch
    winrate hitrate successrate negmeansquarederror negrootmeansquarederror negmeanabsoluteerror
    negmedianabsoluteerror negmeanabsolutepercentageerror negmeansquaredlogerror
    negrootmeansquaredlogerror neglogloss negbrierscore negmaxerror negmeanpoissondeviance
    negmeangammadeviance
    """
)
#: Words that do not affect the direction, such as the name of a data split or a kind of mean.
_TRAINING: Final = _split("train training")
_HELD_OUT: Final = _split("val valid validation eval evaluation test dev holdout cv oof")
_EXTREMES: Final = _split("best min max last final")
_COUNTED: Final = _split("epoch step batch iter iteration idx")
#: Kinds of losses. Next to one of them, a ``score`` may be a loss.
_KINDS: Final = _split(
    """
    l lsum squared absolute log root smooth huber focal hinge contrastive triplet ctc mlm lm box
    cls obj mask seg dfl
    """
)
_NEUTRAL: Final = (
    _split(
        """
        mean avg average median sum total running smoothed ema overall global episode ep metric
        metrics macro micro weighted binary multiclass multilabel categorical sparse balanced
        adjusted class per token word char character pixel sentence image symmetric normalized
        normalised roc pr at k dataloader fold top score
        """
    )
    | _KINDS
    | _TRAINING
    | _HELD_OUT
    | _EXTREMES
    | _COUNTED
)
#: A name with two words of the same set names a gap or a ratio, which has no known direction.
_EXCLUSIVE: Final = (_HELD_OUT, _EXTREMES, _split("mean median"), _split("macro micro"))
#: The last words of names of counts. (Lightning's names of metrics end with ``step`` and
#: ``epoch``.)
_COUNTERS: Final = _split("batch iter iteration")
#: Words that may be combined with another word of the same direction, as in ``nll_loss`` and
#: ``roc_auc_f1``.
_GENERIC: Final = _split("loss losses error errors auc")
#: Words that a number may follow. So may words with a direction.
_NUMBERED: Final = _split("top l at k idx fold dataloader")
_LONGEST_PHRASE: Final = 6
_ORDINARY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ ./:@|()\[\]%-]*")
_WORDS: Final = re.compile(r"[a-z]+|[0-9]+")
_HUMPS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def direction(name: str) -> Literal["min", "max"] | None:
    """Return whether the smallest or the largest value of a metric is best, or None if uncertain.

    It is certain for a name that consists of known words, one of which has a direction:
    ``val_loss``, ``train/loss_ce``, ``eval.bleu-4``, ``BinaryAccuracy``, scikit-learn's
    ``neg_mean_squared_error``. Any other word could reverse the direction, as in ``neg_recall``,
    ``accuracy_drop`` and ``loss_scale``.
    """
    if len(name) > MAX_NAME or not _ORDINARY.fullmatch(name):
        return None
    words = _WORDS.findall(_HUMPS.sub(" ", name).lower())
    phrases: list[str] = []
    directed: list[str] = []
    while words:
        phrase, length = _first_phrase(words, phrases, directed)
        if not length:
            return None
        if phrase in _LOWER or phrase in _HIGHER:
            directed.append(phrase)
        phrases.append(phrase)
        del words[:length]
    if _is_derived(phrases):
        return None
    if not directed:
        is_top = any(one == "top" and two.isdigit() for one, two in pairwise(phrases))
        return "max" if is_top or ("score" in phrases and not _KINDS & {*phrases}) else None
    is_pair = len(directed) == len({*directed}) == 2 and _GENERIC.intersection(directed)
    if len(directed) > 1 and not is_pair:
        return None
    directions: set[Literal["min", "max"]] = {
        "min" if phrase in _LOWER else "max" for phrase in directed
    }
    return directions.pop() if len(directions) == 1 else None


def _is_derived(phrases: list[str]) -> bool:
    """Return whether a name means a gap, a ratio, a count or the epoch of the best value."""
    found = {*phrases}
    if found & _TRAINING and found & _HELD_OUT:
        return True
    if any(len(found & words) > 1 for words in _EXCLUSIVE):
        return True
    if found & _COUNTED and (found & _EXTREMES or "em" in found):  # "em": expectation maximization
        return True
    last = next((phrase for phrase in reversed(phrases) if not phrase.isdigit()), "")
    return last in _COUNTERS or any(
        two == "idx" and one != "dataloader" for one, two in pairwise(["", *phrases])
    )


def _first_phrase(words: list[str], before: list[str], directed: list[str]) -> tuple[str, int]:
    """Return the longest known phrase at the start, and its number of words (0 if none)."""
    for length in range(min(len(words), _LONGEST_PHRASE), 0, -1):
        phrase = "".join(words[:length])
        if phrase in _LOWER or phrase in _HIGHER or phrase in _NEUTRAL:
            return phrase, length
    is_number = words[0].isdigit() and bool(directed or (before and before[-1] in _NUMBERED))
    return words[0], int(is_number)


def describe_direction(mode: Literal["min", "max"]) -> str:
    """Return the text that explains a direction to the user."""
    return "lower is better" if mode == "min" else "higher is better"


#: The number of names that are listed if none is similar.
_LISTED: Final = 10
#: The number of characters of a name that are compared.
_COMPARED: Final = 200


def suggest_names(name: str, known: Iterable[str]) -> str:
    """Return a hint for a message about an unknown metric: similar names, or the first ones."""
    names = {other.lower(): other for other in known}
    close = get_close_matches(name.lower()[:_COMPARED], names, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(names[one] for one in close)}?"
    listed = list(names.values())
    if not listed:
        return "; no metrics are recorded"
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f"; there are {', '.join(listed[:_LISTED])}{more}"


def is_depth_at_most(metrics: Any, levels: int) -> bool:
    """Return whether ``metrics`` has at most ``levels`` nested containers."""
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
    """Return whether ``metrics`` is a flat object of finite floats, which is the common case."""
    return isinstance(metrics, dict) and all(
        type(value) is float and math.isfinite(value) for value in metrics.values()
    )


def _is_encoded(value: Any) -> bool:
    return isinstance(value, str) and value in _NONFINITE


def _is_nonfinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _encode(value: Any) -> Any:
    if not _is_nonfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _bounded(paths: Iterable[_Path]) -> list[_Path]:
    """Return ``paths`` as a list. Raise InvalidData if they take too much memory."""
    found: list[_Path] = []
    length = 0
    for path in paths:
        length += sum(map(len, path))
        if length > _MAX_NAMES:
            reason = f"the names of non-finite values have more than {_MAX_NAMES} characters in all"
            raise InvalidData("$.metrics", reason)
        found.append(path)
    return found


def _pointer(path: _Path) -> str:
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def _leaves(value: Any, path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, str(index)))
    else:
        yield path, value


def _map_leaves(value: Any, path: _Path, change: Any) -> Any:
    if isinstance(value, dict):
        return {key: _map_leaves(inner, (*path, key), change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_map_leaves(inner, (*path, str(i)), change) for i, inner in enumerate(value)]
    return change(path, value)
