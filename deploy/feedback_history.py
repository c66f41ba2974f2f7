"""What analysts said on the desk, read from Kafka's topic `feedback` as corrections that labels are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from alerts.feedback import Said, decode_said
from model.corrections import Correction

PREFIX = "desk:"
"""How the ids of corrections from the desk begin."""


class Corrections(NamedTuple):
    """What stands in the topic.

    `lines` are corrections as `newsquake label` reads them. `unlabelled` words say only that a label is wrong, and
    `unreadable` records are none.
    """

    lines: tuple[bytes, ...]
    unlabelled: int
    unreadable: int


def corrections(records: Iterable[bytes | None]) -> Corrections:
    """Return the corrections that stand: of one person's words on one thing the last counts, repeats do not."""
    standing: dict[str, Said] = {}
    unreadable = 0
    for record in records:
        try:
            word = decode_said(record or b"")
        except msgspec.MsgspecError:
            unreadable += 1
            continue
        before = standing.get(word.thing)
        if before is None or word.at >= before.at:
            standing[word.thing] = word
    words = [word for word in standing.values() if word.about != "alert" and not word.taken_back]
    return Corrections(tuple(_lines(words)), sum(not word.value for word in words), unreadable)


def _lines(words: Iterable[Said]) -> Iterator[bytes]:
    for word in sorted(words, key=lambda word: (word.at, word.id)):
        if word.value:
            label = {"sentiment" if word.about == "sentiment" else "topic": word.value}
            yield msgspec.json.encode(Correction(text=word.title, by=word.by, at=word.at, id=PREFIX + word.id, **label))
