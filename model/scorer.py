"""`Scorer`: texts in, calibrated probabilities out, batched for the device.

Stages: clean and drop doubles; tokenise, long texts as several windows; batches of similar length within a token
budget; lanes (`model.engine`) that take the batches; windows averaged and put in the order of the texts. Several
threads may score at once, so that one call's texts are tokenised while another's are computed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.engine import Engine, OutOfMemory, Scores
from model.errors import DeviceError, ModelError
from model.settings import ModelSettings
from model.text import clean

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ModelError", "Scorer", "Scores"]

log = logging.getLogger(__name__)

_LOOK_AHEAD = 4_096  # texts tokenised and sorted by length at a time; bounds memory
_WARM_UP = ("Shares were little changed.", "Bank " * 30, "Fraud " * 80)

PlainSentiment = Callable[[Sequence[str]], NDArray[np.float32]]


class Scorer:
    """The network on its device or devices. `score` may be called from any thread."""

    def __init__(
        self,
        engines: Sequence[Engine],
        tokenizer: Tokenizer,
        *,
        version: str,
        fingerprint: str,
        device: str,
        token_budget: int,
        sentiment_labels: Sequence[str],
        topic_labels: Sequence[str],
        pad_id: int = 0,
        sentiment: PlainSentiment | None = None,
    ) -> None:
        """`sentiment`, when given, says the sentiments instead of the network.

        `fingerprint` is the version and what else makes the scores: temperatures, shares of the heads, length.
        """
        self.version = version
        self.fingerprint = fingerprint
        self.device = device
        self.sentiment_labels = tuple(sentiment_labels)
        self.topic_labels = tuple(topic_labels)
        self._tokenizer = tokenizer
        self._token_budget = token_budget
        self._pad_id = pad_id
        self._sentiment = sentiment
        self._idle: SimpleQueue[Engine] = SimpleQueue()
        for engine in engines:
            self._idle.put(engine)
        self._lanes = ThreadPoolExecutor(len(engines), thread_name_prefix="scorer")

    @classmethod
    def load(cls, settings: ModelSettings) -> Scorer:
        """The scorer that the settings describe, warm.

        Raises:
            DeviceError: the device has no memory, or what it computes are no probabilities.
            ModelError: anything else; the message says what to do.
        """
        try:
            from model.load import load_scorer
        except ModuleNotFoundError as exc:
            raise ModelError(f"{exc.name} is not installed: pip install 'newsquake[model]'") from exc
        scorer = load_scorer(settings)
        if not scorer.score(_WARM_UP).finite:
            raise DeviceError(
                f"{scorer.version} on {scorer.device} gives probabilities that are no numbers: try another device, or "
                "install the weights again"
            )
        return scorer

    def score(self, texts: Sequence[str]) -> Scores:
        """Probabilities of each text, in the order given. Blocks; most of the work releases the GIL.

        Texts that are the same once clean are scored once. Any string is accepted: only its first
        `model.text.MAX_CHARS` characters are read; more tokens than the weights were trained on are read as overlapping
        windows, whose probabilities are averaged by their length; an empty text gets the probabilities of no words at
        all. Raises `DeviceError` when not even one text fits into the device's memory.
        """
        cleaned = [clean(text) for text in texts]
        places: dict[str, int] = {}
        which = [places.setdefault(text, len(places)) for text in cleaned]
        unique = list(places)
        sentiment = np.zeros((len(unique), len(self.sentiment_labels)), np.float32)
        topic = np.zeros((len(unique), len(self.topic_labels)), np.float32)
        for start in range(0, len(unique), _LOOK_AHEAD):
            part = unique[start : start + _LOOK_AHEAD]
            stop = start + len(part)
            owner, ids = self._windows(part)
            weight = np.array([len(tokens) for tokens in ids], np.float32)
            weight /= np.bincount(owner, weight, len(part)).astype(np.float32)[owner]
            for rows, scores in self._run_all(ids):
                if self._sentiment is None:
                    np.add.at(sentiment[start:stop], owner[rows], scores.sentiment * weight[rows, None])
                np.add.at(topic[start:stop], owner[rows], scores.topic * weight[rows, None])
            if self._sentiment is not None:
                sentiment[start:stop] = self._sentiment(part)
        return Scores(sentiment[which], topic[which])

    def _windows(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], list[list[int]]]:
        """Tokens of every window, and which text each is of."""
        owner: list[int] = []
        ids: list[list[int]] = []
        for place, encoding in enumerate(self._tokenizer.encode_batch_fast(list(texts))):
            for window in (encoding, *encoding.overflowing):
                owner.append(place)
                ids.append(window.ids)
        return np.array(owner, np.int64), ids

    def _run_all(self, ids: list[list[int]]) -> list[tuple[NDArray[np.int64], Scores]]:
        batches = [np.array(rows) for rows in token_batches([len(tokens) for tokens in ids], self._token_budget)]
        batches.reverse()  # the longest first: lanes then end together
        parts = self._lanes.map(lambda rows: self._run([ids[i] for i in rows]), batches)
        return list(zip(batches, parts, strict=True))

    def _run(self, ids: list[list[int]]) -> Scores:
        """One batch on the next idle lane."""
        engine = self._idle.get()
        try:
            return self._run_or_halve(engine, ids)
        finally:
            self._idle.put(engine)

    def _run_or_halve(self, engine: Engine, ids: list[list[int]]) -> Scores:
        """Halves the batch, as often as needed, when the device has no memory for it."""
        try:
            return engine.run(*self._padded(ids))
        except OutOfMemory as exc:
            if len(ids) == 1:
                raise DeviceError(f"{exc} has no memory for a single text: free some, or set device to cpu") from exc
        half = len(ids) // 2
        log.warning("no memory on %s for %d texts at once: halving the batch", self.device, len(ids))
        parts = self._run_or_halve(engine, ids[:half]), self._run_or_halve(engine, ids[half:])
        return Scores(*(np.concatenate(pair) for pair in zip(*parts, strict=True)))

    def _padded(self, ids: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        longest = max(len(tokens) for tokens in ids)
        padded = np.full((len(ids), longest), self._pad_id, np.int64)
        mask = np.zeros_like(padded)
        for line, tokens in enumerate(ids):
            padded[line, : len(tokens)] = tokens
            mask[line, : len(tokens)] = 1
        return padded, mask


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of the texts in batches of similar length whose padded size (texts x longest) fits the budget.

    A text longer than the budget gets a batch of its own.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):  # ascending: the newest is the longest
        if batch and (len(batch) + 1) * lengths[place] > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
