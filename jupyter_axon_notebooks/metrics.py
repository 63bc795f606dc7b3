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
from contextlib import suppress
from difflib import get_close_matches
from itertools import pairwise
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
        if (
            length < rest
            and name[end] == "."
            and isinstance(head := metrics.get(name[start:end]), dict)
        ):
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


def column_names(names: Collection[str], taken: Collection[str]) -> list[str]:
    """Return names for columns of metrics beside columns named ``taken``: with ``metrics.`` before those that would hide one."""
    columns = []
    for name in names:
        column = name
        while column in taken or (column != name and column in names):
            column = f"metrics.{column}"
        columns.append(column)
    return columns


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
    ambiguous = {".".join(path) for path in genuine} | {
        _pointer(path) for path in (*genuine, *paths)
    }
    names = [_pointer(path) if (name := ".".join(path)) in ambiguous else name for path in paths]
    return _map_leaves(metrics, (), lambda _path, value: _spell(value)), names


def spellable(metrics: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return ``metrics`` as far as :func:`spell_nonfinite` takes them, and the names of what is left out.

    Left out are values, lists for the most part, that hold more numbers which are not finite than can be named.
    """
    with suppress(InvalidData):
        spell_nonfinite(metrics)
        return metrics, []
    left_out: list[str] = []
    room = _MAX_NAMES

    def fit(found: dict[str, Any], above: _Path) -> dict[str, Any]:
        nonlocal room
        fitting: dict[str, Any] = {}
        for key, value in found.items():
            path = (*above, key)
            if isinstance(value, dict):
                fitting[key] = fit(value, path)
                continue
            length = 0
            for leaf, number in _leaves(value, path):
                if _is_nonfinite(number) or _is_spelled(number):
                    length += sum(map(len, leaf))
                    if length > room:
                        left_out.append(".".join(path))
                        break
            else:
                fitting[key], room = value, room - length
        return fitting

    return fit(metrics, ()), left_out


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


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Words and phrases that say where the best value is; phrases are written without their separators.
#: ``frontend/src/pure/direction.ts`` has the same table.
_LOWER: Final = _split(
    """
    loss losses error errors err errorrate worderrorrate charerrorrate charactererrorrate tokenerrorrate perplexity ppl
    bpb bpc bpd mse rmse mae mape smape msle rmsle absolutepercentageerror wer cer ter mer fid kid lpips nll
    negloglikelihood negativeloglikelihood brier ece logloss crossentropy ce bce kl kld kldivergence jsdivergence regret
    deviance diceloss diceceloss iouloss giouloss jaccardloss
    """
)
_HIGHER: Final = _split(
    """
    acc accuracy f1 f2 fbeta fscore fmeasure auc auroc auprc precisionrecallauc precision recall sensitivity specificity
    ap map mrr ndcg bleu sacrebleu chrf rouge meteor bertscore iou miou dice jaccard r2 rsquared reward return psnr ssim
    kappa mcc elbo likelihood em exactmatch winrate hitrate successrate negmeansquarederror negrootmeansquarederror
    negmeanabsoluteerror negmedianabsoluteerror negmeanabsolutepercentageerror negmeansquaredlogerror
    negrootmeansquaredlogerror neglogloss negbrierscore negmaxerror negmeanpoissondeviance negmeangammadeviance
    """
)
#: Words that say which part of the data, or which mean, a value is of. None of them turns a direction round.
_TRAINING: Final = _split("train training")
_HELD_OUT: Final = _split("val valid validation eval evaluation test dev holdout cv oof")
_EXTREMES: Final = _split("best min max last final")
_COUNTED: Final = _split("epoch step batch iter iteration idx")
#: What losses are called after: beside them, a score may be one.
_KINDS: Final = _split(
    """
    l lsum squared absolute log root smooth huber focal hinge contrastive triplet ctc mlm lm box cls obj mask seg dfl
    """
)
_NEUTRAL: Final = (
    _split(
        """
        mean avg average median sum total running smoothed ema overall global episode ep metric metrics macro micro weighted
        binary multiclass multilabel categorical sparse balanced adjusted class per token word char character pixel sentence
        image symmetric normalized normalised roc pr at k dataloader fold top score
        """
    )
    | _KINDS
    | _TRAINING
    | _HELD_OUT
    | _EXTREMES
    | _COUNTED
)
#: Words of which a name with two is that of a gap or a ratio.
_APART: Final = (_HELD_OUT, _EXTREMES, _split("mean median"), _split("macro micro"))
#: Words that a name of a count ends with; Lightning's names of metrics end with ``step`` and ``epoch``.
_COUNTERS: Final = _split("batch iter iteration")
#: Words that may stand beside one other word of their direction, as in ``nll_loss`` and ``roc_auc_f1``.
_GENERIC: Final = _split("loss losses error errors auc")
#: Words that a number may follow, besides those that say a direction.
_NUMBERED: Final = _split("top l at k idx fold dataloader")
_LONGEST_PHRASE: Final = 6
_ORDINARY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ ./:@|()\[\]%-]*")
_WORDS: Final = re.compile(r"[a-z]+|[0-9]+")
_HUMPS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def direction(name: str) -> Literal["min", "max"] | None:
    """Return whether the smallest or the largest value of a metric of this name is the best; None where that is not certain.

    Certain is a name that consists of known words only, one of which says it: ``val_loss``, ``train/loss_ce``,
    ``eval.bleu-4``, ``BinaryAccuracy``, scikit-learn's ``neg_mean_squared_error``. Any other word could turn it round, as in
    ``neg_recall``, ``accuracy_drop`` and ``loss_scale``.
    """
    if len(name) > MAX_NAME or not _ORDINARY.fullmatch(name):
        return None
    words = _WORDS.findall(_HUMPS.sub(" ", name).lower())
    phrases: list[str] = []
    said: list[str] = []
    while words:
        phrase, length = _phrase(words, phrases, said)
        if not length:
            return None
        if phrase in _LOWER or phrase in _HIGHER:
            said.append(phrase)
        phrases.append(phrase)
        del words[:length]
    found = set(phrases)
    if (found & _TRAINING and found & _HELD_OUT) or any(
        len(found & one) > 1 for one in _APART
    ):  # a gap or a ratio
        return None
    if found & _COUNTED and (
        found & _EXTREMES or "em" in found
    ):  # when it was the best; expectation maximization
        return None
    counter = next((phrase for phrase in reversed(phrases) if not phrase.isdigit()), "")
    if counter in _COUNTERS or any(
        two == "idx" and one != "dataloader" for one, two in pairwise(["", *phrases])
    ):
        return None
    if not said:
        is_top = any(one == "top" and two.isdigit() for one, two in pairwise(phrases))
        return "max" if is_top or ("score" in found and not found & _KINDS) else None
    if len(said) > 1 and not (len(said) == len(set(said)) == 2 and _GENERIC.intersection(said)):
        return None
    directions: set[Literal["min", "max"]] = {
        "min" if phrase in _LOWER else "max" for phrase in said
    }
    return directions.pop() if len(directions) == 1 else None


def _phrase(words: list[str], before: list[str], said: list[str]) -> tuple[str, int]:
    """Return the longest known phrase that ``words`` begin with, and its words; none where the first one is not known."""
    for length in range(min(len(words), _LONGEST_PHRASE), 0, -1):
        phrase = "".join(words[:length])
        if phrase in _LOWER or phrase in _HIGHER or phrase in _NEUTRAL:
            return phrase, length
    is_number = words[0].isdigit() and bool(said or (before and before[-1] in _NUMBERED))
    return words[0], int(is_number)


def better_text(mode: Literal["min", "max"]) -> str:
    """Return which way is better, for people."""
    return "lower is better" if mode == "min" else "higher is better"


#: Names that are listed where none is like the one that was asked for.
_LISTED: Final = 10
#: Characters of a name that others are compared with.
_LONGEST_LIKE: Final = 200


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that no metric is called ``name``: the names like it, else the first of all."""
    names = {other.lower(): other for other in known}
    close = get_close_matches(name.lower()[:_LONGEST_LIKE], names, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(names[one] for one in close)}?"
    listed = list(names.values())
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return (
        f"; there are {', '.join(listed[:_LISTED])}{more}"
        if listed
        else "; no metrics are recorded"
    )


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


def _leaves(
    value: Any, path: _Path = (), *, into_lists: bool = True
) -> Iterator[tuple[_Path, Any]]:
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
