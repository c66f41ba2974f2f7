"""Templates and what they may call."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from alerts.desk import charts
from alerts.desk.marking import marked
from alerts.evidence import duration
from alerts.series import label


@cache
def environment() -> Environment:
    """Return the templates; every text in them is escaped."""
    env = Environment(
        loader=PackageLoader("alerts.desk"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    env.globals.update(spark=charts.spark, meter=charts.meter, marked=marked, label=label, assets=_assets())
    env.filters.update(
        when=when,
        exact=exact,
        ago=ago,
        stamp=stamp,
        number=number,
        reasons=reasons,
        web=web,
        moment=moment,
        query=urlencode,
        duration=duration,
    )
    for name in env.list_templates():  # now, and not while the first visitor waits
        env.get_template(name)
    return env


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:  # before the year 1, or after 9999: nobody's, but it must not take the page
        return at.replace(tzinfo=UTC)


def when(at: datetime) -> str:
    """Return a time as pages show it.

    >>> when(datetime(2026, 3, 9, 18, 4, tzinfo=UTC))
    '9 Mar 2026, 18:04 UTC'
    """
    at = _in_utc(at)
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def exact(at: datetime) -> str:
    """Return a time to the second.

    >>> exact(datetime(2026, 3, 9, 18, 4, 5, tzinfo=UTC))
    '9 Mar 2026, 18:04:05 UTC'
    """
    at = _in_utc(at)
    return f"{at.day} {at:%b %Y, %H:%M:%S} UTC"


def reasons(why: Sequence[str]) -> str:
    """Return what speaks for (+) and against (−) an alert as words to follow how likely it is.

    >>> reasons(["+ topic Liquidity", "− kind theme", "+ age"]), reasons([])
    (', for its topic Liquidity and age, against its kind theme', ', nothing speaks for or against it')
    """
    parts = {sign: " and ".join(each[2:] for each in why if each[0] == sign) for sign in ("+", "−")}
    said = [f", {word} its {parts[sign]}" for sign, word in (("+", "for"), ("−", "against")) if parts[sign]]
    return "".join(said) or ", nothing speaks for or against it"


def moment(at_s: float) -> datetime:
    """Return Unix seconds as a time."""
    return datetime.fromtimestamp(at_s, UTC)


def clock(at: datetime) -> str:
    """Return the time of day.

    >>> clock(datetime(2026, 3, 9, 18, 4, 5, tzinfo=UTC))
    '18:04:05'
    """
    return f"{_in_utc(at):%H:%M:%S}"


_SHOWN = {"when": when, "exact": exact, "clock": clock}


def stamp(at: datetime, shows: Literal["when", "exact", "clock"] = "when", *, dim: bool = False) -> Markup:
    """Return a time in UTC, marked for the page's script, which shows it in the reader's zone.

    >>> stamp(datetime(2026, 3, 9, 18, 4, tzinfo=UTC))
    Markup('<time datetime="2026-03-09T18:04:00+00:00" data-shows="when">9 Mar 2026, 18:04 UTC</time>')
    """
    plain = Markup('<time datetime="{}" data-shows="{}">{}</time>')
    markup = Markup('<time class="dim" datetime="{}" data-shows="{}">{}</time>') if dim else plain
    return markup.format(at.isoformat(), shows, _SHOWN[shows](at))


def ago(at: datetime, now: datetime) -> str:
    """Return how long ago it was, in one unit.

    >>> ago(datetime(2026, 3, 9, 18, 4, tzinfo=UTC), datetime(2026, 3, 9, 20, 0, tzinfo=UTC))
    '1 h 56 min ago'
    """
    past = max(now - at, timedelta())
    minutes = int(past.total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    if minutes < 2_880:
        hours, rest = divmod(minutes, 60)
        return f"{hours} h {rest} min ago" if rest else f"{hours} h ago"
    return f"{minutes // 1_440} days ago"


def number(value: float, digits: int = 1) -> str:
    """Return a number with the digits that it can carry.

    >>> number(0.04), number(3.14159), number(1234.5)
    ('<0.1', '3.1', '1,234')
    """
    if 0 < value < 0.1:
        return "<0.1"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}f}"


def web(url: str) -> str:
    """Return a link that a browser may follow, empty when it is no http or https.

    >>> web("https://example.org/a"), web("javascript:alert(1)")
    ('https://example.org/a', '')
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in ("http", "https") and parts.netloc else ""


def _assets() -> Mapping[str, Any]:
    """Return the addresses of the static files, which change with what is in them."""
    folder = files("alerts.desk").joinpath("static")
    names = ("desk.css", "times.js", "desk.js", "keys.js", "icon.svg")
    return {n: f"/static/{n}?v={hashlib.sha256(folder.joinpath(n).read_bytes()).hexdigest()[:12]}" for n in names}
