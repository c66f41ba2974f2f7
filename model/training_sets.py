"""The rows to learn from and those to choose and calibrate by, as the settings name them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from model.copies import near_copies, without_copies
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
from model.label_file import EVENTS_NAME, read_events, read_labels, read_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model.settings import TrainSettings

log = logging.getLogger(__name__)
CONVENTIONS = ("tfns", "sentfin", "phrasebank", EVENTS_NAME)  # sets whose sentiments have a head of their own
OWN = "own"  # the one sentiment head where no published set has one
_PHRASEBANK_TEST = 0.2
_FIELDS = ("sentiment_labels", "topic_labels")


@dataclass(frozen=True)
class TrainingSets:
    """What a run learns from; `train` and `dev` are alike but for their rows."""

    train: tuple[Labelled, ...]
    dev: tuple[Labelled, ...]
    conventions: tuple[str, ...]
    sentiment_labels: tuple[str, ...]
    topic_labels: tuple[str, ...]
    copies: tuple[str, ...] = ()  # what was found and done about near copies, a line each
    test: tuple[Labelled, ...] = ()  # rows of published sets that have no test part of their own: judged once, at last

    @property
    def texts(self) -> list[str]:
        """All training texts, one set after the other."""
        return [text for data in self.train for text in data.texts]


def read_training_sets(settings: TrainSettings, progress: Callable[[str], None] = log.info) -> TrainingSets:
    """Read all sets that the settings name; raises `DataError`.

    A set labelled by its own rules (SEntFiN judges the company named, TFNS the market's reading of the tweet, our own
    events what happened) is a convention with a sentiment head of its own; our events are none beside a user's labels
    alone. A user's labels train every head.

    Near copies of rows that we hold out are left out of the training rows. Those of the published validation sets are
    counted: by their protocol the training set is what it is.
    """
    copies: list[str] = []
    published, spare, test = _published(settings, copies)
    sets = [*published, *_own(settings, published)]
    named = tuple(data.name for data in sets if data.name in CONVENTIONS)
    conventions = named if set(named) - {EVENTS_NAME} else (OWN,)
    if not sets:
        raise DataError("no training data: give a folder of a published set or a file of labels")
    train, dev = [], []
    for data in sets:
        rest, held = split(data, settings.dev_share, "dev")
        train.append(_without(rest, held, "dev rows", copies))
        dev.append(held)
    if not sum(map(len, dev)) or not sum(map(len, train)):
        raise DataError(
            f"{sum(map(len, sets))} rows leave {sum(map(len, dev))} to choose by and {sum(map(len, train))} to learn "
            "from: bring more, or change dev_share"
        )
    if settings.teachers:
        spare += [replace(read_texts(path), name=str(path)) for path in settings.unlabelled]
        train += [data for data in spare if len(data)]
    for line in copies:
        progress(line)
    return TrainingSets(
        tuple(train),
        tuple(dev),
        conventions,
        _names(sets, "sentiment_labels"),
        _names(sets, "topic_labels"),
        tuple(copies),
        tuple(test),
    )


def _published(settings: TrainSettings, copies: list[str]) -> tuple[list[Labelled], list[Labelled], list[Labelled]]:
    """The published sets named, texts of theirs that only a teacher can label, and rows of theirs to test on."""
    sets: list[Labelled] = []
    spare: list[Labelled] = []
    tests: list[Labelled] = []
    if settings.tfns:
        sets.append(read_tfns(settings.tfns, "train"))
        _count(sets[-1], read_tfns(settings.tfns, "valid"), copies)
    if settings.sentfin:
        rest, test = split(read_sentfin(settings.sentfin), *SENTFIN_TEST)
        read = _without(rest, test, "test rows", copies)
        sets.append(labelled_only(read))
        spare.append(replace(read.take([i for i in range(len(read)) if read.sentiment[i] == UNLABELLED]), name="spare"))
    if settings.research:
        if not settings.phrasebank:
            raise DataError("research trains on PhraseBank: give its folder")
        train, test = phrasebank_split(read_phrasebank(settings.phrasebank / "Sentences_50Agree.txt"), settings.seed)
        _count(train, test, copies)
        sets.append(train)
        tests.append(test)
    if settings.tfnt:
        sets.append(read_tfnt(settings.tfnt, "train"))
        _count(sets[-1], read_tfnt(settings.tfnt, "valid"), copies)
    return sets, spare, tests


def _own(settings: TrainSettings, published: Sequence[Labelled]) -> list[Labelled]:
    """Our events and the user's files of labels, all with the same label names."""
    named = [*published, *(read_labels(path) for path in settings.labels)]
    labels = [_names(named, field) for field in _FIELDS]
    sets = []
    if settings.events:
        try:
            events = read_events("train", *labels)
        except DataError as exc:
            raise DataError(
                f"newsquake's own events have other labels than your data: set events to false ({exc})"
            ) from exc
        weight = tuple(weight * settings.events_weight for weight in events.weight)
        topic_weight = settings.events_topic_weight if any(data.topic_labels for data in published) else 1.0
        sets.append(replace(events, weight=weight, topic_weight=topic_weight))
        labels = [names or getattr(events, field) for names, field in zip(labels, _FIELDS, strict=True)]
    # Named by its path, a file is never mistaken for a published set.
    return sets + [read_labels(path, *labels, name=str(path)) for path in settings.labels]


def _without(data: Labelled, held: Labelled, what: str, copies: list[str]) -> Labelled:
    kept = without_copies(data, held)
    if len(kept) < len(data):
        copies.append(f"{data.name}: {len(data) - len(kept)} of {len(data)} rows left out as near copies of {what}")
    return kept


def _count(train: Labelled, valid: Labelled, copies: list[str]) -> None:
    found = len(near_copies(valid.texts, train.texts))
    copies.append(f"{train.name}: {found} of {len(valid)} validation rows have a near copy in the training set")


def phrasebank_split(data: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """PhraseBank's four fifths to train on and the fifth to test on, stratified by label (Araci 2019)."""
    from sklearn.model_selection import train_test_split

    rows = list(range(len(data)))
    train, test = train_test_split(rows, test_size=_PHRASEBANK_TEST, stratify=data.sentiment, random_state=seed)
    return data.take(train), data.take(test)


def _names(sets: Sequence[Labelled], field: str) -> tuple[str, ...]:
    """The first set's names, then those that only later sets have."""
    return tuple(dict.fromkeys(name for data in sets for name in getattr(data, field)))
