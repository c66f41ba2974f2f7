"""The rows to learn from and those to choose and calibrate by, as the settings name them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from model.copies import without_copies
from model.data import (
    SENTFIN_TEST,
    UNLABELLED,
    Labelled,
    labelled_only,
    read_phrasebank,
    read_sentfin,
    read_tfns,
    read_tfnt,
    split,
)
from model.errors import DataError
from model.label_file import read_events, read_labels, read_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.settings import TrainSettings

log = logging.getLogger(__name__)
OWN = "own"  # the one sentiment head where no published set gives it a convention
_PHRASEBANK_TEST = 0.2


@dataclass(frozen=True)
class TrainingSets:
    """What a run learns from; `train` and `dev` are alike but for their rows."""

    train: tuple[Labelled, ...]
    dev: tuple[Labelled, ...]
    conventions: tuple[str, ...]
    sentiment_labels: tuple[str, ...]
    topic_labels: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """All training texts, one set after the other."""
        return [text for data in self.train for text in data.texts]


def read_training_sets(settings: TrainSettings) -> TrainingSets:
    """Read all sets that the settings name; raises `DataError`.

    A published set labelled by its own rules (SEntFiN judges the company named, TFNS the market's reading of the tweet)
    is a convention with a sentiment head of its own. All other labels train every head.
    """
    sets: list[Labelled] = []
    spare: list[Labelled] = []
    if settings.tfns:
        sets.append(read_tfns(settings.tfns, "train"))
    if settings.sentfin:
        read = split(read_sentfin(settings.sentfin), *SENTFIN_TEST)[0]
        sets.append(labelled_only(read))
        spare.append(replace(read.take([i for i in range(len(read)) if read.sentiment[i] == UNLABELLED]), name="spare"))
    if settings.research:
        if not settings.phrasebank:
            raise DataError("research trains on PhraseBank: give its folder")
        sets.append(phrasebank_split(read_phrasebank(settings.phrasebank / "Sentences_50Agree.txt"), settings.seed)[0])
    conventions = tuple(data.name for data in sets) or (OWN,)
    if settings.tfnt:
        sets.append(read_tfnt(settings.tfnt, "train"))
    own = [read_labels(path) for path in settings.labels]
    sentiment_labels = _names([*sets, *own], "sentiment_labels")
    topic_labels = _names([*sets, *own], "topic_labels")
    if settings.events:
        sets.append(read_events("train", sentiment_labels, topic_labels))
        sentiment_labels, topic_labels = (
            sentiment_labels or sets[-1].sentiment_labels,
            topic_labels or sets[-1].topic_labels,
        )
    sets += [read_labels(path, sentiment_labels, topic_labels) for path in settings.labels]
    if not sets:
        raise DataError("no training data: give a folder of a published set or a file of labels")
    pairs = [split(data, settings.dev_share, "dev") for data in sets]
    train = [without_copies(rest, dev) for rest, dev in pairs]
    if settings.teachers:
        spare += [read_texts(path) for path in settings.unlabelled]
        train += [data for data in spare if len(data)]
    return TrainingSets(tuple(train), tuple(dev for _, dev in pairs), conventions, sentiment_labels, topic_labels)


def phrasebank_split(data: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """PhraseBank's four fifths to train on and the fifth to test on, stratified by label (Araci 2019)."""
    from sklearn.model_selection import train_test_split

    rows = list(range(len(data)))
    train, test = train_test_split(rows, test_size=_PHRASEBANK_TEST, stratify=data.sentiment, random_state=seed)
    return data.take(train), data.take(test)


def _names(sets: Sequence[Labelled], field: str) -> tuple[str, ...]:
    """The first set's names, then those that only later sets have."""
    return tuple(dict.fromkeys(name for data in sets for name in getattr(data, field)))
