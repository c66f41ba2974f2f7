"""`Alert`: what analysts and their systems get, as JSON."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Literal

import msgspec

from alerts.records import UNREADABLE, Moment

SCHEMA_VERSION = 2
MAX_BODY_BYTES = 19_000
"""Standard Webhooks asks for bodies below 20 kB."""
MAX_ALSO, MAX_CHILDREN = 20, 10

Event = Literal[
    "alert.firing", "alert.escalated", "alert.acknowledged", "alert.resolved", "alert.repeated", "alert.digest"
]
"""What receivers are told of."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen against what was expected, in one window. `p_value` is for this window and minute alone.

    `others` are items that are not negative, `copies` reprints that count in neither; `low` and `high` hold the
    middle 95 % of what was expected; `share` is the usual share of negatives, `history` the (decayed) number of the
    series' own items behind it. `strength` is what the threshold is compared with: z, of a long window somewhat more,
    or what has `added_up` over many windows when none of them is past the threshold by itself (0 in alerts of versions
    that did not tell it). Of a theme, which is counted among negative items only, `others` is 0 and `share` is that of
    its negatives in all of the market.
    """

    window_min: int
    observed: int
    others: int
    copies: int
    expected: float
    low: int
    high: int
    p_value: float
    z: float
    share: float
    history: float
    strength: float = 0.0
    added_up: bool = False


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """One negative item. All fields are text as it came: escape it where it is shown.

    `words` are those of the title that weighed most for negative, the heaviest first, each with its weight in bits of
    log odds (1 doubles the odds); empty when nobody could say in time.
    """

    title: str
    publisher: str
    source: str
    url: str
    published_at: datetime
    topic: str
    companies: tuple[str, ...]
    negative: float
    words: tuple[tuple[str, float], ...] = ()


class Also(msgspec.Struct, frozen=True, kw_only=True):
    """A related series that surged for the same items."""

    series: str
    name: str
    figures: Figures


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the alert's series, in the same window. `contribution` is its share of what is above the expectation.

    Parts overlap (topics and companies), so that contributions need not add up to 1. `surged` says that it surged
    too, no more than the alert's series explains: it raised no alert of its own.
    """

    series: str
    name: str
    contribution: float
    observed: int
    expected: float
    surged: bool = False


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One episode of one series, from firing to resolved. Each change makes a new `revision`.

    `figures`, `publishers` and `stories` are those of the minute it fired, `peak` those of the largest z since;
    `summary` is of the minute it fired, grew critical or was resolved. Times are event times. `publishers` and
    `stories` are those of the listed items; `unlisted` negative items found the lists full, so that there may be more.

    `also` are series that surge because of this one's items. `children` are the parts with most of it, the largest
    first; `explains` of its parts surged with it. Alerts that have to do with each other share a `group`, the id of
    the first; `parent` is then the series of an open alert that contains this one, which goes beyond it. `moved_at` is
    when the alert, which had begun on a broader series or a theme (`began_on`), was found to be about `series`:
    `figures` are of that minute then. Of alerts as surprising as this one, or more so, `expected_false_share` are
    expected to be false (None for themes, whose threshold is their own). `rule` is the name of the rule of the file of
    rules that held first when it fired, empty when none did.
    """

    id: str
    revision: int
    status: Literal["firing", "resolved"]
    severity: Literal["warning", "critical"]
    series: str
    name: str
    started_at: Moment
    updated_at: Moment
    resolved_at: Moment | None = None
    summary: str
    figures: Figures
    peak: Figures
    publishers: int
    unlisted: int = 0
    stories: tuple[Story, ...]
    also: tuple[Also, ...] = ()
    group: str = ""
    parent: str = ""
    children: tuple[Child, ...] = ()
    explains: int = 0
    moved_at: Moment | None = None
    began_on: str = ""
    expected_false_share: float | None = None
    rule: str = ""
    schema: int = SCHEMA_VERSION


class By(msgspec.Struct, frozen=True, kw_only=True):
    """Who did by hand what is told, when and why. Both texts are as they came.

    `did` is acknowledged, unacknowledged, resolved or reopened; messages of versions before have it empty.
    """

    actor: str
    at: datetime
    reason: str = ""
    did: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a webhook. `by` is who acknowledged, resolved or reopened the alert by hand, if anybody."""

    type: Event
    timestamp: datetime
    data: Alert
    by: By | None = None


class AlertError(ValueError):
    """Bytes are not an alert or message; the message says what is wrong."""


_encoder = msgspec.json.Encoder()
_alert = msgspec.json.Decoder(Alert)


def encode(alert: Alert) -> bytes:
    """Return the alert as JSON."""
    return _encoder.encode(alert)


def decode(raw: bytes) -> Alert:
    """Return the alert in JSON bytes.

    Raises:
        AlertError: it is none.
    """
    try:
        return _alert.decode(raw)
    except UNREADABLE as exc:
        raise AlertError(f"not an alert: {exc}") from exc


def message_body(event: Event, alert: Alert, by: By | None = None) -> bytes:
    """Return the webhook's body, below `MAX_BODY_BYTES`: the weakest stories, children, then `also` make room."""
    while True:
        body = _encoder.encode(Message(type=event, timestamp=alert.updated_at, data=alert, by=by))
        if len(body) <= MAX_BODY_BYTES or not (alert.stories or alert.also or alert.children):
            return body
        if len(alert.stories) > 1 or not (alert.also or alert.children):
            alert = msgspec.structs.replace(alert, stories=alert.stories[:-1])
        elif alert.children:
            alert = msgspec.structs.replace(alert, children=alert.children[:-1])
        else:
            alert = msgspec.structs.replace(alert, also=alert.also[:-1])


def alert_id(series: str, minute: int) -> str:
    """Return the id of the alert that `series` opens at `minute`: the same after a restart and in a replay."""
    return hashlib.blake2b(f"{series}\n{minute}".encode(), digest_size=16).hexdigest()


def at_end_of(minute: int) -> datetime:
    """Return the time at which a minute (Unix time // 60) ends."""
    return datetime.fromtimestamp((minute + 1) * 60, UTC)
