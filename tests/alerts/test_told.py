"""The morning after: a theme of what a closed alert on a company has told of is no news; what comes since can be."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from alerts.alert import Alert
from alerts.book import Episode
from alerts.discovery import Discovery
from alerts.emerging import Emerging
from alerts.episodes import Theme
from alerts.judging import Judging, Memory
from alerts.lifecycle import Lifecycle
from alerts.metrics import AlertsMetrics
from alerts.settings import AlertsSettings
from alerts.surge import Detector
from alerts.told import Told
from alerts.windows import WindowItem

Make = Callable[..., WindowItem]
DAY = 1_440
EVENING = 19_358 * DAY + 20 * 60
TITLES = ("Queues at Lumen Harbour", "Regulator examines Lumen Harbour", "No buyer for Lumen Harbour")


@pytest.fixture
def lifecycle() -> Lifecycle:
    """Nothing is open."""
    settings = AlertsSettings()
    return Lifecycle(settings, Detector(settings.surge), Discovery(), AlertsMetrics(CollectorRegistry()))


def _themes(emerging: Emerging, make: Make, stories: list[tuple[int, str, str]]) -> list[Theme]:
    """Sixty days of 70 items an hour, ten of them bad; then the stories (minute, title, who)."""
    found = []
    for hour in range(-60 * 24, 15):
        at = EVENING + hour * 60
        listed = [
            make(n, title=title, publisher=who, companies=("LMN",), seen_at=minute * 60.0)
            for n, (minute, title, who) in enumerate(stories)
            if at - 60 < minute <= at
        ]
        found += emerging.update(at, 60, 10 + len(listed), listed)
    return found


def _evening(*, more: int = 0) -> list[tuple[int, str, str]]:
    """Two stories before the alert closed at EVENING, one the morning after, and `more`."""
    at = (EVENING - 90, EVENING - 60, EVENING + 600)
    stories = [(minute, title, f"Daily {n}") for n, (minute, title) in enumerate(zip(at, TITLES, strict=True))]
    words = ("bonds sink", "staff told to wait", "mayor wants answers")
    return stories + [(EVENING + 660 + n, f"Lumen Harbour: {words[n]}", f"Paper {n}") for n in range(more)]


@pytest.mark.parametrize(
    ("told", "news"),
    [
        ([], True),
        ([Told(frozenset({"LMN"}), EVENING)], False),
        ([Told(frozenset({"LMN"}), EVENING - 80)], False),  # two of three are still too few
        ([Told(frozenset({"LMN"}), EVENING - 120)], True),  # it told of none of the three
        ([Told(frozenset({"XYZ"}), EVENING)], True),
    ],
)
def test_a_theme_is_news_unless_its_stories_were_told(
    lifecycle: Lifecycle, item: Make, told: list[Told], *, news: bool
) -> None:
    lifecycle.told = told
    emerging = Emerging()
    emerging.is_told = lifecycle.is_told
    assert [theme.phrase for theme in _themes(emerging, item, _evening())] == ["Lumen Harbour"] * news


def test_enough_new_stories_are_news(lifecycle: Lifecycle, item: Make) -> None:
    lifecycle.told = [Told(frozenset({"LMN"}), EVENING)]
    emerging = Emerging()
    emerging.is_told = lifecycle.is_told
    (theme,) = _themes(emerging, item, _evening(more=3))
    assert theme.observed == 5  # two old ones, three new


def test_alerts_that_close_are_remembered_for_a_day(lifecycle: Lifecycle, alert: Alert) -> None:
    detector = lifecycle._detector
    for n, (series, companies) in enumerate([("company=LMN", [{"LMN"}]), ("topic=Liquidity", [])]):
        minute = EVENING + 2 * n * DAY
        lifecycle.told = []
        if n:
            detector.skip_to(minute - 1)
        detector.update(minute, {(series, minute, "negative"): 1})
        detector.watch(series)
        judged = detector.judge(series)
        assert judged is not None
        calm = msgspec.structs.replace(judged, state="normal", recent_z=0.0, z=0.0)
        other = msgspec.structs.replace(alert, series=series)
        lifecycle.episodes = [Episode(alert=other, minute=minute - 60, excess={series: 5.0}, calm=10_000)]
        (change,) = lifecycle.step(minute, [calm], lambda _: [])
        assert change.event == "alert.resolved"
        assert [set(each.companies) for each in lifecycle.told] == companies
        lifecycle.step(minute + DAY - 1, [], lambda _: [])
        assert len(lifecycle.told) == len(companies)
        lifecycle.step(minute + DAY, [], lambda _: [])
        assert lifecycle.told == []


def test_an_alert_goes_on_while_a_long_window_of_what_it_holds_shows_a_surge(
    lifecycle: Lifecycle, alert: Alert
) -> None:
    minute = EVENING
    lifecycle._detector.update(minute, {("company=LMN", minute, "negative"): 1})
    for series in ("company=LMN", "market"):
        lifecycle._detector.watch(series)
    about, whole = (lifecycle._detector.judge(series) for series in ("company=LMN", "market"))
    assert about is not None
    assert whole is not None
    calm = msgspec.structs.replace(about, state="firing", z=0.0, recent_z=0.0, recent_strength=0.0)
    other = msgspec.structs.replace(alert, series="company=LMN")
    excess = {"company=LMN": 5.0, "market": 5.0}
    for strength, ends in ((3.87, False), (3.6, True)):
        surging = msgspec.structs.replace(whole, state="firing", z=3.3, recent_z=3.3, recent_strength=strength)
        lifecycle.episodes = [Episode(alert=other, minute=minute - 60, excess=excess, calm=10_000)]
        changes = lifecycle.step(minute, [calm, surging], lambda _: [])
        assert [change.event for change in changes] == ["alert.resolved"] * ends


def test_a_restart_forgets_nothing_of_it() -> None:
    told = [Told(frozenset({"LMN"}), EVENING)]
    judging, again = (Judging(AlertsSettings(), Mock(), AlertsMetrics(CollectorRegistry()), None) for _ in range(2))
    judging.lifecycle.told = told
    again.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(judging.memory()), type=Memory))
    assert again.lifecycle.told == told
