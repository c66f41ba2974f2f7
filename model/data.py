"""Labelled texts, and readers of the published sets, each checked against the layout it was published in.

| set | file | columns |
| --- | --- | --- |
| TFNS (zeroshot/twitter-financial-news-sentiment) | `sent_train.csv`, `sent_valid.csv` | `text,label`; 0 bearish, 1 bullish, 2 neutral |
| TFNT (zeroshot/twitter-financial-news-topic) | `train_data.csv`, `valid_data.csv`, `labels.json` | `text,label`; 0-19 |
| SEntFiN 1.0 | `SEntFiN.csv` | `Title,Decisions`; a sentiment per entity |
| Financial PhraseBank 1.0 | `Sentences_50Agree.txt` | `sentence@label`, ISO-8859-1 |

Other labels, ours and users', are read by `model.label_file`.
"""  # noqa: E501

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model.errors import DataError
from model.labels import SENTIMENT, TFNS_CODES
from model.text import clean

Part = Literal["train", "valid"]

UNLABELLED = -1
SENTFIN_TEST = (0.1, "test")  # for `split`: SEntFiN has no official validation set

_DECISION = re.compile(r"': '(\w+)'")  # not a literal: names hold unescaped quotes ("Moody's")


@dataclass(frozen=True)
class Labelled:
    """A set of n texts, clean (`model.text.clean`), each with a sentiment, a topic, both or neither.

    Attributes:
        name: Of the set; in training it is also the labelling convention of its sentiments.
        texts: n texts.
        sentiment: n indexes into `sentiment_labels`, or `UNLABELLED`.
        topic: n indexes into `topic_labels`, or `UNLABELLED`.
        weight: n weights in training, 1 unless the set says otherwise.
        sentiment_labels: Names; empty when no text has a sentiment.
        topic_labels: Names; empty when no text has a topic.
        topic_weight: How much its topics count in training beside its sentiments.
    """

    name: str
    texts: tuple[str, ...]
    sentiment: tuple[int, ...]
    topic: tuple[int, ...]
    weight: tuple[float, ...]
    sentiment_labels: tuple[str, ...] = ()
    topic_labels: tuple[str, ...] = ()
    topic_weight: float = 1.0

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def complete(self) -> bool:
        """Whether it carries both labels, as our events do."""
        return bool(self.sentiment_labels and self.topic_labels)

    def take(self, rows: Sequence[int]) -> Labelled:
        """The set with only these rows, in this order."""
        return Labelled(
            self.name,
            tuple(self.texts[i] for i in rows),
            tuple(self.sentiment[i] for i in rows),
            tuple(self.topic[i] for i in rows),
            tuple(self.weight[i] for i in rows),
            self.sentiment_labels,
            self.topic_labels,
            self.topic_weight,
        )


def unlabelled(name: str, texts: Sequence[str]) -> Labelled:
    """A set of texts without labels."""
    none = (UNLABELLED,) * len(texts)
    return Labelled(name, tuple(texts), none, none, (1.0,) * len(texts))


def with_sentiment(name: str, labels: tuple[str, ...], pairs: Sequence[tuple[str, int]]) -> Labelled:
    """A set of (text, index into `labels`) pairs with sentiments only."""
    none, one = (UNLABELLED,) * len(pairs), (1.0,) * len(pairs)
    return Labelled(name, tuple(clean(t) for t, _ in pairs), tuple(i for _, i in pairs), none, one, labels, ())


def with_topic(name: str, labels: tuple[str, ...], pairs: Sequence[tuple[str, int]]) -> Labelled:
    """A set of (text, index into `labels`) pairs with topics only."""
    none, one = (UNLABELLED,) * len(pairs), (1.0,) * len(pairs)
    return Labelled(name, tuple(clean(t) for t, _ in pairs), none, tuple(i for _, i in pairs), one, (), labels)


def read_tfns(folder: Path, part: Part) -> Labelled:
    """Twitter Financial News Sentiment; raises `DataError`."""
    pairs = []
    path = folder / f"sent_{part}.csv"
    for where, row in csv_rows(path, ("text", "label")):
        if row["label"] not in TFNS_CODES:
            raise DataError(f"{path}: {where}, column 'label': {row['label']!r} is none of {', '.join(TFNS_CODES)}")
        pairs.append((row["text"], SENTIMENT.index(TFNS_CODES[row["label"]])))
    return with_sentiment("tfns", SENTIMENT, _some(pairs, path))


def read_tfnt(folder: Path, part: Part) -> Labelled:
    """Twitter Financial News Topic, with the topics' names from its `labels.json`; raises `DataError`."""
    labels = _topic_labels(folder / "labels.json")
    path = folder / ("train_data.csv" if part == "train" else "valid_data.csv")
    pairs = []
    for where, row in csv_rows(path, ("text", "label")):
        code = row["label"]
        if not (code.isascii() and code.isdigit() and int(code) < len(labels)):
            raise DataError(f"{path}: {where}, column 'label': {code!r} is no number from 0 to {len(labels) - 1}")
        pairs.append((row["text"], int(code)))
    return with_topic("tfnt", labels, _some(pairs, path))


def read_sentfin(folder: Path) -> Labelled:
    """SEntFiN's headlines; those whose entities differ in sentiment are unlabelled. Raises `DataError`."""
    path = folder / "SEntFiN.csv"
    pairs = []
    for where, row in csv_rows(path, ("Title", "Decisions")):
        found = set(_DECISION.findall(row["Decisions"]))
        if not found or not found <= set(SENTIMENT):
            raise DataError(f"{path}: {where}, column 'Decisions': no sentiments in {row['Decisions'][:80]!r}")
        pairs.append((row["Title"], SENTIMENT.index(found.pop()) if len(found) == 1 else UNLABELLED))
    return with_sentiment("sentfin", SENTIMENT, _some(pairs, path))


def read_phrasebank(path: Path) -> Labelled:
    """Financial PhraseBank, whose licence keeps it out of weights that ship; raises `DataError`."""
    pairs = []
    for number, line in enumerate(read_text(path, "iso-8859-1").rstrip().split("\n"), 1):
        sentence, at, label = line.rstrip("\r").rpartition("@")
        if not at or label not in SENTIMENT:
            raise DataError(f"{path}: line {number}: not 'sentence@label' with a label of {', '.join(SENTIMENT)}")
        pairs.append((sentence, SENTIMENT.index(label)))
    return with_sentiment("phrasebank", SENTIMENT, pairs)


def read_near_copies(folder: Path, at_least: float = 0.8) -> frozenset[int]:
    """Rows of the validation set with a near copy in the training set (token Jaccard), counted from 0.

    From `valid_train_overlap.csv`; empty when there is no such file.
    """
    path = folder / "valid_train_overlap.csv"
    if not path.exists():
        return frozenset()
    rows = set()
    for where, row in csv_rows(path, ("valid_row", "jaccard")):
        try:
            if float(row["jaccard"]) >= at_least:
                rows.add(int(row["valid_row"]))
        except ValueError as exc:
            raise DataError(f"{path}: {where}, columns 'valid_row', 'jaccard': {exc}") from exc
    return frozenset(rows)


def labelled_only(data: Labelled) -> Labelled:
    """The set without the rows that carry no label at all."""
    return data.take([i for i in range(len(data)) if max(data.sentiment[i], data.topic[i]) > UNLABELLED])


def split(data: Labelled, share: float, purpose: str) -> tuple[Labelled, Labelled]:
    """The set without and with a held-out share, chosen by a hash of the text.

    The choice is the same on every machine, and equal texts always fall on the same side.
    """
    held = [
        int.from_bytes(hashlib.blake2b(f"{purpose}\n{text.lower()}".encode(), digest_size=6).digest()) < share * 2**48
        for text in data.texts
    ]
    rows = range(len(data))
    return data.take([i for i in rows if not held[i]]), data.take([i for i in rows if held[i]])


def _some(pairs: list[tuple[str, int]], path: Path) -> list[tuple[str, int]]:
    if not pairs:
        raise DataError(f"{path}: holds no rows")
    return pairs


def _topic_labels(path: Path) -> tuple[str, ...]:
    try:
        names = json.loads(read_text(path, "utf-8"))
        return tuple(str(names[str(code)]) for code in range(len(names)))
    except (ValueError, KeyError, TypeError) as exc:
        raise DataError(f'{path}: not an object {{"0": name, "1": name, ...}}: {exc!r}') from exc


def csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """("row 3", {column: value}) a row; the header is row 1. Raises `DataError`."""
    rows = csv.reader(io.StringIO(read_text(path, "utf-8-sig"), newline=""), strict=True)
    number = 0
    try:
        header = next(rows, [])
        missing = [column for column in columns if column not in header]
        if missing:
            raise DataError(f"{path}: column {missing[0]!r} is missing; it has {', '.join(header) or 'no columns'}")
        for number, row in enumerate(rows, 2):
            if len(row) != len(header):
                raise DataError(f"{path}: row {number}: {len(row)} columns instead of {len(header)}")
            yield f"row {number}", dict(zip(header, row, strict=True))
    except csv.Error as exc:
        raise DataError(f"{path}: after row {number}: {exc}") from exc


def read_text(path: Path, encoding: str) -> str:
    """The file's text; raises `DataError`."""
    try:
        return path.read_bytes().decode(encoding)
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"{path}: cannot be read: {exc}") from exc
