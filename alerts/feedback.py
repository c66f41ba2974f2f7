"""What analysts say of alerts and headlines: kept in Redis, handed to Kafka's topic `feedback` by an outbox.

`nq:{desk}:feedback` is the outbox: a stream of words that Kafka has not acknowledged (the last 100,000 are kept).
`nq:{desk}:said:<alert>` holds the last word of each person on each thing, so that it can be shown and taken back.
`nq:{desk}:verdicts` holds each person's standing verdict on each alert of the last 90 days; precision is worked out
from it, so that nothing is counted twice however often it is said.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from alerts.alert import Alert
from alerts.audit import Entry, append
from alerts.matchers import labels_of
from alerts.records import UNREADABLE, Moment

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
OUTBOX = "nq:{desk}:feedback"
"""A stream with `key` (`Said.thing`) and `said` (a `Said` as JSON)."""
VERDICTS = "nq:{desk}:verdicts"
KEEP = timedelta(days=90)
_LENGTH, _LISTED = 100_000, 50

About = Literal["alert", "sentiment", "topic"]
Verdict = Literal["useful", "false_alarm", "wrong_sentiment", "wrong_topic", "taken_back"]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One word of one person; `id` is its identity.

    `about` the alert: `value` is useful or false_alarm, `topic` and `rule` the alert's. About the sentiment or topic of
    a headline: `value` is the right label, "" when it is only known to be wrong; `given` is what the model said,
    `model` which one scores now, `title` the text. `taken_back` takes the person's earlier word on the same thing back.
    """

    id: str
    at: Moment
    by: str
    about: About
    value: str
    taken_back: bool = False
    alert: str = ""
    series: str = ""
    rule: str = ""
    topic: str = ""
    title: str = ""
    url: str = ""
    publisher: str = ""
    given: str = ""
    model: str = ""
    schema: int = SCHEMA_VERSION

    @property
    def thing(self) -> str:
        """What it is said of, and by whom: the key on Kafka. Of words with one key the last counts."""
        return _digest(self.by, self.about, self.title or self.alert)

    @property
    def verdict(self) -> Verdict:
        """What it says, in few values: a metric's label."""
        if self.taken_back:
            return "taken_back"
        if self.about == "alert":
            return "useful" if self.value == "useful" else "false_alarm"
        return "wrong_sentiment" if self.about == "sentiment" else "wrong_topic"


class Precision(msgspec.Struct, frozen=True, kw_only=True):
    """Of a rule or a topic, how many verdicts of the last 90 days say useful and how many false alarm."""

    by: Literal["rule", "topic"]
    name: str
    useful: int
    false_alarm: int

    @property
    def share(self) -> float:
        """The share of useful ones."""
        return self.useful / (self.useful + self.false_alarm)


class _Standing(msgspec.Struct, frozen=True):
    """A verdict that stands."""

    at: Moment
    value: str
    rule: str
    topic: str


_said = msgspec.json.Decoder(Said)
_standing = msgspec.json.Decoder(_Standing)


def said(by: str, about: About, value: str, **fields: Any) -> Said:
    """Return a new word, with its time and an id that tells it from all others."""
    at = datetime.now(UTC)
    place = str(fields.get("title", "")) or str(fields.get("alert", ""))
    return Said(id=_digest(by, about, value, place, at.isoformat()), at=at, by=by, about=about, value=value, **fields)


def decode_said(raw: bytes) -> Said:
    """Return the word in a record.

    Raises:
        msgspec.MsgspecError: it is none, or of a later schema.
    """
    try:
        word = _said.decode(raw)
    except (UnicodeDecodeError, RecursionError) as exc:
        raise msgspec.DecodeError(str(exc)) from exc
    if word.schema > SCHEMA_VERSION:
        raise msgspec.ValidationError(f"schema {word.schema} is newer than {SCHEMA_VERSION}")
    return word


def topic_of(alert: Alert) -> str:
    """Return the topic of an alert: its series', else that of most of its stories, "" without any."""
    named = labels_of(alert)["topic"]
    if named or not alert.stories:
        return named
    return Counter(story.topic for story in alert.stories).most_common(1)[0][0]


class Feedback:
    """Takes what is said. Every method raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._unreadable: dict[bytes, bytes] = {}

    def post(self, word: Said, note: Entry | None = None) -> None:
        """Keep a word, all of it or nothing; a later one of the same person on the same thing takes its place.

        With it `note` goes into the audit log.
        """
        raw = msgspec.json.encode(word)
        field, key = word.thing, f"nq:{{desk}}:said:{word.alert}"
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(OUTBOX, {"key": word.thing, "said": raw}, maxlen=_LENGTH, approximate=True)
            if word.taken_back:
                pipe.hdel(key, field)
            else:
                pipe.hset(key, field, raw)
                pipe.expire(key, KEEP)
            if word.about == "alert":
                if word.taken_back:
                    pipe.hdel(VERDICTS, field)
                else:
                    standing = _Standing(word.at, word.value, word.rule, word.topic)
                    pipe.hset(VERDICTS, field, msgspec.json.encode(standing))
            if note is not None:
                append(pipe, note)
            pipe.execute()

    def restore(self, word: Said) -> bool:
        """Put back a word that stands and was lost; return whether it was. Kafka has it: the outbox does not get it."""
        key = f"nq:{{desk}}:said:{word.alert}"
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hsetnx(key, word.thing, msgspec.json.encode(word))
            pipe.expire(key, KEEP)
            if word.about == "alert":
                standing = _Standing(word.at, word.value, word.rule, word.topic)
                pipe.hsetnx(VERDICTS, word.thing, msgspec.json.encode(standing))
            answers = pipe.execute()
        return bool(answers[0] or (word.about == "alert" and answers[-1]))

    def unsent(self) -> list[Said]:
        """Return the words that Kafka does not have yet, in their order, without what is none."""
        found = []
        entries: Any = self._redis.xrange(OUTBOX)
        for entry, fields in entries:
            try:
                found.append(decode_said(fields[b"said"]))
            except (KeyError, msgspec.MsgspecError) as exc:
                log.error("entry %s of %s is nothing that anybody said: left out (%r)", entry.decode(), OUTBOX, exc)
        return found

    def of(self, alert: str) -> list[Said]:
        """Return what was said about an alert and its headlines, the oldest first, without what cannot be read."""
        return self.of_all([alert])

    def of_all(self, alerts: Sequence[str]) -> list[Said]:
        """Return what was said about some alerts, one after the other, each as `of` does."""
        with self._redis.pipeline(transaction=False) as pipe:
            for alert in alerts:
                pipe.hvals(f"nq:{{desk}}:said:{alert}")
            answers: Any = pipe.execute()
        found = list[Said]()
        for alert, raws in zip(alerts, answers, strict=True):
            words = []
            for raw in raws:
                try:
                    words.append(decode_said(raw))
                except msgspec.MsgspecError as exc:
                    log.error("a word on alert %s cannot be read and is passed over (%s)", alert, exc)
            found += sorted(words, key=lambda word: (word.at, word.id))
        return found

    def precision(self) -> list[Precision]:
        """Return how often alerts were useful, by rule and by topic, those with most verdicts first: 50 of each.

        Alerts without a rule stand under the name "".
        """
        found: Any = self._redis.hgetall(VERDICTS)
        oldest = datetime.now(UTC) - KEEP
        votes: dict[tuple[Literal["rule", "topic"], str], Counter[str]] = defaultdict(Counter)
        gone, unreadable = [], dict[bytes, bytes]()
        for field, raw in found.items():
            try:
                verdict = _standing.decode(raw)
            except UNREADABLE as exc:
                unreadable[field] = raw
                if self._unreadable.get(field) != raw:  # it stands there for good, and this is asked every few seconds
                    log.error("verdict %r cannot be read and counts for nothing (%s)", field, exc)
                continue
            if verdict.at < oldest:
                gone.append(field)
                continue
            votes["rule", verdict.rule][verdict.value] += 1
            if verdict.topic:
                votes["topic", verdict.topic][verdict.value] += 1
        self._unreadable = unreadable
        if gone:
            self._redis.hdel(VERDICTS, *gone)
        rows = [
            Precision(by=by, name=name, useful=count["useful"], false_alarm=count["false_alarm"])
            for (by, name), count in votes.items()
        ]
        return _most(rows, "rule") + _most(rows, "topic")

    def waiting(self, now_s: float) -> tuple[int, float]:
        """Return how many words Kafka does not have yet, and for how many seconds the oldest has waited."""
        first: Any = self._redis.xrange(OUTBOX, count=1)
        if not first:
            return 0, 0.0
        since_s = int(first[0][0].partition(b"-")[0]) / 1000
        count: Any = self._redis.xlen(OUTBOX)
        return int(count), max(0.0, now_s - since_s)


def _most(rows: Sequence[Precision], by: str) -> list[Precision]:
    mine = [row for row in rows if row.by == by]
    return sorted(mine, key=lambda row: (-row.useful - row.false_alarm, row.name))[:_LISTED]


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\n".join(parts).encode("utf-8", "replace"), digest_size=16).hexdigest()
