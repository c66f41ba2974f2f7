"""The detector's columns over two weeks: outages, surges that return, a changed world, a season, three items a day."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from alerts.judgement import CALM_Z
from alerts.panel import Panel, shown
from alerts.rolling import NEGATIVES, OTHERS, WINDOWS_MIN, Arrivals
from alerts.settings import SurgeSettings
from alerts.surge import Detector

START = 4 * 1_440 + 2_800 * 7 * 1_440  # a Monday
DAY, DAYS = 1_440, 15
SETTINGS = SurgeSettings()
GROUPS = {"daily": 8, "outage": 8, "changed": 8, "season": 8, "slow": 24, "quiet": 8}
OUTAGE = 10 * DAY + 600
CHANGE = 6 * DAY


def _rows(group: str) -> slice:
    begin = sum(list(GROUPS.values())[: list(GROUPS).index(group)])
    return slice(begin, begin + GROUPS[group])


@dataclass
class Course:
    """What two weeks brought: [series, ...]."""

    opened: list[tuple[int, int]] = field(default_factory=list)  # series, minute
    missing: list[NDArray[np.bool_]] = field(default_factory=list)  # each hour
    odds: list[NDArray[np.float64]] = field(default_factory=list)  # each hour, as expected then

    def of(self, group: str, first: int, last: int) -> set[int]:
        """Return the series of a group with an episode that opened from `first` to `last`."""
        rows = _rows(group)
        return {row for row, at in self.opened if rows.start <= row < rows.stop and first <= at < last}


@pytest.fixture(scope="module")
def course() -> Course:
    rng, at = np.random.default_rng(5), np.arange(DAYS * DAY)
    negatives, others = np.full((sum(GROUPS.values()), at.size), 0.3), np.full((sum(GROUPS.values()), at.size), 1.7)
    negatives[_rows("daily")][:, (at % DAY >= 700) & (at % DAY < 760) & (at >= 4 * DAY)] *= 5
    for counts in (negatives, others):
        counts[_rows("outage"), OUTAGE : OUTAGE + 360] = 0
        counts[_rows("slow")] *= 3 / DAY / 2
    negatives[_rows("changed"), CHANGE:] *= 2
    negatives[_rows("season")] *= np.where(at % DAY >= 12 * 60, 1.3, 0.7)
    negatives[_rows("slow"), 11 * DAY :] *= 10
    arrived = np.stack([rng.poisson(negatives), rng.poisson(others)])
    panel, found, calm = Panel(START - 1), Course(), np.zeros(len(negatives), dtype=np.int64)
    panel.append([-1] * len(negatives))
    for now in range(at.size):
        panel.advance()
        kinds, columns = np.nonzero(arrived[:, :, now])
        panel.take_in(Arrivals(kinds, np.full(kinds.size, START + now), columns, arrived[kinds, columns, now]))
        running, missing = panel.episodes.opened > 0, panel.volume.missing()
        if now % 60 == 59:
            found.missing.append(missing)
            found.odds.append(panel.baseline.odds * panel.baseline.factor(panel.minute))
        judged = np.flatnonzero(running | (arrived[NEGATIVES, :, now] > 0))
        if not judged.size or now < DAY:
            continue
        seen = panel.assess(judged, SETTINGS.threshold_z, SETTINGS.minimum_count)
        fires = np.flatnonzero((seen.strength >= SETTINGS.threshold_z) & ~running[judged])
        found.opened += [(int(row), now) for row in judged[fires]]
        panel.open(judged[fires], seen.best[fires])
        calm[judged] = np.where((seen.recent_z < CALM_Z) & ~missing[judged], calm[judged] + 1, 0)
        panel.close(judged[running[judged] & (calm[judged] >= SETTINGS.calm_min)], SETTINGS.calm_min)
    return found


def test_quiet_series_stay_quiet(course):
    rows = range(*_rows("quiet").indices(10_000))
    found = [at for row, at in course.opened if row in rows and at >= 2 * DAY]
    assert len(found) <= len(rows) * 13 / 7  # one a week each is the most


def test_a_silent_feed_is_no_data_and_not_calm_and_no_surge_when_it_returns(course):
    missing = np.array(course.missing)[:, _rows("outage")]
    assert missing[OUTAGE // 60 + 1 : OUTAGE // 60 + 6].all()
    assert not missing[OUTAGE // 60 + 7 :].any()
    assert not missing[: OUTAGE // 60].any()
    assert not course.of("outage", OUTAGE, OUTAGE + 600)
    assert not np.array(course.missing)[:, _rows("slow")].any()


def test_a_surge_that_returns_every_day_is_found_every_day(course):
    found = [len(course.of("daily", day * DAY + 700, day * DAY + 760)) for day in range(4, DAYS)]
    assert sum(found) >= 0.95 * 8 * len(found)
    assert found[-1] >= 7


def test_a_changed_world_becomes_the_baseline_in_days(course):
    before, after = course.odds[CHANGE // 60 - 1], course.odds[(CHANGE + 8 * DAY) // 60]
    ratio = np.median(after[_rows("changed")] / before[_rows("changed")])
    assert 1.6 < ratio < 2.4
    assert course.of("changed", CHANGE, CHANGE + DAY)


def test_the_season_by_hour_of_day_is_learnt(course):
    odds = np.array(course.odds)[:, _rows("season")]
    evening, morning = odds[(DAYS - 1) * 24 + 18], odds[(DAYS - 1) * 24 + 6]
    assert np.median(evening / morning) > 1.4


def test_three_items_a_day_are_enough(course):
    assert not course.of("slow", 2 * DAY, 11 * DAY)
    assert len(course.of("slow", 11 * DAY, 14 * DAY)) >= 8  # of 24: ten times the negatives, for three days


@given(st.floats(-9, 40), st.floats(0, 5), st.floats(0, 1))
def test_what_the_length_of_a_window_adds_keeps_the_order_and_fades_far_out(z: float, more: float, adds: float) -> None:
    low, high = (float(shown(np.array(each), np.array(adds))) for each in (z, z + more))
    assert low <= high + 1e-9
    assert 0 <= low - z <= adds + 1e-9
    assert (low < CALM_Z) == (z < CALM_Z)
    if z > 2.5:
        assert high - z - more <= low - z + 1e-9


def test_a_series_costs_less_than_2_kilobytes():
    detector, names = Detector(), [f"company=C{number};topic=Earnings" for number in range(5_000)]
    for minute in range(START, START + 3):
        detector.update(minute, {(name, minute, "negative"): 1 for name in names})
    panel = detector._panel
    held = [array for part in panel._parts for array in part._room.values()]
    held += [array for array in vars(panel.baseline).values() if isinstance(array, np.ndarray) and array.base is None]
    arrays = sum(array.nbytes for array in held) / detector.tracked
    names_held = sum(map(sys.getsizeof, detector.names)) + sys.getsizeof(detector._names.columns)
    assert arrays + names_held / detector.tracked < 2_048
    state = sum(array.nbytes for array in panel.state().values())
    assert state / detector.tracked < 1_700


def test_windows_hold_what_came_in_them_whatever_their_steps():
    rng, panel = np.random.default_rng(1), Panel(START + 7)
    panel.append([-1, -1])
    minutes: list[NDArray[np.int64]] = []
    for _ in range(2 * DAY):
        panel.advance()
        counts = rng.poisson(0.4, 2)
        minutes.append(counts)
        some = np.flatnonzero(counts)
        panel.take_in(Arrivals(np.full(some.size, OTHERS), np.full(some.size, panel.minute), some, counts[some]))
    for at, (window, step) in enumerate(zip(WINDOWS_MIN, (1, 1, 1, 1, 15, 15, 60), strict=True)):
        first = (panel.minute // step + 1) * step - window
        expected = np.sum(minutes[-(panel.minute - first + 1) :], axis=0)
        assert (panel.rolling.sums[OTHERS, at] == expected).all()


def test_a_minute_with_more_items_than_it_holds_overflows_into_nothing():
    panel = Panel(START)
    panel.append([-1])
    panel.advance()
    for _ in range(3):
        one = np.array([0])
        panel.take_in(Arrivals(one + OTHERS, one + panel.minute, one, one + 40_000))
    assert (panel.rolling.sums[OTHERS] == 65_535).all()
    for _ in range(2 * DAY):
        panel.advance()
    assert (panel.rolling.sums == 0).all()
