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
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from typing import Any, Final, Literal, TypeVar

_NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

_T = TypeVar("_T")

#: The longest name of a nested value that is listed and ranked, in characters.
MAX_NAME: Final = 1_000


def resolve(metrics: Any, name: str) -> Any:
    """Return the value of ``name``, or None.

    An exact key takes precedence over a path, and a longer key over a shorter one: in ``{"a.b": 1,
    "a": {"b": 2}}`` the value of ``a.b`` is 1. Paths lead through objects, not into lists, and have
    at most :data:`MAX_NAME` characters.
    """
    if not isinstance(metrics, dict):
        return None
    if name in metrics:
        return metrics[name]
    if len(name) > MAX_NAME:
        return None
    for end in reversed([at for at, character in enumerate(name) if character == "."]):
        if isinstance(inner := metrics.get(name[:end]), dict):
            found = resolve(inner, name[end + 1 :])
            if found is not None:
                return found
    return None


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
        return dict(metrics)
    named = flatten_metrics(metrics).items()
    return {name: number for name, value in named if (number := finite_number(value)) is not None}


def flatten_metrics(metrics: Any) -> dict[str, Any]:
    """Return the values in ``metrics`` that are not objects, by name.

    Names of more than :data:`MAX_NAME` characters are left out.
    """
    names: dict[str, Any] = {}
    if not isinstance(metrics, dict) or _flatten(metrics, "", names):
        return names
    return {name: resolve(metrics, name) for name in names}


def _flatten(metrics: dict[str, Any], prefix: str, found: dict[str, Any]) -> bool:
    """Add the values below ``prefix``.

    Return whether no key contains a dot, so that every name fits one value.
    """
    is_plain = True
    for key, value in metrics.items():
        is_plain &= "." not in key
        if len(prefix) + len(key) > MAX_NAME:
            continue
        if isinstance(value, dict):
            is_plain &= _flatten(value, f"{prefix}{key}.", found)
        else:
            found[prefix + key] = value
    return is_plain


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
    return [f"metrics.{name}" if name in taken else name for name in names]


def encode_nonfinite(metrics: Any) -> tuple[Any, list[str]]:
    """Return ``metrics`` with non-finite floats as strings, and the names of those floats."""
    if _is_ordinary(metrics):
        return metrics, []
    names: list[str] = []

    def encode(name: str, value: Any) -> Any:
        if not isinstance(value, float) or math.isfinite(value):
            return value
        names.append(name)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

    encoded = _map_values(metrics, "", encode)
    return (encoded, names) if names else (metrics, [])


def decode_nonfinite(metrics: Any, names: Collection[str]) -> Any:
    """Undo :func:`encode_nonfinite`; names that match no encoded float are ignored."""
    wanted = frozenset(names)

    def decode(name: str, value: Any) -> Any:
        if isinstance(value, str) and value in _NONFINITE and name in wanted:
            return _NONFINITE[value]
        return value

    return _map_values(metrics, "", decode) if wanted else metrics


def _map_values(value: Any, name: str, change: Callable[[str, Any], Any]) -> Any:
    prefix = f"{name}." if name else ""
    if isinstance(value, dict):
        return {key: _map_values(inner, prefix + key, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_map_values(inner, f"{prefix}{at}", change) for at, inner in enumerate(value)]
    return change(name, value)


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Metrics whose lowest or highest value is the best: words, and phrases without separators.
#: ``frontend/src/pure/direction.ts`` has the same table.
_LOWER: Final = _split(
    """
    loss losses batchloss error errors err errorrate top1error top5error worderrorrate
    charerrorrate charactererrorrate tokenerrorrate perplexity ppl bpb bpc bpd mse rmse mae mape
    smape msle rmsle absolutepercentageerror wer cer ter mer fid kid lpips nll negloglikelihood
    negativeloglikelihood brier ece logloss crossentropy ce bce kl kld kldivergence jsdivergence
    regret deviance diceloss diceceloss iouloss giouloss jaccardloss
    """
)
_HIGHER: Final = _split(
    """
    acc accuracy top1 top3 top5 top10 f1 f2 fbeta fscore fmeasure auc auroc rocauc prauc auprc
    precisionrecallauc precision recall sensitivity specificity ap map mrr ndcg bleu sacrebleu
    chrf rouge meteor bertscore iou miou dice jaccard r2 rsquared reward return psnr ssim kappa
    mcc elbo likelihood em exactmatch winrate hitrate successrate negmeansquarederror
    negrootmeansquarederror negmeanabsoluteerror negmedianabsoluteerror
    negmeanabsolutepercentageerror negmeansquaredlogerror neglogloss negbrierscore negmaxerror
    """
)
#: The part of the data. A name with two of them is that of a gap or a ratio.
_SPLITS: Final = _split("train training val valid validation eval evaluation test dev holdout")
#: Words that do not affect the direction, such as a kind of mean.
_NEUTRAL: Final = _split(
    """
    mean avg average median sum total running smoothed ema overall global final last epoch step
    episode metric metrics macro micro weighted binary multiclass multilabel categorical sparse
    balanced adjusted class per token word char pixel sentence image symmetric normalized at k
    fold cv oof dataloaderidx topk score l lsum squared absolute log root smooth huber focal hinge
    contrastive triplet ctc lm box cls obj mask seg dfl
    """
)
_KNOWN: Final = _LOWER | _HIGHER | _SPLITS | _NEUTRAL
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
    while words:
        for length in range(min(len(words), _LONGEST_PHRASE), 0, -1):
            phrase = "".join(words[:length])
            if phrase in _KNOWN or (length == 1 and phrase.isdigit() and phrases):
                break
        else:
            return None
        phrases.append(phrase)
        del words[:length]
    directed = [phrase for phrase in phrases if phrase in _LOWER or phrase in _HIGHER]
    if len(_SPLITS & {*phrases}) > 1 or len({*directed}) < len(directed):
        return None  # a gap or a ratio
    if not directed:
        return "max" if "score" in phrases else None
    if all(phrase in _LOWER for phrase in directed):
        return "min"
    return "max" if all(phrase in _HIGHER for phrase in directed) else None


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


def _is_ordinary(metrics: Any) -> bool:
    """Return whether ``metrics`` is a flat object of finite floats, which is the common case."""
    return isinstance(metrics, dict) and all(
        type(value) is float and math.isfinite(value) for value in metrics.values()
    )
