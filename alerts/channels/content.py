"""What a message for people says, whatever the format: clean text in parts, which a format lays out and escapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from alerts.alert import Alert, By, Event, Figures
from alerts.channels.text import clean, safe_url
from alerts.evidence import duration
from alerts.notification import Notification

Mood = Literal["critical", "warning", "resolved", "info"]

SIGNS: dict[Mood, str] = {"critical": "🔴", "warning": "🟠", "resolved": "🟢", "info": "🔵"}
_MAX_ALERTS, _MAX_LINES, _MAX_STORIES = 8, 50, 8
_BAR_CELLS = 16


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One story: its title, who published it when, and where it leads; `url` is empty when that is no web address."""

    title: str
    source: str
    url: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One alert: the sentence of what was seen against what was expected, figures, bars of both, and evidence."""

    name: str
    sentence: str
    facts: tuple[tuple[str, str], ...]
    bars: tuple[str, ...]
    stories: tuple[Link, ...]
    unlisted: int
    url: str


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A message. `lines` are what a digest stands for, `more` is what there was no room for, `actions` are links."""

    title: str
    mood: Mood
    parts: tuple[Part, ...]
    lines: tuple[str, ...] = ()
    more: str = ""
    why: str = ""
    actions: tuple[tuple[str, str], ...] = ()

    def smaller(self) -> Content | None:
        """Return the message with one thing less, what matters least first; None when it cannot do without the rest."""
        most = max(range(len(self.parts)), key=lambda n: len(self.parts[n].stories), default=None)
        if most is not None and (part := self.parts[most]).stories:
            less = msgspec.structs.replace(part, stories=part.stories[:-1], unlisted=part.unlisted + 1)
            return msgspec.structs.replace(self, parts=(*self.parts[:most], less, *self.parts[most + 1 :]))
        if len(self.parts) > 1:
            return msgspec.structs.replace(self, parts=self.parts[:-1], more="There is more than fits here.")
        if self.lines:
            return msgspec.structs.replace(self, lines=self.lines[:-1], more="There is more than fits here.")
        if self.why:
            return msgspec.structs.replace(self, why="")
        if self.actions:
            return msgspec.structs.replace(self, actions=self.actions[:-1])
        if self.parts and len(self.parts[0].sentence) > 100:
            short = msgspec.structs.replace(self.parts[0], sentence=clean(self.parts[0].sentence, 100))
            return msgspec.structs.replace(self, parts=(short,))
        return None


def fitted(content: Content, render: Callable[[Content], bytes], limit: int) -> bytes:
    """Return what `render` makes of the message, with so much left out that it has at most `limit` bytes.

    Raises:
        ValueError: even the least of it is larger; the lengths of `Content` are bounded so that no format meets this.
    """
    left: Content | None = content
    while left is not None:
        body = render(left)
        if len(body) <= limit:
            return body
        left = left.smaller()
    raise ValueError(f"the message is larger than {limit} bytes")


def content_of(told: Notification) -> Content:
    """Return what a notification says to people."""
    shown = told.alerts[:_MAX_ALERTS]
    each = max(1, _MAX_STORIES // max(1, len(shown)))
    desk = safe_url(told.desk_url).rstrip("/")
    left_out = len(told.alerts) - len(shown)
    lines = tuple(
        clean(f"{held.at:%H:%M} UTC {WORDS[held.event]}{_hand(held.by)}: {held.summary}", 200)
        for held in told.held[:_MAX_LINES]
    )
    more = told.more + len(told.held) - len(lines)
    omitted = [f"{left_out} more alerts"] if left_out else []
    omitted += [f"{more} more messages"] if more else []
    return Content(
        title=clean(_title(told), 140),
        mood=_mood(told),
        parts=tuple(_part(alert, each, desk, told.by.get(alert.id), told.event) for alert in shown),
        lines=lines,
        more=f"Not listed: {', '.join(omitted)}." if omitted else "",
        why=clean(told.why, 300),
        actions=_actions(told, desk),
    )


WORDS = {
    "alert.firing": "Firing",
    "alert.escalated": "Escalated",
    "alert.acknowledged": "Acknowledged",
    "alert.resolved": "Resolved",
    "alert.repeated": "Still firing",
    "alert.digest": "Digest",
}
"""What the events are called before people."""
_DONE = {"alert.acknowledged": "Acknowledged", "alert.resolved": "Resolved", "alert.firing": "No longer acknowledged"}
_REOPENED = "Reopened"


def _title(told: Notification) -> str:
    if told.event == "alert.digest":
        return f"{len(told.held) + told.more} messages held back by the limit a minute, as one"
    names = ", ".join(alert.name for alert in told.alerts)
    word = WORDS[told.event]
    if told.event not in ("alert.resolved", "alert.acknowledged") and any(
        a.severity == "critical" for a in told.alerts
    ):
        word = f"{word}, critical"
    if told.event in ("alert.resolved", "alert.acknowledged"):
        word += _hand(told.actor)
    return f"{word}: {f'{len(told.alerts)} alerts, ' if len(told.alerts) > 1 else ''}{names}"


def _hand(actor: str) -> str:
    return f" by {clean(actor, 60)}" if actor else ""


def _mood(told: Notification) -> Mood:
    if all(alert.status == "resolved" for alert in told.alerts):
        return "resolved"
    if told.event == "alert.acknowledged":
        return "info"
    firing = [alert.severity for alert in told.alerts if alert.status == "firing"]
    return "critical" if "critical" in firing else "warning"


def _actions(told: Notification, desk: str) -> tuple[tuple[str, str], ...]:
    if not desk:
        return ()
    if len(told.alerts) != 1:
        return (("Open the desk", f"{desk}/"),)
    page = f"{desk}/alerts/{told.alerts[0].id}"
    if told.alerts[0].status == "resolved":
        return (("Open", page),)
    return (("Open", page), ("Acknowledge or silence", f"{page}#actions"))


def _part(alert: Alert, stories: int, desk: str, by: By | None, event: Event) -> Part:
    shown = alert.stories[:stories]
    name = clean(alert.name, 100) or "(no name)"
    return Part(
        name=name,
        sentence=clean(alert.summary, 600) or name,
        facts=(_done(by, event), *_facts(alert)) if by else _facts(alert),
        bars=bars(alert.peak),
        stories=tuple(
            Link(
                title=clean(story.title, 200) or "(no title)",
                source=clean(f"{story.publisher}, {story.published_at:%d %b %H:%M} UTC", 100),
                url=safe_url(story.url),
            )
            for story in shown
        ),
        unlisted=alert.unlisted + len(alert.stories) - len(shown),
        url=f"{desk}/alerts/{alert.id}" if desk else "",
    )


def _done(by: By, event: Event) -> tuple[str, str]:
    """Return who did what, such as ("Acknowledged", "by ana at 14:03 UTC: calling the bank")."""
    why = f": {by.reason}" if by.reason else ""
    done = _REOPENED if by.did == "reopened" else _DONE[event]
    return done, clean(f"by {clean(by.actor, 60)} at {by.at:%H:%M} UTC{why}", 300)


def _facts(alert: Alert) -> tuple[tuple[str, str], ...]:
    seen = alert.peak
    facts = [
        (
            "Seen" if seen == alert.figures else "Seen at the peak",
            f"{seen.observed} negative of {seen.observed + seen.others} in {duration(seen.window_min)}",
        ),
        ("Expected", f"{seen.expected:.1f} (95 %: {seen.low}-{seen.high})"),
        ("Severity", f"{alert.severity}, strength {seen.strength or seen.z:.1f}"),
        ("Publishers", str(alert.publishers)),
        ("Since", f"{alert.started_at:%d %b %H:%M} UTC"),
    ]
    if alert.resolved_at is not None:
        facts.append(("Until", f"{alert.resolved_at:%d %b %H:%M} UTC"))
    if alert.expected_false_share is not None:
        facts.append(("Expected false", f"{alert.expected_false_share:.0%} of alerts like it"))
    return tuple(facts)


def bars(seen: Figures) -> tuple[str, ...]:
    """Return what was seen and what was expected as two bars of text on one scale, which ends at the larger.

    >>> for line in bars(Figures(window_min=60, observed=14, others=1, copies=0, expected=1.75, low=0, high=4,
    ...                          p_value=2e-9, z=6.1, share=0.2, history=33)):
    ...     print(line)
    seen     ████████████████ 14
    expected ██▒▒▒            1.8, up to 4
    """
    largest = max(seen.observed, seen.high, seen.expected, 1)

    def cells(value: float) -> int:
        return min(_BAR_CELLS, round(_BAR_CELLS * max(0.0, value) / largest))

    expected = "█" * cells(seen.expected)
    band = expected + "▒" * (cells(seen.high) - len(expected))
    return (
        f"seen     {'█' * cells(seen.observed):<{_BAR_CELLS}} {seen.observed}",
        f"expected {band:<{_BAR_CELLS}} {seen.expected:.1f}, up to {seen.high}",
    )
