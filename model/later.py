"""A scorer whose name and labels are known before it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from model.errors import ModelError
from model.identity import Identity, identity_of
from model.scorer import Scorer, Scores
from model.settings import ModelSettings


class LaterScorer:
    """A scorer that is loaded when it is known that there is something to score. One call at a time."""

    def __init__(self, identity: Identity, device: str, load: Callable[[], Scorer]) -> None:
        """`load` gives the scorer of that identity; `device` is what the settings call it."""
        self.version, self.fingerprint, self.sentiment_labels, self.topic_labels = identity
        self.device = device
        self._identity = identity
        self._load = load
        self._scorer: Scorer | None = None

    def load(self) -> Scorer:
        """Load it, unless that has been done: before anything is scored, since texts could not be told from a cause.

        Raises:
            ModelError: the model cannot be loaded, or its files have changed meanwhile.
        """
        if self._scorer is None:
            scorer = self._load()
            loaded = Identity(scorer.version, scorer.fingerprint, scorer.sentiment_labels, scorer.topic_labels)
            if loaded != self._identity:
                raise ModelError(f"the weights have changed from {self.version} to {scorer.version}: try again")
            self._scorer = scorer
        return self._scorer

    def score(self, texts: Sequence[str]) -> Scores:
        """See `Scorer.score`."""
        return self.load().score(texts)


def scorer_of(settings: ModelSettings) -> Scorer | LaterScorer:
    """The scorer that the settings describe, loaded at once only where nothing else says what it is called.

    Raises:
        ModelError: see `Scorer.load`.
    """
    if settings.sentiment_model:
        return Scorer.load(settings)
    return LaterScorer(identity_of(settings), settings.device, lambda: Scorer.load(settings))
