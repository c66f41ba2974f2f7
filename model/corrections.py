"""Labels from analysts: corrections in, a file of labels out that `newsquake train --labels` reads.

Every correction that was taken is kept beside the labels, in `<labels>.corrections.jsonl`, so that who said what and
when can be told; the labels are worked out from it anew each time. Per text, and for sentiment and topic apart: an
author's latest word counts, the most authors win, and what stays even is left out until somebody else decides it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec

from model.errors import DataError
from model.text import clean

_MAX_LINE_BYTES = 256 * 1024
_AHEAD = timedelta(hours=1)  # clocks differ; what is later than this would win for ever
_HEADS: tuple[Literal["sentiment", "topic"], ...] = ("sentiment", "topic")

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Correction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one author says of one text; `id` is whatever the author's tool calls it."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=20_000)]
    by: _Name
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    sentiment: _Name | None = None
    topic: _Name | None = None
    id: _Name | None = None


class Known(NamedTuple):
    """The labels that corrections may name; without any, all are taken."""

    sentiment: Sequence[str]
    topic: Sequence[str]


class Tie(NamedTuple):
    """A text on which the authors are even."""

    text: str
    head: str
    votes: dict[str, list[str]]  # label -> authors


class Label(NamedTuple):
    """One row of the labels."""

    text: str
    sentiment: str | None
    topic: str | None
    authors: tuple[str, ...]


class Taken(NamedTuple):
    """What became of the corrections read, and what the labels now are."""

    new: int
    repeated: int
    rejected: tuple[str, ...]  # a line for each: where and why
    labels: tuple[Label, ...]
    ties: tuple[Tie, ...]


def take(
    source: Iterable[bytes], path: Path, known: Known, *, weight: float, now: datetime, replaces: str = ""
) -> Taken:
    """Take the corrections of JSON Lines into the file of labels, which is written whole or not at all.

    Args:
        source: Lines.
        path: Of the labels, `.jsonl`.
        known: Labels that are accepted.
        weight: Of each label in training.
        now: What is later than this by more than an hour is rejected.
        replaces: The source is all there is of corrections whose id begins so: those taken before and not in it go.

    Raises:
        DataError: a file cannot be read or written.
    """
    with _locked(path):
        before = _read_ledger(path)
        held = [each for each in before if not (replaces and (each.id or "").startswith(replaces))]
        seen = set(held)
        taken: list[Correction] = []
        repeated, rejected = 0, []
        for number, line in enumerate(source, 1):
            if not line.strip():
                continue
            try:
                correction = _parse(line, known, now)
            except ValueError as exc:
                rejected.append(f"line {number}: {exc}")
                continue
            if correction in seen:
                repeated += 1
                continue
            seen.add(correction)
            taken.append(correction)
        held += taken
        new = len(set(taken) - set(before))
        labels, ties = resolve(held)
        if held != before:
            _write(_ledger(path), (msgspec.json.encode(correction) for correction in held))
        _write(path, (_row(label, weight) for label in labels))  # always: an earlier run may have failed before this
    return Taken(new, repeated + len(taken) - new, tuple(rejected), labels, ties)


def show(path: Path) -> Taken:
    """What the file of labels holds; raises `DataError`."""
    return Taken(0, 0, (), *resolve(_read_ledger(path)))


def resolve(corrections: Iterable[Correction]) -> tuple[tuple[Label, ...], tuple[Tie, ...]]:
    """The labels on which most authors agree, and the ties, in the order in which the texts first came.

    >>> at = datetime.fromisoformat("2026-11-24T09:00:00Z")
    >>> said = [Correction(text="Acme is sued", by=by, at=at, sentiment=s) for by, s in (("an", "negative"),
    ...         ("bo", "negative"), ("cy", "neutral"))]
    >>> resolve(said)[0][0].sentiment
    'negative'
    """
    votes: dict[str, dict[str, dict[str, tuple[datetime, str]]]] = defaultdict(lambda: {head: {} for head in _HEADS})
    for correction in corrections:
        for head in _HEADS:
            label = getattr(correction, head)
            of_text = votes[clean(correction.text)][head]
            before = of_text.get(correction.by)
            if label is not None and (before is None or correction.at >= before[0]):  # of two at once the later line
                of_text[correction.by] = (correction.at, label)
    labels, ties = [], []
    for text, heads in votes.items():
        won: dict[str, str | None] = {}
        for name, by_author in heads.items():
            counts = Counter(label for _, label in by_author.values()).most_common()
            even = len(counts) > 1 and counts[0][1] == counts[1][1]
            won[name] = counts[0][0] if counts and not even else None
            if even:
                said: dict[str, list[str]] = defaultdict(list)
                for author, (_, label) in sorted(by_author.items()):
                    said[label].append(author)
                ties.append(Tie(text, name, dict(said)))
        if won["sentiment"] or won["topic"]:
            authors = sorted({author for by_author in heads.values() for author in by_author})
            labels.append(Label(text, won["sentiment"], won["topic"], tuple(authors)))
    return tuple(labels), tuple(ties)


def known_labels(weights: Path) -> Known:
    """The labels of the weights in a folder; raises `DataError`."""
    try:
        config = json.loads((weights / "config.json").read_text("utf-8"))
        return Known(tuple(config["sentiment_labels"]), tuple(config["topic_labels"]))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise DataError(f"no labels in {weights / 'config.json'}: {exc!r}") from exc


def _parse(line: bytes, known: Known, now: datetime) -> Correction:
    """Raises `ValueError`, whose message says what is wrong."""
    if len(line) > _MAX_LINE_BYTES:
        raise ValueError(f"{len(line)} bytes are too long for a correction")
    try:
        correction = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"), type=Correction)
    except RecursionError as exc:
        raise ValueError("JSON too deep") from exc
    if not clean(correction.text):
        raise ValueError("'text' holds no words")
    if correction.sentiment is None and correction.topic is None:
        raise ValueError("neither 'sentiment' nor 'topic'")
    if correction.at > now + _AHEAD:
        raise ValueError(f"'at' is in the future: {correction.at.isoformat()}")
    for head in _HEADS:
        label, names = getattr(correction, head), getattr(known, head)
        if label is not None and names and label not in names:
            raise ValueError(f"{head!r}: {label[:80]!r} is none of {', '.join(names)}")
    return correction


def _row(label: Label, weight: float) -> bytes:
    row = {"text": label.text, "sentiment": label.sentiment, "topic": label.topic, "weight": weight}
    found: dict[str, object] = {name: value for name, value in row.items() if value is not None}
    return msgspec.json.encode(found | {"by": label.authors})


def _ledger(path: Path) -> Path:
    return path.with_name(f"{path.stem}.corrections.jsonl")


def _read_ledger(path: Path) -> list[Correction]:
    ledger = _ledger(path)
    if not ledger.exists():
        if path.exists():
            raise DataError(f"{path} was not made from corrections ({ledger.name} is missing): name another file")
        return []
    try:
        lines = ledger.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Correction) for line in lines if line.strip()]
    except (OSError, ValueError) as exc:
        raise DataError(f"{ledger}: cannot be read: {exc}") from exc


def _write(path: Path, lines: Iterable[bytes]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.writelines(line + b"\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as exc:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {exc}") from exc


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time; the lock goes with the process that holds it."""
    if path.suffix != ".jsonl":
        raise DataError(f"{path}: must end in .jsonl")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f".{path.name}.lock").open("wb")
    except OSError as exc:
        raise DataError(f"{path} cannot be written: {exc}") from exc
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
