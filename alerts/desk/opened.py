"""How many alerts are open, for the menu and the page Now."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from alerts.desk.state import Desk
from alerts.series import kind

_MANY = {"company": "companies", "market": "of the market"}


class Opened(NamedTuple):
    """`firing` says that one of them is told: nobody acknowledged or silenced it. `kinds` counts them in words."""

    total: int
    firing: bool
    kinds: str


def opened(desk: Desk) -> Opened:
    """Return how many alerts are not resolved."""
    lives = desk.store.lives()
    counts = Counter(kind(life.series) for life in lives)
    return Opened(
        total=len(lives),
        firing=any(life.state == "firing" and not life.silence for life in lives),
        kinds=", ".join(f"{count} {_named(name, count)}" for name, count in counts.most_common()),
    )


def _named(name: str, count: int) -> str:
    """Return a kind of series in words.

    >>> _named("company", 2), _named("company_topic", 2), _named("theme", 1), _named("market", 1)
    ('companies', 'company topics', 'theme', 'of the market')
    """
    if count > 1 or name == "market":
        return _MANY.get(name, f"{name.replace('_', ' ')}s")
    return name.replace("_", " ")
