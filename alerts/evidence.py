"""Evidence: which stories stand behind a surge, by how many publishers, and the sentence an analyst reads first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from alerts.alert import Figures, Story
from alerts.episodes import Theme
from alerts.judgement import Judgement
from alerts.series import label, series_of
from alerts.settings import WindowsSettings
from alerts.windows import WindowItem, event_minute

if TYPE_CHECKING:
    from alerts.now import Row


def items_of(judgement: Judgement, listed: Iterable[WindowItem], settings: WindowsSettings) -> list[WindowItem]:
    """Return the listed negative items of the judgement's series and window, each story once."""
    first = judgement.minute - judgement.window_min + 1
    found: dict[str, WindowItem] = {}
    for item in listed:
        if judgement.series in series_of(item.topic, item.companies):
            minute = event_minute(item.published_at, item.seen_at, settings)
            if first <= minute <= judgement.minute:
                found.setdefault(item.story, item)
    return list(found.values())


def publishers(items: Iterable[WindowItem]) -> int:
    """Return how many publishers stand behind the items; case and outer blanks do not make two of one."""
    return len({_publisher(item) for item in items})


def published_by(items: Iterable[WindowItem], least: int) -> bool:
    """Say whether at least so many `publishers` stand behind the items, of which it takes no more than tell."""
    found = set[str]()
    for item in items:
        found.add(_publisher(item))
        if len(found) >= least:
            return True
    return False


def _publisher(item: WindowItem) -> str:
    return item.publisher.strip().casefold()


def stories(items: Iterable[WindowItem], most: int) -> tuple[Story, ...]:
    """Return up to `most` stories: the most negative of each publisher, then the next of each."""
    rank: dict[str, int] = {}
    ranked: list[tuple[int, float, WindowItem]] = []
    for item in sorted(items, key=lambda item: (-item.negative, item.id)):
        publisher = _publisher(item)
        rank[publisher] = rank.get(publisher, 0) + 1
        ranked.append((rank[publisher], -item.negative, item))
    ranked.sort(key=lambda entry: (entry[0], entry[1], entry[2].id))
    return tuple(
        Story(
            title=item.title,
            publisher=item.publisher,
            source=item.source,
            url=item.url,
            published_at=datetime.fromtimestamp(int(min(item.published_at, item.seen_at)), UTC),
            topic=item.topic,
            companies=item.companies,
            negative=round(item.negative, 4),
        )
        for _, _, item in ranked[:most]
    )


def figures(judgement: Judgement) -> Figures:
    """Return the judgement's numbers, rounded to what they can carry."""
    return Figures(
        window_min=judgement.window_min,
        observed=judgement.observed,
        others=judgement.others,
        copies=judgement.copies,
        expected=round(judgement.expected, 2),
        low=judgement.low,
        high=judgement.high,
        p_value=float(f"{judgement.p_value:.2g}"),
        z=round(judgement.z, 2),
        share=round(judgement.share, 4),
        history=round(judgement.history, 1),
        strength=round(max(judgement.strength, 0.0), 2),  # -inf where no window may be looked at
        added_up=judgement.added_up,
    )


def mostly_about(items: Sequence[WindowItem]) -> str:
    """Return the company that more than half of the items are about, empty when there is none."""
    counts = Counter(company for item in items for company in dict.fromkeys(item.companies))
    company, count = max(counts.items(), key=lambda entry: (entry[1], entry[0]), default=("", 0))
    return company if count > len(items) / 2 else ""


def summary(series: str, seen: Figures, publishers: int, about: str = "", unlisted: int = 0) -> str:
    """Return the sentence that says what happened; `about` is the company that most of the items are about.

    `unlisted` items found the lists of evidence full, so that their publishers are not known.

    >>> seen = Figures(window_min=60, observed=14, others=1, copies=3, expected=1.2, low=0, high=4, p_value=2e-9,
    ...     z=6.1, share=0.21, history=33)
    >>> summary("company=SIVB", seen, 6)
    'SIVB: 14 negative of 15 items in 60 min; 1.2 expected (95 % 0-4), p = 2e-09; 6 publishers; 3 reprints not counted'
    >>> summary("market", seen, 6, "SIVB").partition(";")[0]
    'The market (mostly SIVB): 14 negative of 15 items in 60 min'
    >>> summary("company=SIVB", seen, 1, unlisted=12).split("; ")[2]
    '1 publisher of the 2 items listed (12 are not: too many at once)'
    >>> from msgspec.structs import replace
    >>> summary("company=SIVB", replace(seen, added_up=True, copies=0), 6).rpartition("; ")[2]
    'no window shows it by itself, it added up over many'
    """
    mostly = f" (mostly {about})" if about and f"company={about}" not in series.split(";") else ""
    text = (
        f"{against(label(series) + mostly, seen)}, p = {seen.p_value:.1g}; "
        f"{publishers} publisher{'s' if publishers != 1 else ''}"
    )
    if unlisted:
        listed = seen.observed - unlisted
        text += f" of the {listed} item{'s' if listed != 1 else ''} listed ({unlisted} are not: too many at once)"
    if seen.added_up:
        text += "; no window shows it by itself, it added up over many"
    return f"{text}; {seen.copies} reprint{'s' if seen.copies != 1 else ''} not counted" if seen.copies else text


def against(name: str, seen: Figures | Row) -> str:
    """Return what was seen against what was expected, as the sentence about an alert begins.

    >>> seen = Figures(window_min=60, observed=14, others=1, copies=3, expected=1.2, low=0, high=4, p_value=2e-9,
    ...     z=6.1, share=0.21, history=33)
    >>> against("the market", seen)
    'The market: 14 negative of 15 items in 60 min; 1.2 expected (95 % 0-4)'
    """
    return (
        f"{name[0].upper()}{name[1:]}: {seen.observed} negative of {seen.observed + seen.others} items in "
        f"{duration(seen.window_min)}; {seen.expected:.1f} expected (95 % {seen.low}-{seen.high})"
    )


def summary_resolved(series: str, peak: Figures, minutes: int) -> str:
    """Return the sentence that says that it is over.

    >>> peak = Figures(window_min=60, observed=14, others=1, copies=3, expected=1.2, low=0, high=4, p_value=2e-9,
    ...     z=6.1, share=0.21, history=33)
    >>> summary_resolved("company=SIVB", peak, 95)
    'SIVB: back to normal after 1 h 35 min; at its peak 14 negative of 15 items in 60 min, 1.2 expected'
    """
    name = label(series)
    return (
        f"{name[0].upper()}{name[1:]}: back to normal after {duration(minutes)}; at its peak {peak.observed} negative "
        f"of {peak.observed + peak.others} items in {duration(peak.window_min)}, {peak.expected:.1f} expected"
    )


def theme_figures(theme: Theme) -> Figures:
    """Return a theme's numbers as an alert shows them: how many other items have its words is not known (0)."""
    return Figures(
        window_min=theme.window_min,
        observed=theme.observed,
        others=0,
        copies=theme.copies,
        expected=round(theme.expected, 3),
        low=theme.low,
        high=theme.high,
        p_value=float(f"{theme.p_value:.2g}"),
        z=round(theme.z, 2),
        share=float(f"{theme.share:.2g}"),
        history=round(theme.history, 1),
        strength=round(theme.z, 2),
    )


def theme_summary(name: str, seen: Figures, publishers: int) -> str:
    """Return the sentence that says which theme emerged.

    >>> seen = Figures(window_min=1440, observed=4, others=0, copies=2, expected=0.012, low=0, high=0, p_value=3e-8,
    ...     z=4.9, share=5e-5, history=0)
    >>> theme_summary("Vela", seen, 3)
    'Vela: 4 negative stories in 24 h; 0.012 expected (none before), p = 3e-08; 3 publishers; 2 reprints not counted'
    """
    before = f"about {seen.history:.0f} in the 60 days before" if seen.history >= 0.5 else "none before"
    text = (
        f"{name}: {seen.observed} negative stories in {duration(seen.window_min)}; {seen.expected:.2g} expected "
        f"({before}), p = {seen.p_value:.1g}; {publishers} publisher{'s' if publishers != 1 else ''}"
    )
    return f"{text}; {seen.copies} reprint{'s' if seen.copies != 1 else ''} not counted" if seen.copies else text


def theme_summary_resolved(name: str, peak: Figures, minutes: int) -> str:
    """Return the sentence that says that a theme has gone quiet.

    >>> peak = Figures(window_min=1440, observed=4, others=0, copies=2, expected=0.012, low=0, high=0, p_value=3e-8,
    ...     z=4.9, share=5e-5, history=0)
    >>> theme_summary_resolved("Silvergate", peak, 1_500)
    'Silvergate: quiet again after 25 h; at its peak 4 negative stories in 24 h, 0.012 expected'
    """
    return (
        f"{name}: quiet again after {duration(minutes)}; at its peak {peak.observed} negative stories in "
        f"{duration(peak.window_min)}, {peak.expected:.2g} expected"
    )


def shared(inner: Sequence[WindowItem], outer: Sequence[WindowItem]) -> int:
    """Return how many stories two lists of evidence have in common."""
    return len({item.story for item in inner} & {item.story for item in outer})


def duration(minutes: int) -> str:
    """Return minutes as people say them.

    >>> duration(30), duration(120), duration(158)
    ('30 min', '2 h', '2 h 38 min')
    """
    if minutes <= 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"
