"""What analysts say of alerts and headlines: kept in Redis, in order, for whoever learns from it.

`nq:{desk}:feedback` is a stream of all that was said; `nq:{desk}:said:<alert>` holds the last word of each analyst on
each thing, so that it can be shown and taken back.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from redis import Redis

SCHEMA_VERSION = 1
LOG = "nq:{desk}:feedback"
_LENGTH, _LIFE_S = 100_000, 90 * 86_400

About = Literal["alert", "sentiment", "topic"]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One word of one analyst.

    `about` the alert: `value` is useful or false_alarm. About the sentiment or topic of a headline: `value` is the
    right label, "" when it is only known to be wrong; `given` is the model's, `title` the text. An empty `value` with
    `taken_back` takes the analyst's earlier word back.
    """

    id: str
    at: datetime
    by: str
    about: About
    value: str
    taken_back: bool = False
    alert: str = ""
    series: str = ""
    rule: str = ""
    title: str = ""
    url: str = ""
    publisher: str = ""
    given: str = ""
    schema: int = SCHEMA_VERSION


_said = msgspec.json.Decoder(Said)


def said(by: str, about: About, value: str, **fields: Any) -> Said:
    """Return a new word, with its time and an id that tells it from all others."""
    at = datetime.now(UTC)
    source = f"{by}\n{about}\n{value}\n{fields.get('alert', '')}\n{fields.get('title', '')}\n{at.isoformat()}"
    id_ = hashlib.blake2b(source.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return Said(id=id_, at=at, by=by, about=about, value=value, **fields)


class Feedback:
    """Takes what is said. Every method raises `redis.RedisError` when the server cannot answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def post(self, word: Said) -> None:
        """Keep a word; a later one of the same analyst on the same thing takes its place."""
        raw = msgspec.json.encode(word)
        about = hashlib.blake2b(word.title.encode("utf-8", "replace"), digest_size=8).hexdigest() if word.title else ""
        field, key = f"{word.by}\n{word.about}\n{about}", f"nq:{{desk}}:said:{word.alert}"
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(LOG, {"said": raw}, maxlen=_LENGTH, approximate=True)
            if word.taken_back:
                pipe.hdel(key, field)
            else:
                pipe.hset(key, field, raw)
                pipe.expire(key, _LIFE_S)
            pipe.execute()

    def of(self, alert: str) -> list[Said]:
        """Return what was said about an alert and its headlines, the oldest first."""
        raw: Any = self._redis.hvals(f"nq:{{desk}}:said:{alert}")
        return sorted(map(_said.decode, raw), key=lambda word: (word.at, word.id))
