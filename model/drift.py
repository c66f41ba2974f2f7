"""Has what comes in, or what the model makes of it, moved away from a reference?

Each measure has a size and, where there is one, a test. It counts as drifted when its size is over its threshold and
chance alone would seldom (`DriftSettings.significance`) make it so: thresholds keep large stretches from crying over
trifles, tests keep small ones from crying over noise.

| measure | size | test | source |
| --- | --- | --- | --- |
| `sentiment_mix`, `topic_mix` | Jensen-Shannon distance of the label shares, 0 to 1 | G-test | Lin 1991 |
| `sentiment_confidence`, `topic_confidence` | largest gap between the distributions of the best probability, 0 to 1 | Kolmogorov-Smirnov | Rabanser et al. 2019, Failing Loudly |
| `unknown_tokens`, `split_words` | how much the share of tokens not in the vocabulary, of words in four pieces or more, has grown | permutation | |
| `embedding` | how well a classifier tells the stretches apart by the encoder's embeddings: AUC, cross-validated, 0.5 not at all, 1 fully | Mann-Whitney | Lopez-Paz and Oquab 2017, Revisiting Classifier Two-Sample Tests |
| `sentiment_accuracy`, `topic_accuracy`, `sentiment_macro_f1`, `topic_macro_f1` | how far the score to expect has fallen | draws of the labels | `model.expected` |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.drift_view import View
from model.errors import DataError
from model.expected import Expected, expected
from model.settings import DriftSettings
from model.stretch import Stretch

_PERMUTATIONS = 500
_FOLDS = 5


class Measure(NamedTuple):
    """One line of the report; `p_value` is how often chance alone would give as much."""

    name: str
    value: float
    threshold: float
    p_value: float
    drifted: bool
    note: str


@dataclass(frozen=True)
class Side:
    """What is said of one of the two stretches."""

    name: str
    items: int
    seen: int
    unreadable: int
    models: tuple[str, ...]
    sentiment_shares: dict[str, float]
    topic_shares: dict[str, float]
    expected: dict[str, tuple[float, float, float]]  # score -> estimate and 95 % interval


@dataclass(frozen=True)
class Drift:
    """The report."""

    reference: Side
    current: Side
    measures: tuple[Measure, ...]
    remarks: tuple[str, ...]

    @property
    def drifted(self) -> bool:
        """Whether any measure has drifted."""
        return any(measure.drifted for measure in self.measures)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "drifted": self.drifted,
            "measures": [measure._asdict() for measure in self.measures],
            "remarks": list(self.remarks),
            "reference": asdict(self.reference),
            "current": asdict(self.current),
        }


def compare(reference: Stretch, current: Stretch, settings: DriftSettings, view: View | None) -> Drift:
    """The report on `current` against `reference`; without a `view` or texts nothing is said of words and embeddings.

    Raises:
        DataError: a stretch is too short to judge by, or the two have different labels.
    """
    for side in (reference, current):
        if len(side) < settings.minimum_items:
            raise DataError(
                f"{side.name}: {len(side)} items are too few to judge by, drift.minimum_items is "
                f"{settings.minimum_items}: take a longer stretch"
            )
    reference = _in_order_of(reference, current)
    remarks = []
    if reference.models != current.models:
        remarks.append(
            f"scored by different models ({', '.join(reference.models)}; {', '.join(current.models)}): differences may "
            "be the models', --rescore takes the present one for both"
        )
    measures = [
        _mix("sentiment_mix", reference.sentiment, current.sentiment, current.sentiment_labels, settings),
        _mix("topic_mix", reference.topic, current.topic, current.topic_labels, settings),
        _confidence("sentiment_confidence", reference.sentiment, current.sentiment, settings),
        _confidence("topic_confidence", reference.topic, current.topic, settings),
    ]
    if view and reference.texts and current.texts:
        measures += _words(view, reference, current, settings)
        measures.append(_embedding(view, reference, current, settings))
    else:
        remarks.append("items without text: unknown words and embeddings were not compared")
    before, now = _expected(reference), _expected(current)
    measures += _falls(before, now, settings)
    return Drift(_side(reference, before), _side(current, now), tuple(measures), tuple(remarks))


def _judged(name: str, value: float, threshold: float, p_value: float, settings: DriftSettings, note: str) -> Measure:
    drifted = bool(value > threshold and p_value < settings.significance)
    return Measure(name, round(float(value), 6), threshold, float(p_value), drifted, note)


def _mix(
    name: str,
    before: NDArray[np.float64],
    now: NDArray[np.float64],
    labels: tuple[str, ...],
    settings: DriftSettings,
) -> Measure:
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import chi2_contingency

    counts = np.stack([np.bincount(part.argmax(1), minlength=len(labels)) for part in (before, now)])
    shares = counts / counts.sum(1, keepdims=True)
    there = counts.sum(0) > 0
    p_value = 1.0
    if there.sum() > 1:
        p_value = chi2_contingency(counts[:, there], lambda_="log-likelihood", correction=False).pvalue
    most = int(np.abs(shares[1] - shares[0]).argmax())
    note = f"{labels[most]}: {shares[0][most]:.1%} → {shares[1][most]:.1%}"
    return _judged(name, jensenshannon(*shares, base=2), getattr(settings, name), p_value, settings, note)


def _confidence(name: str, before: NDArray[np.float64], now: NDArray[np.float64], settings: DriftSettings) -> Measure:
    from scipy.stats import ks_2samp

    first, second = before.max(1), now.max(1)
    test = ks_2samp(first, second, method="asymp")
    note = f"mean of the best probability {first.mean():.3f} → {second.mean():.3f}"
    return _judged(name, test.statistic, settings.confidence, test.pvalue, settings, note)


def _words(view: View, reference: Stretch, current: Stretch, settings: DriftSettings) -> Iterator[Measure]:
    before, now = view.words(reference.texts), view.words(current.texts)
    for name, part, whole in (("unknown_tokens", "unknown", "tokens"), ("split_words", "split", "words")):
        parts, wholes = (np.concatenate([getattr(side, key) for side in (before, now)]) for key in (part, whole))
        n = len(reference)
        shares = [_share(parts[rows], wholes[rows]) for rows in (slice(0, n), slice(n, None))]
        grown = shares[1] - shares[0]
        rng = np.random.default_rng(0)
        as_much = 0
        for _ in range(_PERMUTATIONS):
            order = rng.permutation(len(parts))
            by_chance = _share(parts[order[n:]], wholes[order[n:]]) - _share(parts[order[:n]], wholes[order[:n]])
            as_much += by_chance >= grown
        p_value = (as_much + 1) / (_PERMUTATIONS + 1)
        note = f"{shares[0]:.2%} → {shares[1]:.2%}"
        yield _judged(name, grown, getattr(settings, name), p_value, settings, note)


def _share(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> float:
    return float(parts.sum() / max(1, wholes.sum()))


def _embedding(view: View, reference: Stretch, current: Stretch, settings: DriftSettings) -> Measure:
    """Texts of both stretches that are the same would be in training and test folds: stories count once, so few are."""
    from scipy.stats import mannwhitneyu
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    n = min(settings.embedded_items, len(reference), len(current))  # as many of each: samples are in random order
    points = view.embed([*reference.texts[:n], *current.texts[:n]])
    side = np.repeat([0, 1], n)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1_000))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    odds = cross_val_predict(classifier, points, side, cv=folds, method="decision_function")
    test = mannwhitneyu(odds[side == 1], odds[side == 0], alternative="greater")
    note = f"{n} items of each stretch"
    return _judged("embedding", roc_auc_score(side, odds), settings.embedding, test.pvalue, settings, note)


def _falls(before: dict[str, Expected], now: dict[str, Expected], settings: DriftSettings) -> Iterator[Measure]:
    for head, then in before.items():
        for score, threshold in (("accuracy", settings.accuracy_fall), ("macro_f1", settings.macro_f1_fall)):
            first, second = getattr(then, score), getattr(now[head], score)
            draws = getattr(then, f"{score}_draws") - getattr(now[head], f"{score}_draws")
            p_value = ((draws <= 0).sum() + 1) / (len(draws) + 1)
            low, high = getattr(now[head], f"{score}_interval")
            note = f"expected {first:.3f} → {second:.3f} ({low:.3f} to {high:.3f})"
            yield _judged(f"{head}_{score}", first - second, threshold, p_value, settings, note)


def _expected(side: Stretch) -> dict[str, Expected]:
    return {"sentiment": expected(side.sentiment, seed=1), "topic": expected(side.topic, seed=2)}


def _side(side: Stretch, scores: dict[str, Expected]) -> Side:
    estimates = {}
    for head, found in scores.items():
        estimates[f"{head}_accuracy"] = (found.accuracy, *found.accuracy_interval)
        estimates[f"{head}_macro_f1"] = (found.macro_f1, *found.macro_f1_interval)
    return Side(
        side.name,
        len(side),
        side.seen,
        side.unreadable,
        side.models,
        _shares(side.sentiment, side.sentiment_labels),
        _shares(side.topic, side.topic_labels),
        {name: (round(a, 6), round(b, 6), round(c, 6)) for name, (a, b, c) in estimates.items()},
    )


def _shares(probabilities: NDArray[np.float64], labels: tuple[str, ...]) -> dict[str, float]:
    counts = np.bincount(probabilities.argmax(1), minlength=len(labels))
    return {label: round(float(count) / len(probabilities), 6) for label, count in zip(labels, counts, strict=True)}


def _in_order_of(side: Stretch, other: Stretch) -> Stretch:
    """The stretch with its columns in the other's order."""
    changed = side
    for head in ("sentiment", "topic"):
        ours, theirs = getattr(side, f"{head}_labels"), getattr(other, f"{head}_labels")
        if set(ours) != set(theirs):
            raise DataError(
                f"{side.name} and {other.name} have different {head} labels: score both with the present model "
                "(--rescore)"
            )
        order = [ours.index(label) for label in theirs]
        changed = replace(changed, **{head: getattr(side, head)[:, order], f"{head}_labels": theirs})
    return changed
