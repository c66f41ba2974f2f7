"""What closed alerts on companies have told of lately: a theme of the same stories is no news the morning after.

Alerts on topics and on the market are not among them: within their series other things happen too. A closed theme is
remembered by `alerts.episodes`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from alerts.alert import at_end_of
from alerts.episodes import Theme
from alerts.series import company_of

_REMEMBERED_MIN = 1_440  # as long as a theme counts a story


class Told(msgspec.Struct, frozen=True):
    """The companies that an alert was about, and the minute at whose end it closed."""

    companies: frozenset[str]
    minute: int


def told_by(series: Iterable[str], minute: int) -> list[Told]:
    """What an alert on these series has told of when it closes; nothing where no company is among them."""
    companies = frozenset(filter(None, map(company_of, series)))
    return [Told(companies, minute)] if companies else []


def remembered(told: list[Told], minute: int) -> list[Told]:
    """Those whose stories a theme may still count."""
    return [each for each in told if minute - each.minute < _REMEMBERED_MIN]


def is_told(theme: Theme, told: list[Told], minimum_count: int) -> bool:
    """Say whether closed alerts have told of a theme: the stories that came since are too few for one by themselves.

    An alert told of the stories about its companies up to its end.
    """
    fresh = sum(
        not any(
            item.seen_at < at_end_of(each.minute).timestamp() and each.companies & set(item.companies) for each in told
        )
        for item in theme.items
    )
    return fresh < minimum_count
