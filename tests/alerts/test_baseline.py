"""What becomes usual and what does not: rises of each Monday, surges of each day, weekends, holidays, new series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from alerts.judgement import CALM_Z, Judgement
from alerts.panel import Panel
from alerts.rolling import NEGATIVES, NO_ARRIVALS, OTHERS, Arrivals
from alerts.series import MARKET, series_of
from alerts.settings import SurgeSettings
from alerts.surge import Detector
from alerts.windows import Count

DAY, WEEK = 1_440, 10_080
START = 4 * DAY + 2_800 * WEEK  # a Monday
STEP = 10  # items come every ten minutes, which makes a week cheap
SETTINGS = SurgeSettings()
GROUPS = {"quiet": 8, "mondays": 8, "daily": 8, "once": 8}
WEEKS = 6


def _rows(group: str) -> slice:
    begin = sum(list(GROUPS.values())[: list(GROUPS).index(group)])
    return slice(begin, begin + GROUPS[group])


def _factors(now: int) -> NDArray[np.float64]:
    """How many times its usual odds each series has."""
    factors = np.ones(sum(GROUPS.values()))
    monday = now % WEEK < DAY
    if monday and 480 <= now % DAY < 720:
        factors[_rows("mondays")] = 2.2
        if now // WEEK == WEEKS - 1:
            factors[_rows("mondays")][: GROUPS["mondays"] // 2] = 8
    if 700 <= now % DAY < 760 and now >= 4 * DAY:
        factors[_rows("daily")] = 5
    if 2 * WEEK + 480 <= now < 2 * WEEK + 660:
        factors[_rows("once")] = 5
    if 3 * WEEK + 480 <= now < 3 * WEEK + 660:
        factors[_rows("once")] = 3
    return factors


@pytest.fixture(scope="module")
def opened() -> list[tuple[int, int]]:
    """Series and minute of each episode in six weeks at five items a minute."""
    rng, panel, found = np.random.default_rng(7), Panel(START - 1), []
    series = sum(GROUPS.values())
    panel.append([-1] * series)
    calm, columns, none = np.zeros(series, dtype=np.int64), np.arange(series), np.zeros(0, dtype=np.int64)
    for now in range(WEEKS * WEEK):
        panel.advance()
        if now % STEP:
            panel.take_in(NO_ARRIVALS)
            continue
        odds = 0.15 * _factors(now) * rng.gamma(60, 1 / 60, series)
        counts = rng.poisson([5 * STEP * odds / (1 + odds), 5 * STEP / (1 + odds)])
        kinds = np.repeat([NEGATIVES, OTHERS], series)
        panel.take_in(Arrivals(kinds, np.full(kinds.size, panel.minute), np.tile(columns, 2), counts.ravel()))
        seen = panel.assess(columns, SETTINGS.threshold_z, SETTINGS.minimum_count)
        running = panel.episodes.opened > 0
        fires = np.flatnonzero((seen.strength >= SETTINGS.threshold_z) & ~running) if now >= DAY else none
        found += [(int(row), now) for row in fires]
        panel.open(fires, seen.best[fires])
        calm = np.where(seen.recent_z < CALM_Z, calm + STEP, 0)
        panel.close(np.flatnonzero(running & (calm >= SETTINGS.calm_min)), SETTINGS.calm_min)
    return found


def _of(opened: list[tuple[int, int]], rows: slice, first: int, last: int) -> set[int]:
    return {row for row, at in opened if rows.start <= row < rows.stop and first <= at < last}


def test_a_rise_of_each_monday_morning_becomes_usual(opened):
    found = [len(_of(opened, _rows("mondays"), week * WEEK + 480, week * WEEK + 730)) for week in range(WEEKS)]
    assert found[1] >= 2  # of 8: at first it is a surge
    assert sum(found[2:5]) <= 4  # of 24
    assert sum(found[2:5]) < 3 * found[1]


def test_what_goes_beyond_the_usual_rise_of_a_monday_is_found(opened):
    begin = (WEEKS - 1) * WEEK + 480
    rows = _rows("mondays")
    assert len(_of(opened, slice(rows.start, rows.start + 4), begin, begin + 180)) == 4


def test_a_surge_that_returns_every_day_is_found_on_the_20th_day_and_after_weeks(opened):
    found = {day: len(_of(opened, _rows("daily"), day * DAY + 700, day * DAY + 770)) for day in range(5, WEEKS * 7)}
    assert found[20] == 8
    assert sum(found.values()) >= 0.95 * 8 * len(found)


def test_what_happened_on_one_monday_is_not_expected_on_the_next(opened):
    assert len(_of(opened, _rows("once"), 2 * WEEK + 480, 2 * WEEK + 660)) == 8
    assert len(_of(opened, _rows("once"), 3 * WEEK + 480, 3 * WEEK + 660)) == 8


def test_quiet_series_stay_quiet_while_seasons_are_learnt(opened):
    assert len([1 for row, _ in opened if row < GROUPS["quiet"]]) <= 8 * WEEKS  # one a week each is the most


def _feed(
    detector: Detector, minute: int, rng: np.random.Generator, rate: float, share: float = 0.15
) -> list[Judgement]:
    """Ten minutes' items of one company arrive in `minute`, then none in nine; return what surges."""
    counts: Counter[Count] = Counter()
    for label, mean in (("negative", rate * share), ("neutral", rate * (1 - share))):
        number = int(rng.poisson(STEP * mean))
        if number:
            counts.update({(series, minute, label): number for series in series_of("Earnings", ["AAPL"])})
    found = list(detector.update(minute, counts))
    for later in range(1, STEP):
        found += detector.update(minute + later, {})
    return [one for one in found if one.state in ("pending", "firing")]


@pytest.fixture
def weeks_before_memorial_day() -> Callable[[str], tuple[Detector, int, np.random.Generator]]:
    """Two weeks of a feed that rests at weekends (New York), up to the night before Monday, 25 May 2026."""

    def run(exchange: str) -> tuple[Detector, int, np.random.Generator]:
        rng, detector = np.random.default_rng(3), Detector(SurgeSettings(exchange=exchange))
        begin = int(datetime(2026, 5, 11, 4, tzinfo=UTC).timestamp()) // 60  # Monday, 0:00 in New York
        for now in range(begin, begin + 2 * WEEK, STEP):
            _feed(detector, now, rng, 1.0 if (now - begin) % WEEK < 5 * DAY else 0.0)
        return detector, begin + 2 * WEEK, rng

    return run


def test_a_silent_holiday_is_no_outage_and_the_day_after_no_surge(weeks_before_memorial_day):
    detector, monday, rng = weeks_before_memorial_day("XNYS")
    for now in range(monday, monday + DAY, STEP):
        _feed(detector, now, rng, 0.0)
        assert detector.missing() == []
    for now in range(monday + DAY, monday + 2 * DAY, STEP):
        assert _feed(detector, now, rng, 1.0) == []
    judged = detector.judge(MARKET)
    assert judged is not None
    assert judged.state == "normal"


def test_a_silent_monday_is_an_outage_when_nobody_says_that_it_is_a_holiday(weeks_before_memorial_day):
    detector, monday, rng = weeks_before_memorial_day("none")
    for now in range(monday, monday + DAY // 2, STEP):
        _feed(detector, now, rng, 0.0)
    assert MARKET in detector.missing()


def test_what_was_held_back_in_bad_hours_and_comes_in_good_ones_is_no_surge():
    rng, panel, series = np.random.default_rng(1), Panel(START - 1), 10
    panel.append([-1] * series)
    columns, held = np.arange(series), np.zeros((2, series), dtype=np.int64)
    found = []
    for now in range(14 * DAY + 720):
        panel.advance()
        if now % STEP:
            panel.take_in(NO_ARRIVALS)
            continue
        odds = (0.4 if now % DAY >= 1_080 else 0.14) * rng.gamma(50, 1 / 50, series)
        held += rng.poisson([5 * STEP * odds / (1 + odds), 5 * STEP / (1 + odds)])
        if 13 * DAY + 1_140 <= now < 13 * DAY + 1_460:  # silent from the evening until after midnight
            panel.take_in(NO_ARRIVALS)
            continue
        kinds = np.repeat([NEGATIVES, OTHERS], series)
        panel.take_in(Arrivals(kinds, np.full(kinds.size, panel.minute), np.tile(columns, 2), held.ravel()))
        held[:] = 0
        if now >= 13 * DAY + 1_460:
            found += list(
                np.flatnonzero(panel.assess(columns, SETTINGS.threshold_z, 4).strength >= SETTINGS.threshold_z)
            )
    assert len(set(found)) <= 1  # of 10, in half a day


def test_a_new_series_has_the_season_of_what_contains_it():
    rng, panel = np.random.default_rng(2), Panel(START - 1)
    panel.append([-1])
    for now in range(2 * WEEK):
        panel.advance()
        if now % 10 == 0:
            high = now % DAY >= 720
            panel.take_in(
                Arrivals(
                    np.array([NEGATIVES, OTHERS]),
                    np.array([panel.minute, panel.minute]),
                    np.array([0, 0]),
                    np.array([rng.poisson(16 if high else 8), rng.poisson(60)]),
                )
            )
    panel.append([0])
    morning, evening = (panel.minute // DAY * DAY + hour * 60 for hour in (6, 18))
    market, new = panel.baseline.factor(evening) / panel.baseline.factor(morning)
    assert new == pytest.approx(market)
    assert 1.5 < new < 2.3
