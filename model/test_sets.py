"""The sets that weights are judged on, each in its protocol, and the rows that they may have learnt from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.copies import near_copies
from model.data import (
    SENTFIN_TEST,
    UNLABELLED,
    Labelled,
    labelled_only,
    read_near_copies,
    read_phrasebank,
    read_sentfin,
    read_tfns,
    read_tfnt,
    split,
)
from model.label_file import EVENTS, read_column, read_events, read_labels

if TYPE_CHECKING:
    from model.settings import EvaluateSettings

log = logging.getLogger(__name__)
Head = Literal["sentiment", "topic"]
HEADS: tuple[Head, Head] = ("sentiment", "topic")
TEST: Literal["test"] = "test"  # the value of a label file's column `part` that marks the rows to judge by


@dataclass(frozen=True)
class Task:
    """The rows of a set that carry one head's label.

    Attributes:
        key: `<set>.<head>`.
        title: For people.
        protocol: Which rows these are.
        head: That is judged.
        labels: Names, as the set has them.
        texts: n texts.
        truth: (n,) places in `labels`.
        copies: Rows with a near copy in the rows that weights are trained on.
        groups: n names of the rows' sources; empty where the set has none.
        train: Sets that baselines learn from.
        own: Whether the set is ours, and not named by the user.
    """

    key: str
    title: str
    protocol: str
    head: Head
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    truth: NDArray[np.int64]
    copies: frozenset[int]
    groups: tuple[str, ...]
    train: tuple[Labelled, ...]
    own: bool = False

    @property
    def set_name(self) -> str:
        """The set's name; also that of its convention's head, where it has one."""
        return self.key.rpartition(".")[0]

    @property
    def alone(self) -> NDArray[np.int64]:
        """The rows without a near copy."""
        return np.array([row for row in range(len(self.texts)) if row not in self.copies], np.int64)


class _Set(NamedTuple):
    data: Labelled
    title: str
    protocol: str
    train: tuple[Labelled, ...]
    copies: frozenset[int] | None = None  # as published; looked for when `None`
    groups: tuple[str, ...] = ()


def read_tasks(settings: EvaluateSettings) -> tuple[Task, ...]:
    """All sets that the settings name, and our own events; raises `DataError`."""
    sets: list[_Set] = []
    if settings.tfns:
        train = read_tfns(settings.tfns, "train")
        data = read_tfns(settings.tfns, "valid")
        sets.append(_Set(data, "TFNS", "official validation set", (train,), read_near_copies(settings.tfns) or None))
    if settings.tfnt:
        train = read_tfnt(settings.tfnt, "train")
        data = read_tfnt(settings.tfnt, "valid")
        sets.append(_Set(data, "TFNT", "official validation set", (train,), read_near_copies(settings.tfnt) or None))
    if settings.sentfin:
        train, data = map(labelled_only, split(read_sentfin(settings.sentfin), *SENTFIN_TEST))
        sets.append(_Set(data, "SEntFiN", "held-out tenth of the headlines whose entities agree", (train,)))
    events = read_events("train")
    known = (*(train for each in sets for train in each.train), events)
    if settings.phrasebank:
        data = read_phrasebank(settings.phrasebank / "Sentences_50Agree.txt")
        sets.append(_Set(data, "PhraseBank 50Agree", "whole; weights that ship never trained on it", known))
    kinds = tuple(read_column(EVENTS, "kind", part=TEST))
    sets.append(_Set(read_events(TEST), "Own events", "test part, split by event", known, groups=kinds))
    names = {each.data.name for each in sets}
    for path in settings.labels:
        sets.append(_read_own(path, known, names))
    tasks = tuple(task for each in sets for task in _tasks(each, known))
    log.info("%d sets, %d texts", len(sets), sum(len(each.data) for each in sets))
    return tasks


def _read_own(path: Path, known: tuple[Labelled, ...], names: set[str]) -> _Set:
    """A user's file: its rows of part `test` where it has some, else all."""
    part = TEST if TEST in read_column(path, "part") else ""
    name = path.stem
    while name in names:
        name += "'"
    names.add(name)
    learnt = (read_labels(path, part="train"),) if part and "train" in read_column(path, "part") else known
    groups = tuple(read_column(path, "source", part=part))
    protocol = "rows of the part 'test'" if part else "all rows"
    return _Set(read_labels(path, name=name, part=part), name, protocol, learnt, groups=groups if any(groups) else ())


def _tasks(each: _Set, known: tuple[Labelled, ...]) -> list[Task]:
    data = each.data
    copies = each.copies
    if copies is None:
        rows = sorted({text for train in (*each.train, *known) for text in train.texts})
        copies = frozenset(near_copies(data.texts, rows))
    tasks = []
    for head in HEADS:
        truth = np.array(getattr(data, head), np.int64)
        kept = np.flatnonzero(truth != UNLABELLED)
        if len(kept):
            tasks.append(
                Task(
                    f"{data.name}.{head}",
                    f"{each.title}, {head}",
                    each.protocol,
                    head,
                    getattr(data, f"{head}_labels"),
                    tuple(data.texts[i] for i in kept),
                    truth[kept],
                    frozenset(int(i) for i in np.flatnonzero(np.isin(kept, list(copies)))),
                    tuple(each.groups[i] for i in kept) if each.groups else (),
                    each.train,
                    own=data.name == "events",
                )
            )
    return tasks
