"""10,000 records that are no documents among good ones: each good one is scored once, each bad one dead, with why."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kafka import KafkaProducer

from stream import dead_letter, scored

pytestmark = pytest.mark.integration

BAD, GOOD = 10_000, 3_000
NOW = datetime.now(UTC)


def plain(n: int) -> dict[str, Any]:
    """A good document as a JSON object."""
    at = (NOW - timedelta(seconds=n % 3_000)).isoformat()
    return {
        "id": f"id-{n}", "story": f"story-{n}", "source": "test", "publisher": "p", "title": f"Title {n}",
        "published_at": at, "seen_at": at, "companies": ["AAPL"],
    }  # fmt: skip


def _dumps(value: object) -> bytes:
    return json.dumps(value).encode()


def _with(**fields: object) -> Callable[[random.Random, dict[str, Any]], bytes]:
    return lambda chance, good: _dumps({**good, **fields})


def _raw(member: bytes) -> Callable[[random.Random, dict[str, Any]], bytes]:
    """A good document with one member more; the last of two that share a name counts."""
    return lambda chance, good: _dumps(good)[:-1] + b"," + member + b"}"


def _without(chance: random.Random, good: dict[str, Any]) -> bytes:
    good.pop(chance.choice(["id", "story", "source", "publisher", "title", "published_at", "seen_at"]))
    return _dumps(good)


def _wrong_type(chance: random.Random, good: dict[str, Any]) -> bytes:
    field = chance.choice(list(good))
    wrong = [1, -1.5, True, None, {}, {"$gt": ""}, [[]], [None]]
    return _dumps({**good, field: chance.choice(wrong)})


def _cut(chance: random.Random, good: dict[str, Any]) -> bytes:
    whole = _dumps(good)
    return whole[: chance.randrange(len(whole))]


def _bytes(chance: random.Random, good: dict[str, Any]) -> bytes:
    return b"\x80" + chance.randbytes(chance.randrange(2_000))


def _deep(chance: random.Random, good: dict[str, Any]) -> bytes:
    depth = chance.randint(2_000, 100_000)
    opened, closed = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return _dumps(good)[:-1] + b',"deep":' + opened * depth + b"1" + closed * depth + b"}"


def _huge(chance: random.Random, good: dict[str, Any]) -> bytes:
    return _dumps({**good, chance.choice(["title", "text", "url", "id"]): "x" * chance.randint(30_000, 900_000)})


KINDS: dict[str, Callable[[random.Random, dict[str, Any]], bytes | None]] = {
    "tombstone": lambda chance, good: None,
    "empty": lambda chance, good: b"",
    "binary": _bytes,
    "cut": _cut,
    "missing": _without,
    "type": _wrong_type,
    "not an object": lambda chance, good: chance.choice([b"null", b"true", b"3", b'"text"', b"[]", b"[{}]", b"{}"]),
    "deep": _deep,
    "BOM": lambda chance, good: b"\xef\xbb\xbf" + _dumps(good),
    "UTF-16": lambda chance, good: json.dumps(good).encode(chance.choice(["utf-16", "utf-16-le", "utf-32"])),
    "gzip": lambda chance, good: gzip.compress(_dumps(good)),
    "two": lambda chance, good: _dumps(good) + _dumps(good),
    "NaN time": _raw(b'"seen_at":NaN'),
    "infinite time": _raw(b'"published_at":-Infinity'),
    "Unix time": _with(seen_at=1_700_000_000),
    "no zone": _with(seen_at="2023-03-10T12:00:00"),
    "year 0": _with(published_at="0000-01-01T00:00:00Z"),
    "year 10000": _with(published_at="10000-01-01T00:00:00Z"),
    "seen in year 9999": _with(seen_at="9999-12-31T23:59:59-23:59"),
    "seen tomorrow": _with(seen_at=(NOW + timedelta(days=1)).isoformat()),
    "leap second": _with(seen_at="2016-12-31T23:59:60Z"),
    "1e400": _raw(b'"schema":1e400'),
    "overflow": _raw(b'"schema":' + b"9" * 4_000),
    "negative": _raw(b'"schema":-1'),
    "newer schema": _with(schema=2),
    "lone surrogate": _raw(rb'"title":"\ud800 fails"'),
    "lone low surrogate": _raw(rb'"story":"\udfff"'),
    "surrogate bytes": _raw(b'"title":"\xed\xa0\x80"'),
    "not UTF-8": _raw(b'"title":"\xff\xfe"'),
    "last of two": _raw(b'"title":7'),
    "no symbol": _with(companies=["AA PL"]),
    "symbol and line end": _with(companies=["AAPL\n"]),
    "series in a symbol": _with(companies=["A;topic=Macro"]),
    "too many companies": _with(companies=["A"] * 33),
    "no title": _with(title=""),
    "no id": _with(id=""),
}
# Odd, and yet documents.
ODD: tuple[Callable[[random.Random, dict[str, Any]], bytes], ...] = (
    _raw(b'"unknown":[1,{"a":null}]'),
    _raw(b'"unknown":"' + b"y" * 500_000 + b'"'),
    _with(published_at="0001-01-01T00:00:00+23:59"),
    _with(published_at="9999-12-31T23:59:59-23:59"),
    _with(title="\x00\x1b[31m \u202e \U0001f4a9", story="\n\t\x00"),
    _with(text="\x01" * 20_000, title="é" * 2_000),
    lambda chance, good: b" \n\t" + json.dumps(good, indent=4, ensure_ascii=False).encode() + b"\r\n ",
)


def records(chance: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """Yield "good" or the kind of badness, and a value, mixed."""
    kinds = list(KINDS)
    wanted = ["good"] * GOOD + [kinds[n % len(kinds)] for n in range(BAD)]
    huge = [("huge", _huge(chance, plain(n))) for n in range(40)]
    chance.shuffle(wanted)
    for n, kind in enumerate(wanted):
        if kind == "good":
            make = ODD[n % len(ODD)] if n % 20 == 0 else lambda chance, good: _dumps(good)
            yield kind, make(chance, plain(n))
        else:
            yield kind, KINDS[kind](chance, plain(n))
        if n % 250 == 0 and huge:
            yield huge.pop()


def test_hostile_records(make_system: Callable[..., Any]) -> None:
    system = make_system({"NEWSQUAKE_STREAM__SESSION_TIMEOUT_S": "6"})
    system.start_worker("stream-0")  # alone: without a rebalance nothing comes twice
    producer = KafkaProducer(bootstrap_servers=system.kafka.bootstrap, linger_ms=20, max_request_size=1_000_000)
    chance, sent, begun = random.Random(7), [], datetime.now(UTC)
    for n, (kind, value) in enumerate(records(chance)):
        key = chance.choice(
            [None, b"k", chance.randbytes(30), b"x" * 700_000 if n % 3_000 == 5 and kind != "huge" else b""]
        )
        if value is None:
            key = key or b"k"  # the client sends no record without both
        elif len(value) > 250_000:
            key = None
        sent.append((kind, value, producer.send(system.topics.documents_topic, key=key, value=value, partition=n % 8)))
    producer.flush()
    placed = {(f.get().partition, f.get().offset): (kind, value) for kind, value, f in sent}
    producer.close()
    system.wait(lambda: system.unfinished(len(placed)), 120)

    good = {place for place, (kind, _) in placed.items() if kind == "good"}
    items = [scored.decode(record.value) for record in system.read(system.topics.scored_topic)]
    times = Counter((item.partition, item.offset) for item in items)
    assert times.keys() == good
    assert set(times.values()) == {1}

    dead = [dead_letter.decode(record.value) for record in system.read(system.topics.dead_topic)]
    bad = {place: value for place, (kind, value) in placed.items() if kind != "good"}
    assert len(bad) >= BAD
    times = Counter((letter.partition, letter.offset) for letter in dead)
    assert times.keys() == bad.keys()
    assert set(times.values()) == {1}
    for letter in dead:
        value = bad[letter.partition, letter.offset]
        assert letter.topic == system.topics.documents_topic
        assert letter.reason
        assert letter.timestamp is not None
        assert abs((letter.timestamp - begun).total_seconds()) < 600
        assert letter.value == (value if value is None else value[:65_536])
        assert letter.value_bytes == len(value or b"")

    assert system.windows() == system.fold()
    assert "ended by itself" not in system.console()
