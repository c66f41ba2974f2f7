"""Minutes without items, taken together: to the bit what judging each of them comes to, and no alert more or less."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from alerts.judging import Judging
from alerts.lifecycle import Change
from alerts.metrics import AlertsMetrics
from alerts.season import PARTS, Season, part_of
from alerts.sequential import GAINS, Sequential
from alerts.series import series_of
from alerts.sessions import Sessions
from alerts.settings import AlertsSettings, DiscoverySettings, SurgeSettings
from alerts.surge import Detector
from alerts.windows import Count, WindowItem

START = 28_000_800
MINUTES = 1_700
SETTINGS = AlertsSettings(
    surge=SurgeSettings(warm_up_h=2, warm_up_items=20, minimum_publishers=1), discovery=DiscoverySettings(on=False)
)


class _Buckets:
    """The items of a history by arrival minute, as `alerts.buckets.Buckets` gives them."""

    def __init__(self, history: dict[int, list[WindowItem]]) -> None:
        self.history = history

    def counts(self, minute: int) -> dict[Count, int]:
        found: Counter[Count] = Counter()
        for item in self.history.get(minute, []):
            found.update((series, minute, item.sentiment) for series in series_of(item.topic, item.companies))
        return found

    def items(self, minutes: Sequence[int]) -> list[WindowItem]:
        return [item for listed in self.listed(minutes) for item in listed]

    def listed(self, minutes: Sequence[int], places: object = None) -> list[list[WindowItem]]:
        return [[item for item in self.history.get(each, []) if item.sentiment == "negative"] for each in minutes]


def _history(parts: list[tuple[int, int, float]], seed: int) -> dict[int, list[WindowItem]]:
    """Parts of (minutes, items an hour, share of negatives), which begin again at the end; the first hours are calm."""
    rng = np.random.default_rng(seed)
    found: dict[int, list[WindowItem]] = {}
    minute, number, turn = 0, 0, 0
    while minute < MINUTES:
        length, an_hour, share = (400, 30, 0.1) if turn == 0 else parts[(turn - 1) % len(parts)]
        for at in range(minute, min(minute + length, MINUTES)):
            for _ in range(rng.poisson(an_hour / 60)):
                word, seen = f"{rng.integers(6)}", (START + at) * 60.0
                item = WindowItem(
                    offset=number, id=str(number), story=str(number), published_at=seen, seen_at=seen,
                    sentiment="negative" if rng.random() < share else "neutral", negative=0.9,
                    topic=f"T{rng.integers(3)}", companies=(f"C{rng.integers(8)}",), publisher=str(number % 5),
                    source="s", title=f"Vela{word} hides trouble{number} of ship{number % 7}", url="",
                )  # fmt: skip
                found.setdefault(START + at, []).append(item)
                number += 1
        minute, turn = minute + length, turn + 1
    return found


def _judged(history: dict[int, list[WindowItem]], *, together: bool) -> tuple[list[Change], Any, int]:
    """Judge it all; return the changes, the state at its end, and the minutes that were taken together."""
    buckets = _Buckets(history)
    judging = Judging(SETTINGS, buckets, AlertsMetrics(CollectorRegistry()), None)  # type: ignore[arg-type]  # a stand-in
    if not together:
        judging.rests_until = lambda: 0  # type: ignore[method-assign]  # never at rest
    changes: list[Change] = []
    minute, last, rested = START - 1, START + MINUTES, 0
    while minute < last:
        following = next((each for each in range(minute + 1, last + 1) if each in history), last + 1)
        upto = min(following - 1, last, judging.rests_until())
        if upto > minute:
            judging.rest(upto)
            rested += upto - minute
            minute = upto
        else:
            minute += 1
            (listed,) = buckets.listed([minute])
            changes += judging.judge(minute, buckets.counts(minute), listed)
    return changes, judging.memory(), rested


@examples(max_examples=4, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 900), st.sampled_from([0, 0, 3, 20, 60]), st.sampled_from([0.1, 0.9])),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 99),
)
def test_minutes_taken_together_are_to_the_bit_what_each_comes_to(
    parts: list[tuple[int, int, float]], seed: int
) -> None:
    history = _history(parts, seed)
    changes, memory, rested = _judged(history, together=True)
    singly, expected, none = _judged(history, together=False)
    assert not none
    assert rested
    assert changes == singly
    assert memory == expected


def test_alerts_open_and_end_in_such_a_history() -> None:
    """Or the test above would compare nothing."""
    changes, _, rested = _judged(_history([(200, 3, 0.1), (60, 60, 0.9), (700, 0, 0.1)], 1), together=True)
    assert {"alert.firing", "alert.resolved"} <= {change.event for change in changes}
    assert rested > MINUTES / 4


def test_no_rest_while_an_alert_is_open_or_past_the_hour() -> None:
    detector = Detector()
    detector.update(START, {("market", START, "negative"): 3})
    with pytest.raises(ValueError, match="no rest"):
        detector.rest(START + 60)
    detector.watch("market")
    assert detector.rests_until() == START
    with pytest.raises(ValueError, match="no rest"):
        detector.rest(START + 1)
    detector.release("market")
    detector.rest(START + 59)
    assert detector.minute == START + 59


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 4), min_size=1, max_size=80), st.floats(0.01, 2), st.floats(0.001, 1))
def test_the_sequential_statistic_is_the_product_of_likelihood_ratios(
    counts: list[tuple[int, int, int, int]], odds: float, rate: float
) -> None:
    sequential = Sequential()
    sequential.grow(2)
    expected = np.zeros((len(GAINS), 2))
    watch, spread = min(rate / 0.5, 1.0), 1 + odds
    for first, second, third, fourth in counts:
        negatives, others = np.array([max(0, first - 3), second]), np.array([max(0, third - 3), fourth])
        sequential.update(negatives, others, np.full(2, odds), np.full(2, spread), np.full(2, rate))
        for at, gain in enumerate(GAINS):
            log = (negatives * np.log(gain) - (gain - 1) * odds * (others + 0.02 * watch)) / spread
            grown = (expected[at] + max(watch**2, 3e-4)) * np.exp(np.minimum(log, 24))
            expected[at] = np.minimum(grown, np.exp(12))
    assert np.allclose(sequential.r, expected, rtol=1e-4, atol=1e-30)


@examples(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["learn", "append", "keep"]), max_size=12), st.booleans(), st.integers(0, 99))
def test_a_season_that_is_kept_up_is_the_one_worked_out_anew(steps: list[str], balanced: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parents = np.array([-1, 0, 0, 1], dtype=np.int32)
    hours, parts = rng.uniform(0, 60, (2, 24, 4)), rng.uniform(0, 60, (2, PARTS, 4))
    slots = [Sessions().slot(hour) for hour in range(24 * 8)]
    season = Season(hours, parts, parents, (44.0, 30.0), balanced=balanced)
    for step in steps:
        season.table(slots[seed : seed + 25])
        if step == "learn":
            slot = slots[rng.integers(len(slots))]
            hours[:, slot.hour] += rng.uniform(0, 60, (2, parents.size))
            parts[:, part_of(slot)] += rng.uniform(0, 60, (2, parents.size))
            season.changed(slot)
        elif step == "append":
            more = np.array([rng.integers(-1, parents.size), parents.size], dtype=np.int32)
            parents = np.append(parents, more)
            hours, parts = (np.append(counts, np.zeros((*counts.shape[:2], 2)), axis=2) for counts in (hours, parts))
            season = season.grown(hours, parts, parents)
        else:
            needed = {int(rng.integers(parents.size))}
            while more_of := {int(parents[each]) for each in needed if parents[each] >= 0} - needed:
                needed |= more_of
            columns = np.array(sorted(needed), dtype=np.int64)
            moved = np.full(parents.size + 1, -1, dtype=np.int32)
            moved[columns] = np.arange(len(columns))
            parents, hours, parts = moved[parents[columns]], hours[..., columns], parts[..., columns]
            season = season.taken(hours, parts, parents, columns)
        anew = Season(hours, parts, parents, (44.0, 30.0), balanced=balanced)
        assert (season.table(slots) == anew.table(slots)).all()
