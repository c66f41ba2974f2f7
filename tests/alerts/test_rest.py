"""Minutes without negative items, taken together: to the bit what judging each comes to, and no alert more or less."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from alerts.judging import Judging, Memory, is_calm
from alerts.lifecycle import Change
from alerts.metrics import AlertsMetrics
from alerts.season import PARTS, Season, part_of
from alerts.sequential import GAINS, Sequential
from alerts.series import parent, series_of
from alerts.sessions import Sessions
from alerts.settings import AlertsSettings, DiscoverySettings, SurgeSettings
from alerts.surge import Detector
from alerts.windows import COPY, NEGATIVE, Count, WindowItem

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
            at = int(item.published_at // 60)
            found.update((series, at, item.sentiment) for series in series_of(item.topic, item.companies))
        return found

    def items(self, minutes: Sequence[int]) -> list[WindowItem]:
        return [item for listed in self.listed(minutes) for item in listed]

    def listed(self, minutes: Sequence[int], places: object = None) -> list[list[WindowItem]]:
        return [[item for item in self.history.get(each, []) if item.sentiment == "negative"] for each in minutes]


def _history(parts: list[tuple[int, int, float]], seed: int) -> dict[int, list[WindowItem]]:
    """Parts of (minutes, items an hour, share of negatives), which begin again at the end; the first hours are calm.

    Each third item is late, by up to three hours, and now and then a company is named for the first time.
    """
    rng = np.random.default_rng(seed)
    found: dict[int, list[WindowItem]] = {}
    minute, number, turn = 0, 0, 0
    while minute < MINUTES:
        length, an_hour, share = (400, 10 + seed % 2 * 20, 0.1) if turn == 0 else parts[(turn - 1) % len(parts)]
        for at in range(minute, min(minute + length, MINUTES)):
            for _ in range(rng.poisson(an_hour / 60)):
                word, seen = f"{rng.integers(6)}", (START + at) * 60.0
                item = WindowItem(
                    offset=number, id=str(number), story=str(number), seen_at=seen,
                    published_at=seen - 60 * int(rng.integers(180)) * (number % 3 == 0),
                    sentiment=NEGATIVE if rng.random() < share else str(rng.choice(["neutral", "positive", COPY])),
                    negative=0.9, topic=f"T{rng.integers(3)}", companies=(f"C{rng.integers(4 + at // 90)}",),
                    publisher=str(number % 5),
                    source="s", title=f"Vela{word} hides trouble{number} of ship{number % 7}", url="",
                )  # fmt: skip
                found.setdefault(START + at, []).append(item)
                number += 1
        minute, turn = minute + length, turn + 1
    return found


def _judging(buckets: _Buckets) -> Judging:
    return Judging(SETTINGS, buckets, AlertsMetrics(CollectorRegistry()), None)  # type: ignore[arg-type]  # a stand-in


def _judged(
    history: dict[int, list[WindowItem]], *, together: bool, pause_min: int = 173
) -> tuple[list[Change], list[Memory], tuple[int, int]]:
    """Judge it all; return the changes, the states at its pauses, and how many empty and other minutes had a rest.

    What is judged together is restored from its state after each pause.
    """
    buckets = _Buckets(history)
    judging = _judging(buckets)
    changes: list[Change] = []
    memories: list[Memory] = []
    minute, last, empty, calm = START - 1, START + MINUTES, 0, 0
    while minute < last:
        pause = min(last, minute + pause_min - (minute - START) % pause_min)
        judged = next((each for each in range(minute + 1, pause) if not is_calm(buckets.counts(each))), pause)
        upto = min(judged - 1, judging.rests_until())
        if upto > minute and together:
            held = {each: buckets.counts(each) for each in range(minute + 1, upto + 1) if each in history}
            judging.rest(upto, held)
            empty, calm = empty + upto - minute - len(held), calm + len(held)
            minute = upto
        else:
            minute += 1
            if not together:
                judging.rests_until = lambda: 0  # type: ignore[method-assign]  # never at rest
            (listed,) = buckets.listed([minute])
            changes += judging.judge(minute, buckets.counts(minute), listed)
        if minute in (pause, last):
            memories.append(judging.memory())
            if together:
                judging = _judging(buckets)
                judging.restore(memories[-1])
    return changes, memories, (empty, calm)


@examples(max_examples=4, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 900), st.sampled_from([0, 0, 3, 20, 60]), st.sampled_from([0, 0.1, 0.9])),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 99),
    st.integers(20, 400),
)
@example(parts=[(300, 6, 0), (60, 40, 0.9), (400, 6, 0)], seed=1, pause_min=97)
@example(parts=[(300, 6, 0.1), (400, 0, 0), (200, 20, 0)], seed=2, pause_min=61)
def test_minutes_taken_together_are_to_the_bit_what_each_comes_to(
    parts: list[tuple[int, int, float]], seed: int, pause_min: int
) -> None:
    history = _history(parts, seed)
    changes, memories, rested = _judged(history, together=True, pause_min=pause_min)
    singly, expected, none = _judged(history, together=False, pause_min=pause_min)
    assert none == (0, 0)
    assert min(rested) > 0
    assert changes == singly
    assert memories == expected


def test_alerts_open_and_end_in_such_a_history() -> None:
    """Or the test above would compare nothing."""
    changes, _, rested = _judged(_history([(200, 3, 0.1), (60, 60, 0.9), (700, 0, 0.1)], 1), together=True)
    assert {"alert.firing", "alert.resolved"} <= {change.event for change in changes}
    assert sum(rested) > MINUTES / 4


SERIES = ("market", "topic=T", "company=C", "company=C;topic=T", "company=D", "topic=U", "company=E;topic=U")


def _counts(minute: int, brought: list[tuple[str, int, str, int]]) -> dict[Count, int]:
    """Counts of items (series, minutes late, label, number), which count for all that contains the series, too."""
    found: Counter[Count] = Counter()
    for series, late, label, number in brought:
        line: str | None = series
        while line is not None:
            found[line, minute - late, label] += number
            line = parent(line)
    return found


def _through(detector: Detector, buckets: Mapping[int, Mapping[Count, int]], last: int, *, together: bool) -> int:
    """Go on to `last`; return how many minutes with items had a rest."""
    rested = 0
    while detector.minute < last:
        minute = detector.minute
        judged = next((each for each in sorted(buckets) if each > minute and not is_calm(buckets[each])), last + 1)
        upto = min(last, judged - 1, detector.rests_until())
        if together and upto > minute:
            held = {each: buckets[each] for each in sorted(buckets) if minute < each <= upto}
            detector.rest(upto, held)
            rested += len(held)
        else:
            detector.update(minute + 1, buckets.get(minute + 1, {}))
    return rested


@pytest.fixture(scope="module", params=[5, 10, 40])
def learnt(request: pytest.FixtureRequest) -> bytes:
    """A detector that has seen so many items an hour, for a day and 20 minutes."""
    rng, detector = np.random.default_rng(request.param), Detector()
    for minute in range(START, START + 1_460):
        brought = [
            (str(rng.choice(SERIES[:4])), 0, str(rng.choice([NEGATIVE, "neutral", "neutral"])), 1)
            for _ in range(rng.poisson(request.param / 60))
        ]
        detector.update(minute, _counts(minute, brought))
    return detector.snapshot()


_items = st.tuples(
    st.sampled_from(SERIES),
    st.sampled_from([0, 0, 0, 1, 4, 14, 59, 60, 61, 200, 1_439, 1_440, 3_000, -2]),
    st.sampled_from(["neutral", "neutral", "positive", COPY, COPY, NEGATIVE]),
    st.sampled_from([1, 1, 2, 40_000]),
)


@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 1, 2, 7, 40, 150, 500]), st.lists(_items, min_size=1, max_size=4)), max_size=15
    )
)
@example(steps=[(10, [("company=C", 0, "neutral", 1)])] * 12)  # a part of what was due
def test_the_detector_comes_to_the_same_whatever_arrives_and_after_whatever_silence(
    learnt: bytes, steps: list[tuple[int, list[tuple[str, int, str, int]]]]
) -> None:
    minute, buckets = START + 1_459, dict[int, dict[Count, int]]()
    for gap_min, brought in steps:
        minute += gap_min
        buckets[minute] = _counts(minute, brought)
    detectors = Detector(), Detector()
    for detector, together in zip(detectors, (True, False), strict=True):
        detector.restore(learnt)
        _through(detector, buckets, minute + 3, together=together)
    assert detectors[0].snapshot() == detectors[1].snapshot()


@pytest.mark.parametrize("learnt", [5, 10], indirect=True)
def test_quiet_hours_are_taken_together_and_returns_and_what_is_lacking_are_seen_in_them(learnt: bytes) -> None:
    """Or the test above would compare nothing."""
    detector = Detector()
    detector.restore(learnt)
    start = detector.minute
    buckets = {start + after: _counts(start + after, [("company=D", 0, "neutral", 1)]) for after in (3, 9, 30, 700)}
    assert _through(detector, buckets, start + 690, together=True) == 3
    assert "market" in detector.missing()
    _through(detector, buckets, start + 701, together=True)
    assert "market" not in detector.missing()
    assert (detector.panel.baseline.returned == start + 700).any()


def test_no_rest_with_negative_items_or_out_of_order() -> None:
    detector = Detector()
    detector.update(START, {("market", START, "neutral"): 3})
    with pytest.raises(ValueError, match="negative"):
        detector.rest(START + 9, {START + 2: {("market", START + 2, NEGATIVE): 1}})
    for minutes in ((START + 5, START + 4), (START + 10,), (START,)):
        with pytest.raises(ValueError, match="not in its place"):
            detector.rest(START + 9, {each: {("market", each, "neutral"): 1} for each in minutes})


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
