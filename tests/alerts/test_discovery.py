"""p-values hold on quiet streams down to 1e-4; of many series few alerts are false; state survives to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from alerts.columns import Floats, Ints
from alerts.discovery import Discovery, DiscoverySnapshotError
from alerts.negbin import signed_root
from alerts.settings import DiscoverySettings

SERIES = 1_000
NO_PARENT = np.full(SERIES, -1, dtype=np.int32)
NOTHING_OPEN = np.zeros(SERIES, dtype=np.bool_)


class Quiet:
    """Hours of series with 6 to 1,000 negatives a day, which scatter more than counts do: the largest z of an hour."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._rate = np.exp(self._rng.uniform(np.log(6), np.log(1_000), SERIES)) / 288  # in five minutes
        self._dispersion = self._rng.uniform(0.01, 0.05, SERIES)

    def hour(self) -> tuple[Floats, Ints]:
        """Return the strengths and the negatives of a day, [series]."""
        shape = self._rng.gamma(1 / self._dispersion, self._dispersion)  # the scatter of these hours
        counts = self._rng.poisson(self._rate * shape, (24, SERIES))
        strength = np.full(SERIES, -np.inf)
        for width in (1, 3, 12):
            total = np.cumsum(counts, axis=0)
            sums = (total[12:] - total[12 - width : -width]).astype(np.float64)
            z = signed_root(sums, np.broadcast_to(self._rate * width, sums.shape), 1 / self._dispersion)
            strength = np.maximum(strength, np.where(sums >= 5, z, -np.inf).max(axis=0))
        return strength, np.rint(self._rate * 288).astype(np.int64)


def test_p_values_hold_on_quiet_hours_down_to_one_in_ten_thousand() -> None:
    quiet, discovery = Quiet(1), Discovery()
    columns = np.arange(SERIES)
    for hour in range(100):
        strengths, negatives = quiet.hour()
        discovery.observe(hour * 60, columns, strengths, negatives.astype(np.int32), NOTHING_OPEN)
    found = []
    for _ in range(240):
        strengths, negatives = quiet.hour()
        tested = strengths > -np.inf
        found += [discovery.p_values(strengths[tested], negatives[tested])]
    p = np.concatenate(found)
    assert p.size > 100_000
    for nominal, least, most in ((0.1, 0.9, 1.1), (0.01, 0.85, 1.15), (1e-3, 0.65, 1.3), (1e-4, 0.2, 1.7)):
        assert least < (p <= nominal).mean() / nominal < most, nominal


@pytest.mark.parametrize("on", [True, False])
def test_of_many_series_few_alerts_are_false_and_strong_surges_are_found(on: bool) -> None:
    rng = np.random.default_rng(3)
    quiet, discovery = Quiet(4), Discovery(DiscoverySettings(on=on))
    columns = np.arange(SERIES)
    true, false, planted = 0, 0, 0
    claimed = []
    for hour in range(8 * 24):
        strengths, negatives = quiet.hour()
        surge = rng.integers(SERIES) if hour % 4 == 0 else -1
        if surge >= 0:
            strengths[surge] = 7.5
        discovery.observe(hour * 60, columns, strengths, negatives.astype(np.int32), NOTHING_OPEN)
        for column in np.flatnonzero(strengths >= 3.5):
            p = discovery.p_value(float(strengths[column]), int(negatives[column]))
            if p > discovery.limit(NO_PARENT):
                continue
            discovery.opened()
            if hour >= 72:
                true, false = true + (column == surge), false + (column != surge)
        if hour >= 72:
            planted += surge >= 0
            claimed.append(discovery.expected_false_share)
    share = false / (true + false)
    if on:
        assert share <= 0.15
        assert true >= 0.95 * planted
        assert share - 0.06 <= np.mean(claimed) <= 0.13  # it is a bound as much as an estimate
    else:
        assert share > 0.5  # what it is for
        assert np.mean(claimed) > 0.4


def test_what_is_open_is_neither_tested_nor_learnt_from_and_memory_fades() -> None:
    discovery = Discovery(DiscoverySettings(half_life_h=24))
    columns = np.arange(SERIES)
    strengths, negatives = np.full(SERIES, 2.0), np.full(SERIES, 20, dtype=np.int32)
    everything = np.ones(SERIES, dtype=np.bool_)
    discovery.observe(0, columns, strengths, negatives, NOTHING_OPEN)
    fresh = discovery.limit(NO_PARENT)
    assert fresh == pytest.approx(0.1 / SERIES)
    discovery.observe(60, columns, strengths, negatives, NOTHING_OPEN)
    assert discovery.limit(NO_PARENT) == pytest.approx(0.1 / SERIES / 2, rel=0.02)
    before = discovery.p_value(8.0, 20)
    for hour in range(2, 26):
        discovery.observe(hour * 60, columns, np.full(SERIES, 8.0), negatives, everything)
    assert discovery.p_value(8.0, 20) == pytest.approx(before, rel=0.5)
    assert discovery.limit(NO_PARENT) == pytest.approx(0.1 / SERIES, rel=0.05)


def test_a_whole_and_its_parts_count_once() -> None:
    columns = np.arange(SERIES)
    strengths, negatives = np.full(SERIES, 1.0), np.full(SERIES, 20, dtype=np.int32)
    strengths[:4] = 9.0
    together, apart = NO_PARENT.copy(), NO_PARENT
    together[1:4] = 0
    discovery = Discovery()
    discovery.observe(0, columns, strengths, negatives, NOTHING_OPEN)
    assert discovery.limit(together) == pytest.approx(0.1 / SERIES)
    assert discovery.limit(apart) == pytest.approx(4 * 0.1 / SERIES)


def test_a_restart_changes_nothing_and_a_damaged_snapshot_is_refused() -> None:
    quiet, columns = Quiet(5), np.arange(SERIES)
    one, other = Discovery(), Discovery()
    for minute in range(0, 60 * 30, 25):
        strengths, negatives = quiet.hour()
        fresh = Discovery()
        fresh.restore(other.snapshot())
        other = fresh
        for each in (one, other):
            each.observe(minute, columns, strengths, negatives.astype(np.int32), NOTHING_OPEN)
            if minute % 3 == 0:
                each.opened()
    assert one.snapshot() == other.snapshot()
    for damaged in (b"", b"damaged", one.snapshot()[:-7]):
        with pytest.raises(DiscoverySnapshotError):
            Discovery().restore(damaged)
