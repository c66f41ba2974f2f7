"""Names of series: which running counts an item belongs to, and which series contains which.

`market` contains all; `topic=T` and `company=C` are its parts; `company=C;topic=T` is part of both. `theme=PHRASE` is
what stories share that no list foresaw; it is counted by `alerts.emerging`, not in the windows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

MARKET = "market"
THEME = "theme"
MOST_COMPANIES = 3
"""Companies of an item, at most, that it counts for. One that names more is a list (movers, watch lists, posts that tag
what is popular: Cresci et al., Cashtag piggybacking, ACM TWEB 2019), which says little of each."""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f;=]")


class SeriesError(ValueError):
    """A topic or company cannot be part of a series' name."""


def _part(kind: str, value: str) -> str:
    if not value or len(value) > 128 or _UNSAFE.search(value):
        raise SeriesError(
            f"{kind} {value[:128]!r} cannot name a series: 1-128 characters, no control characters, ';', '='"
        )
    return f"{kind}={value}"


@lru_cache(maxsize=65_536)
def _of_company(company: str, topic: str) -> tuple[str, str]:
    name = _part("company", company)
    return name, f"{name};{_part('topic', topic)}"


@lru_cache(maxsize=1_024)
def _of_topic(topic: str) -> str:
    return _part("topic", topic)


def series_of(topic: str, companies: Iterable[str]) -> list[str]:
    """Return the series that an item of `topic` about `companies` counts in, each once.

    >>> series_of("Earnings", ["AAPL"])
    ['market', 'topic=Earnings', 'company=AAPL', 'company=AAPL;topic=Earnings']
    >>> series_of("Earnings", ["AAPL", "MSFT", "F", "GM"])
    ['market', 'topic=Earnings']

    Raises:
        SeriesError: a name holds what would make the series ambiguous.
    """
    names = [MARKET, _of_topic(topic)]
    named = dict.fromkeys(companies)
    if len(named) <= MOST_COMPANIES:
        for company in named:
            names += _of_company(company, topic)
    return names


def theme_series(phrase: str) -> str:
    """Return the name of a theme's series.

    >>> theme_series("Silicon Valley Bank")
    'theme=Silicon Valley Bank'

    Raises:
        SeriesError: the phrase cannot be part of a name.
    """
    return _part(THEME, phrase)


def check(series: str) -> None:
    """Do nothing when `series` is the name of one.

    >>> check("company=AAPL;topic=Earnings")
    >>> check("firm=AAPL")
    Traceback (most recent call last):
    alerts.series.SeriesError: 'firm=AAPL' is no series: market, topic=T, company=C, company=C;topic=T or theme=PHRASE

    Raises:
        SeriesError: it is not.
    """
    shape = "market, topic=T, company=C, company=C;topic=T or theme=PHRASE"
    if kind(series) not in ("market", "topic", "company", "company_topic", THEME) or (
        series != MARKET and "" in (part.partition("=")[2] for part in series.split(";"))
    ):
        raise SeriesError(f"{series[:128]!r} is no series: {shape}")


@lru_cache(maxsize=65_536)
def parent(series: str) -> str | None:
    """Return the series whose odds stand in while `series` has little history of its own.

    >>> parent("company=AAPL;topic=Earnings"), parent("company=AAPL"), parent("market")
    ('company=AAPL', 'market', None)
    """
    if series == MARKET:
        return None
    company, found, _ = series.partition(";")
    return company if found else MARKET


def overlaps(outer: str, inner: str) -> bool:
    """Say whether `outer` is the broader of two series that share items.

    It is when it contains all of `inner`; a topic and a company share what the company has of that topic.

    >>> overlaps("topic=Earnings", "company=AAPL;topic=Earnings"), overlaps("market", "topic=Earnings")
    (True, True)
    >>> overlaps("topic=Earnings", "company=AAPL"), overlaps("company=AAPL", "topic=Earnings")
    (True, False)
    """
    if outer == inner:
        return False
    contained = outer == MARKET or outer in inner.split(";")
    return contained or (kind(outer), kind(inner)) == ("topic", "company")


@lru_cache(maxsize=65_536)
def containers(series: str) -> tuple[str, ...]:
    """Return the series that contain `series` directly, the narrowest way up.

    >>> containers("company=AAPL;topic=Earnings"), containers("topic=Earnings"), containers("market")
    (('company=AAPL', 'topic=Earnings'), ('market',), ())
    """
    if series == MARKET or kind(series) == THEME:
        return ()
    parts = tuple(series.split(";"))
    return parts if len(parts) > 1 else (MARKET,)


def common(outer: str, inner: str) -> str | None:
    """Return the series of the items that are in both, of two that `overlaps` names broader and narrower.

    >>> common("topic=Earnings", "company=AAPL"), common("market", "company=AAPL")
    ('company=AAPL;topic=Earnings', 'company=AAPL')
    >>> common("company=AAPL", "topic=Earnings") is None
    True
    """
    if not overlaps(outer, inner):
        return None
    return f"{inner};{outer}" if (kind(outer), kind(inner)) == ("topic", "company") else inner


def company_of(series: str) -> str:
    """Return the company that a series is about, empty when it is about none.

    >>> company_of("company=AAPL;topic=Earnings"), company_of("topic=Earnings")
    ('AAPL', '')
    """
    name, _, value = series.partition(";")[0].partition("=")
    return value if name == "company" else ""


def label(series: str) -> str:
    """Return the name as an analyst reads it.

    >>> label("company=AAPL;topic=Earnings"), label("topic=Earnings"), label("market")
    ('AAPL · Earnings', 'Earnings', 'the market')
    """
    if series == MARKET:
        return "the market"
    return " · ".join(part.partition("=")[2] for part in series.split(";"))


def kind(series: str) -> str:
    """Return the kind of series, one of five, for labels of metrics.

    >>> kind("market"), kind("company=AAPL;topic=Earnings")
    ('market', 'company_topic')
    """
    return "_".join(part.partition("=")[0] for part in series.split(";"))
