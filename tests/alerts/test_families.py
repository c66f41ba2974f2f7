"""Parents explain children: one alert for what is one surge, each its own for what is not."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from alerts.alert import Alert
from alerts.book import Episode
from alerts.discovery import Discovery
from alerts.episodes import Theme
from alerts.evidence import items_of
from alerts.families import Families
from alerts.judgement import CALM_Z, Judgement
from alerts.lifecycle import Change, Lifecycle
from alerts.metrics import AlertsMetrics
from alerts.series import MARKET, company_of, containers, overlaps, series_of
from alerts.settings import AlertsSettings, DiscoverySettings, SurgeSettings
from alerts.surge import Detector
from alerts.windows import WindowItem

START_MIN = 27_967_680  # 2023-03-06 00:00 UTC
TOPICS = ("Earnings", "Liquidity", "Legal")
Make = Callable[..., WindowItem]


class Newsroom:
    """Detector, discovery and lifecycle, a minute a call, without servers."""

    def __init__(self, item: Make, seed: int = 1) -> None:
        # Chance surges of the other series are not what these tests are about: none is tolerated.
        self.settings = AlertsSettings(surge=SurgeSettings(warm_up_h=3), discovery=DiscoverySettings(tolerated_a_day=0))
        self.item, self.rng = item, random.Random(seed)
        self.minute, self.number = START_MIN, 0
        self.listed: deque[tuple[int, list[WindowItem]]] = deque(maxlen=1_440)
        self.alerts: dict[str, Alert] = {}
        self.told: list[Change] = []
        self.restart(None)

    def restart(self, state: tuple[bytes, bytes, bytes] | None) -> None:
        """A new process, with what `state` kept."""
        self.detector = Detector(self.settings.surge)
        self.discovery = Discovery(self.settings.discovery, self.settings.surge.threshold_z)
        self.lifecycle = Lifecycle(self.settings, self.detector, self.discovery, AlertsMetrics(CollectorRegistry()))
        if state:
            self.detector.restore(state[0])
            self.discovery.restore(state[1])
            self.lifecycle.episodes = msgspec.msgpack.decode(state[2], type=list[Episode])

    def state(self) -> tuple[bytes, bytes, bytes]:
        """What a process keeps."""
        return self.detector.snapshot(), self.discovery.snapshot(), msgspec.msgpack.encode(self.lifecycle.episodes)

    def news(self, company: str, *, negative: bool = True, topic: str = "", title: str = "") -> WindowItem:
        """An item of now."""
        self.number += 1
        return self.item(
            self.number,
            companies=(company,),
            topic=topic or self.rng.choice(TOPICS),
            sentiment="negative" if negative else "neutral",
            publisher=f"Daily {self.rng.randrange(5)}",
            seen_at=self.minute * 60.0 + 30,
            title=title or f"Title {self.number}",
        )

    def usual(self, companies: int, items: int, share: float = 0.15) -> list[WindowItem]:
        """A minute's items of a market with so many companies."""
        return [
            self.news(f"C{self.rng.randrange(companies)}", negative=self.rng.random() < share) for _ in range(items)
        ]

    def pass_minute(self, items: Sequence[WindowItem]) -> list[Change]:
        """Judge the minute with these items."""
        counts = Counter(
            (series, self.minute, item.sentiment) for item in items for series in series_of(item.topic, item.companies)
        )
        self.listed.append((self.minute, [item for item in items if item.sentiment == "negative"]))
        judgements = self.detector.update(self.minute, counts)
        tested = self.detector.tested
        self.discovery.observe(
            self.minute, tested.columns, tested.strengths, tested.negatives, self.detector.in_episode(),
            learn=not self.detector.warming_up(),
        )  # fmt: skip
        changes = self.lifecycle.step(self.minute, judgements, self.evidence)
        self.note(changes)
        self.minute += 1
        return changes

    def note(self, changes: Sequence[Change]) -> None:
        """Keep what changed."""
        self.alerts |= {change.alert.id: change.alert for change in changes}
        self.told += [change for change in changes if change.event is not None]

    def evidence(self, judgement: Judgement) -> list[WindowItem]:
        """All negative items of its window."""
        listed = [item for _, items in self.listed for item in items]
        return items_of(judgement, listed, self.settings.windows)

    def fired(self) -> list[Alert]:
        """Return the alerts that somebody was told of, as they are now."""
        return [self.alerts[change.alert.id] for change in self.told if change.event == "alert.firing"]

    def events(self, company: str) -> list[str]:
        """Return what was told of it, or of no company, in order; another company may surge by chance."""
        return [change.event for change in self.told if company_of(change.alert.series) in ("", company)]


@pytest.fixture
def newsroom(item: Make) -> Newsroom:
    """Five quiet hours of 40 companies, six items a minute."""
    room = Newsroom(item)
    for _ in range(300):
        room.pass_minute(room.usual(40, 6))
    assert room.told == []
    return room


def test_a_move_of_the_whole_market_is_one_alert_with_its_parts(item: Make) -> None:
    room = Newsroom(item)
    for _ in range(300):
        room.pass_minute(room.usual(120, 30))
    surged = set()
    for _ in range(60):
        room.pass_minute(room.usual(120, 30, share=0.75))
        surged |= {f"C{n}" for n in range(120) if (j := room.detector.judge(f"company=C{n}")) and j.strength > 3.7}
    assert len(surged) > 15  # each would have been an alert
    (alert,) = room.fired()
    assert alert.series == "market"
    assert alert.explains > 15
    contributions = [child.contribution for child in alert.children]
    assert contributions == sorted(contributions, reverse=True)
    assert 3 <= len(contributions) <= 10
    assert {f"topic={topic}" for topic in TOPICS} <= {child.series for child in alert.children}
    for _ in range(150):
        room.pass_minute(room.usual(120, 30))
    assert [change.event for change in room.told] == ["alert.firing", "alert.resolved"]


def test_one_companys_crash_is_one_alert_on_the_company(newsroom: Newsroom) -> None:
    for _ in range(40):
        newsroom.pass_minute([*newsroom.usual(40, 6), *(newsroom.news("C3") for _ in range(4))])
    (alert,) = newsroom.fired()
    assert alert.series == "company=C3"
    assert "market" in {also.series for also in alert.also}
    for _ in range(150):
        newsroom.pass_minute(newsroom.usual(40, 6))
    assert newsroom.events("C3") == ["alert.firing", "alert.resolved"]


def test_two_companies_in_trouble_are_two_alerts(newsroom: Newsroom) -> None:
    for _ in range(40):
        newsroom.pass_minute([*newsroom.usual(40, 6), newsroom.news("C3"), newsroom.news("C5")])
    about = [alert.series.partition(";")[0] for alert in newsroom.fired()]
    assert sorted(about) == ["company=C3", "company=C5"]


def test_a_company_that_goes_on_alone_leaves_the_alert_that_it_had_joined(newsroom: Newsroom) -> None:
    for _ in range(20):
        both = (msgspec.structs.replace(newsroom.news("C3"), companies=("C3", "C5")) for _ in range(2))
        newsroom.pass_minute([*newsroom.usual(40, 6), *both])
    (alert,) = newsroom.fired()
    about = company_of(alert.series)
    other = {"C3": "C5", "C5": "C3"}[about]
    for _ in range(180):
        newsroom.pass_minute([*newsroom.usual(40, 6), *(newsroom.news(other) for _ in range(2))])
    assert [(company_of(alert.series), alert.status) for alert in newsroom.fired()] == [
        (about, "resolved"),
        (other, "firing"),
    ]


def test_a_part_that_goes_beyond_the_whole_fires_of_itself_in_its_group(newsroom: Newsroom) -> None:
    for _ in range(20):
        newsroom.pass_minute(newsroom.usual(40, 20, share=0.6))
    assert [alert.series for alert in newsroom.fired()] == ["market"]
    for _ in range(20):
        newsroom.pass_minute([*newsroom.usual(40, 20, share=0.6), *(newsroom.news("C3") for _ in range(4))])
    market, company = newsroom.fired()
    assert company.series.startswith("company=C3")
    assert (company.parent, company.group) == ("market", market.id)


def test_a_restart_in_the_middle_of_a_move_repeats_nothing(item: Make) -> None:
    outcomes = []
    for restarts in (False, True):
        room = Newsroom(item)
        for minute in range(380):
            share = 0.7 if 300 <= minute < 340 else 0.15
            if restarts and minute >= 300:
                room.restart(room.state())
            room.pass_minute(room.usual(40, 20, share=share))
        outcomes.append([(change.event, change.alert) for change in room.told])
    assert outcomes[0] == outcomes[1]
    assert [event for event, _ in outcomes[0]].count("alert.firing") == 1


def test_what_goes_beyond_the_company_that_set_it_off_fires_too(newsroom: Newsroom) -> None:
    for _ in range(20):
        newsroom.pass_minute([*newsroom.usual(40, 6), *(newsroom.news("C3") for _ in range(4))])
    (company,) = newsroom.fired()
    assert "market" in {also.series for also in company.also}
    for _ in range(30):
        newsroom.pass_minute([*newsroom.usual(40, 30, share=0.6), *(newsroom.news("C3") for _ in range(4))])
    _, market = newsroom.fired()
    assert (market.series, market.group) == ("market", company.id)


def _theme(newsroom: Newsroom, company: str, titles: Sequence[str]) -> Theme:
    items = tuple(newsroom.news(company, title=title) for title in titles)
    return Theme(
        event="opened", phrase="Lumen Harbour", minute=newsroom.minute - 1, opened=newsroom.minute - 1,
        window_min=1_440, observed=len(items), expected=0.02, low=0, high=0, p_value=1e-7, z=5.0, share=1e-4,
        history=0.0, copies=0, items=items,
    )  # fmt: skip


def test_a_company_that_follows_its_theme_updates_the_themes_alert(newsroom: Newsroom) -> None:
    theme = _theme(newsroom, "C3", ["Queues at Lumen Harbour", "Lumen Harbour shuts", "No buyer for Lumen Harbour"])
    newsroom.note(newsroom.lifecycle.step_themes([theme]))
    newsroom.pass_minute([*newsroom.usual(40, 6), *theme.items])
    for _ in range(30):
        more = (newsroom.news("C3", title=f"Lumen Harbour, part {n}") for n in range(3))
        newsroom.pass_minute([*newsroom.usual(40, 6), *more])
    (alert,) = newsroom.fired()
    assert company_of(alert.series) == "C3"
    assert "theme=Lumen Harbour" in {also.series for also in alert.also}
    assert alert.moved_at is not None
    assert alert.began_on == "theme=Lumen Harbour"
    closed = msgspec.structs.replace(theme, event="closed", minute=newsroom.minute)
    assert newsroom.lifecycle.step_themes([closed]) == []  # it ends with the company's surge
    for _ in range(150):
        newsroom.pass_minute(newsroom.usual(40, 6))
    assert newsroom.events("C3") == ["alert.firing", "alert.resolved"]


def test_a_company_that_surges_for_something_else_is_not_hidden_by_a_theme(newsroom: Newsroom) -> None:
    theme = _theme(newsroom, "C3", ["Queues at Lumen Harbour", "Lumen Harbour shuts", "No buyer for Lumen Harbour"])
    newsroom.note(newsroom.lifecycle.step_themes([theme]))
    for _ in range(30):
        newsroom.pass_minute([*newsroom.usual(40, 6), *(newsroom.news("C3") for _ in range(3))])
    assert [alert.series.partition(";")[0] for alert in newsroom.fired()] == ["theme=Lumen Harbour", "company=C3"]


def test_a_surge_that_is_not_rare_among_all_tests_is_held(newsroom: Newsroom) -> None:
    newsroom.discovery._tests = 1e9  # as if very many series were watched
    for _ in range(6):
        newsroom.pass_minute([*newsroom.usual(40, 6), newsroom.news("C3"), newsroom.news("C3")])
    judged = newsroom.detector.judge("company=C3")
    assert judged is not None
    assert judged.state == "pending"
    assert newsroom.fired() == []
    for _ in range(20):
        newsroom.pass_minute([*newsroom.usual(40, 6), *(newsroom.news("C3") for _ in range(5))])
    (alert,) = newsroom.fired()
    assert alert.expected_false_share is not None
    assert 0 < alert.expected_false_share < 0.5


def test_reprints_that_only_their_words_tell_are_no_surge(newsroom: Newsroom) -> None:
    title = "Lumen Harbour halts withdrawals after regulator freezes deposits"
    for minute in range(12):
        reprints = [newsroom.news("C3", title=f"{title} {word}") for word in ("today", "again")]
        newsroom.pass_minute([*newsroom.usual(40, 6), *(reprints if minute % 2 else [])])
    judged = newsroom.detector.judge("company=C3")
    assert judged is not None
    assert judged.state == "pending"
    assert newsroom.fired() == []
    for _ in range(10):
        newsroom.pass_minute([*newsroom.usual(40, 6), *(newsroom.news("C3") for _ in range(4))])
    assert [company_of(alert.series) for alert in newsroom.fired()] == ["C3"]


Plan = list[tuple[str, int, int, int]]
_SURGES = st.tuples(
    st.sampled_from(["C1", "C2", "C3", "all"]), st.integers(0, 60), st.integers(5, 40), st.integers(1, 5)
)


@example(plan=[("C1", 13, 5, 3), ("all", 0, 11, 1)], restart=0)  # a topic's alert would move to a company with an alert
@given(plan=st.lists(_SURGES, min_size=1, max_size=4), restart=st.integers(0, 90))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_surges_no_items_raise_two_open_alerts(newsroom: Newsroom, plan: Plan, restart: int) -> None:
    begin = newsroom.state(), newsroom.minute, newsroom.number
    room = Newsroom(newsroom.item, seed=2)
    room.restart(begin[0])
    room.minute, room.number = begin[1:]
    for at in range(100):
        items = room.usual(40, 6)
        for company, start, length, size in plan:
            if start <= at < start + length:
                more = [room.news(company) for _ in range(size)]
                items += room.usual(40, 3 * size, share=0.9) if company == "all" else more
        if at == restart:
            room.restart(room.state())
        room.pass_minute(items)
        members = [series for episode in room.lifecycle.episodes for series in episode.excess]
        assert len(members) == len(set(members))
        main = [episode.alert.series for episode in room.lifecycle.episodes]
        companies = [company_of(series) for series in main if company_of(series)]
        assert len(companies) == len(set(companies))
        assert {name for name in main if name != "market"} <= set(room.detector.watched)
    fired = [alert.id for alert in room.fired()]
    assert len(fired) == len(set(fired))
    for change in room.told:
        assert change.alert.group in fired
        assert change.alert.children == tuple(sorted(change.alert.children, key=lambda each: -each.contribution))
        assert all(overlaps(change.alert.series, child.series) for child in change.alert.children)


def test_an_alert_grows_worse_while_it_is_open_and_never_better(newsroom: Newsroom) -> None:
    for _ in range(26 * 60):
        newsroom.pass_minute(newsroom.usual(8, 2))
    course: dict[str, list[Alert]] = {}
    for minute in range(90):
        bad = [newsroom.news("C1") for _ in range(1 if minute % 2 or minute > 30 else 0)]
        for change in newsroom.pass_minute([*newsroom.usual(8, 2), *bad]):
            course.setdefault(change.alert.id, []).append(change.alert)
    severities = [[alert.severity for alert in alerts] for alerts in course.values()]
    assert all(each == sorted(each, reverse=True) for each in severities)
    mild, *rest = next(alerts for alerts in course.values() if alerts[0].severity == "warning")
    grown = next(alert for alert in rest if alert.severity == "critical")
    # It says what makes it critical, and keeps what had made it fire.
    assert grown.peak.strength >= 6 > mild.peak.strength
    assert f"{grown.peak.observed} negative of" in grown.summary != mild.summary
    assert (grown.figures, grown.stories, grown.started_at) == (mild.figures, mild.stories, mild.started_at)


def test_what_ends_with_the_markets_alert_is_found_in_one_look_at_each_series(
    newsroom: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Counter[str]()

    def looked_at(series: str) -> tuple[str, ...]:
        looks[series] += 1
        return containers(series)

    for _ in range(5):
        newsroom.pass_minute([*newsroom.usual(40, 6), *(newsroom.news("C4") for _ in range(3))])
    names = list(newsroom.detector.names)
    strength = newsroom.detector.stand(names).strength
    for module in ("alerts.families", "alerts.surge"):
        monkeypatch.setattr(f"{module}.containers", looked_at, raising=False)
    told = Families(newsroom.detector, 3.7).told(MARKET, ["company=C3"])
    assert told == sorted(
        name
        for name, now in zip(names, strength, strict=True)
        if name == "company=C3" or (name != MARKET and now >= CALM_Z)
    )
    assert len(told) > 1
    assert max(looks.values()) == 1


def test_an_open_alert_is_asked_once_a_minute_which_part_explains_it(
    newsroom: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, worked_out = list[Judgement](), list[Judgement]()
    ask, work_out = Families.explaining, Families._explained_by

    def explaining(families: Families, outer: Judgement) -> str | None:
        asked.append(outer)
        found = ask(families, outer)
        assert found == work_out(families, outer)
        return found

    def explained_by(families: Families, outer: Judgement) -> str | None:
        worked_out.append(outer)
        return work_out(families, outer)

    monkeypatch.setattr(Families, "explaining", explaining)
    monkeypatch.setattr(Families, "_explained_by", explained_by)
    for _ in range(20):
        newsroom.pass_minute(newsroom.usual(40, 20, share=0.8))
    assert len(asked) > 3 * len(worked_out) > 0
    assert len(worked_out) == len({(outer.series, outer.minute) for outer in worked_out})


def test_a_theme_that_holds_the_market_takes_it_up_once(newsroom: Newsroom) -> None:
    theme = _theme(newsroom, "C3", ["Queues at Lumen Harbour", "Lumen Harbour shuts", "No buyer for Lumen Harbour"])
    newsroom.note(newsroom.lifecycle.step_themes([theme]))
    revisions, held = 0, 0
    for n in range(30):
        more = (newsroom.news(f"N{n}-{at}", title=f"Lumen Harbour, part {n}-{at}") for at in range(4))
        revisions += len(newsroom.pass_minute([*newsroom.usual(40, 6), *more]))
        held += any("market" in episode.excess for episode in newsroom.lifecycle.episodes)
    (alert,) = newsroom.fired()
    assert alert.series == "theme=Lumen Harbour"
    assert held > 10
    assert [also.series for also in alert.also].count("market") == 1
    assert revisions == len(alert.also)  # one for each series that joined it
