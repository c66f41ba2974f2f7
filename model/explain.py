"""`Explainer`: what each word of a text adds to a prediction.

A weight is in bits of log odds (Good 1950, Probability and the Weighing of Evidence): +1 doubles the odds of the label,
-1 halves them. `hide-and-show` asks only the `Scorer` and so explains what is served, whatever the network;
`integrated-gradients` reads the network itself and is slower.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError
from model.scorer import Scorer
from model.settings import ModelSettings
from model.show import Part, hide_and_show
from model.text import clean
from model.words import words_of

if TYPE_CHECKING:
    from model.gradients import Gradients

__all__ = ["METHODS", "Explainer", "Explanation", "Head", "Method", "ModelError", "Word"]

Head = Literal["sentiment", "topic"]
Method = Literal["hide-and-show", "integrated-gradients"]
METHODS: tuple[Method, ...] = ("hide-and-show", "integrated-gradients")

MAX_WORDS = 1_000
_PART_WORDS = 48  # a longer text is explained in parts that the network reads at once


class Word(NamedTuple):
    """A word, its place in the text, and what it adds to the label, in bits of log odds."""

    text: str
    start: int
    stop: int
    weight: float


class Explanation(NamedTuple):
    """Why a text got its label. `text` is what the network reads: clean, as `model.text.clean` makes it."""

    text: str
    label: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]  # of `labels`
    words: tuple[Word, ...]
    left_out: int  # words after the first `MAX_WORDS`, which were not looked at

    @property
    def probability(self) -> float:
        """Of the label."""
        return self.probabilities[self.labels.index(self.label)]

    def heaviest(self, most: int) -> list[Word]:
        """Up to `most` words that speak for the label, the heaviest first; those of a tenth of its weight are noise."""
        ranked = sorted(self.words, key=lambda word: (-word.weight, word.start))
        return [word for word in ranked[:most] if word.weight > max(0.0, ranked[0].weight / 10)]


class Explainer:
    """Explains a scorer's predictions. May be called from any thread."""

    def __init__(self, scorer: Scorer, settings: ModelSettings) -> None:
        """`settings` are those that the scorer was loaded with."""
        self.scorer = scorer
        self._settings = settings
        self._hidden: dict[Head, str] = {}
        self._gradients: Gradients | None = None
        self._lock = threading.Lock()

    @classmethod
    def load(cls, settings: ModelSettings) -> Explainer:
        """The explainer of the scorer that the settings describe; raises `ModelError` as `Scorer.load` does."""
        return cls(Scorer.load(settings), settings)

    def explain(
        self,
        texts: Sequence[str],
        *,
        head: Head = "sentiment",
        label: str | None = None,
        method: Method = "hide-and-show",
    ) -> list[Explanation]:
        """What the words of each text add to `label`, or to the label that the text got.

        Any string is accepted; of a long one the first `MAX_WORDS` words are explained, in parts that are read one by
        one and whose weights count by their share of the text. Raises `ModelError` when the model has no such label,
        or cannot be run.
        """
        labels = self.scorer.sentiment_labels if head == "sentiment" else self.scorer.topic_labels
        if label is not None and label not in labels:
            raise ModelError(f"the model has no {head} {label!r}; it has {', '.join(labels)}")
        cleaned = [clean(text) for text in texts]
        probabilities = self._probabilities(cleaned, head)
        columns = [int(row.argmax()) if label is None else labels.index(label) for row in probabilities]
        spans = [words_of(text) for text in cleaned]
        parts: list[Part] = []
        owners: list[int] = []
        for owner, (text, found, column) in enumerate(zip(cleaned, spans, columns, strict=True)):
            for part in _parts(text, found[:MAX_WORDS], column):
                parts.append(part)
                owners.append(owner)
        weights: list[list[float]] = [[] for _ in cleaned]
        for owner, part, effect in zip(owners, parts, self._weigh(parts, head, method), strict=True):
            share = len(part.words) / min(len(spans[owner]), MAX_WORDS)
            weights[owner] += (effect * share).tolist()
        return [
            Explanation(
                text=cleaned[i],
                label=labels[columns[i]],
                labels=labels,
                probabilities=tuple(probabilities[i].tolist()),
                words=tuple(
                    Word(cleaned[i][start:stop], start, stop, weight)
                    for (start, stop), weight in zip(spans[i][:MAX_WORDS], weights[i], strict=True)
                ),
                left_out=max(0, len(spans[i]) - MAX_WORDS),
            )
            for i in range(len(cleaned))
        ]

    def _probabilities(self, texts: Sequence[str], head: Head) -> NDArray[np.float32]:
        scores = self.scorer.score(texts)
        return scores.sentiment if head == "sentiment" else scores.topic

    def _weigh(self, parts: Sequence[Part], head: Head, method: Method) -> list[NDArray[np.float64]]:
        if method == "hide-and-show":
            return hide_and_show(lambda texts: self._probabilities(texts, head), parts, self._hidden_word(head))
        from model.gradients import Gradients

        if head == "sentiment" and self._settings.sentiment_model:
            raise ModelError(
                f"integrated gradients read newsquake's own network, but sentiment_model "
                f"{self._settings.sentiment_model} says the sentiment: use hide-and-show"
            )
        with self._lock:
            if self._gradients is None:
                self._gradients = Gradients(self._settings)
            return self._gradients.weigh(parts, head)

    def _hidden_word(self, head: Head) -> str:
        """What stands for a hidden word: the mask token, with which the network has learnt to do without a word."""
        if head not in self._hidden:
            from model.gradients import mask_token

            self._hidden[head] = mask_token(self._settings, plain=head == "sentiment")
        return self._hidden[head]


def _parts(text: str, words: Sequence[tuple[int, int]], label: int) -> list[Part]:
    """The text in parts of equal numbers of words; a short text is one part."""
    if not words:
        return []
    count = -(-len(words) // _PART_WORDS)
    cuts = [len(words) * i // count for i in range(count + 1)]
    found = []
    for first, last in pairwise(cuts):
        start = words[first][0] if first else 0
        stop = words[last][0] if last < len(words) else (words[-1][1] if count > 1 else len(text))
        inner = [(a - start, b - start) for a, b in words[first:last]]
        found.append(Part(text[start:stop], inner, label))
    return found
