"""The detector of plain counts: what it finds, what leaves it calm, what it keeps over a restart."""

import numpy as np
import pytest

from alerts.counts import CountDetector, CountSnapshotError

HOUR_S = 3600.0
MONDAY = 1_741_564_800.0  # 2025-03-10 00:00 UTC
LEVELS = (1.0, 10.0, 100.0, 10_000.0)  # items an hour


def seasonal(hours: int, levels: np.ndarray, seed: int = 0, scatter: float = 0.05) -> np.ndarray:
    """Counts [hour, series] with a day three to one, half as many on weekends, and more scatter than Poisson's."""
    noise = np.random.default_rng(seed)
    hour = np.arange(hours)
    season = (1 + 0.5 * np.cos(2 * np.pi * (hour % 24) / 24)) * np.where(hour // 24 % 7 >= 5, 0.5, 1.0)
    mean = season[:, None] * levels
    return noise.poisson(mean * noise.gamma(1 / scatter, scatter, mean.shape)).astype(float)


def run(detector: CountDetector, counts: np.ndarray, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points and scores [row, series]."""
    judged = [detector.update(MONDAY + (start + at) * HOUR_S, row) for at, row in enumerate(counts)]
    return np.array([j.point for j in judged]), np.array([j.score for j in judged])


def test_a_surge_gets_one_point_soon_at_every_level() -> None:
    levels = np.repeat(LEVELS, 10)
    hours, onset = 24 * 24, 24 * 22 + 10
    counts = seasonal(hours, levels)
    counts[onset : onset + 8] = np.round(counts[onset : onset + 8] * 4 + 4)
    points, scores = run(CountDetector(levels.size, HOUR_S), counts)
    assert points[onset : onset + 4, 10:].any(axis=0).mean() >= 0.95
    assert points[onset : onset + 8, :10].any(axis=0).mean() >= 0.9, "one item an hour"
    assert (scores[onset : onset + 8].max(axis=0) > 0.4).mean() >= 0.95
    assert points[onset:].sum(axis=0).max() <= 3, "an episode is told once, and again only when it gets much rarer"
    assert points[:onset].sum() <= 0.25 * levels.size * onset / (24 * 7), "quiet weeks have hardly a point"


@pytest.mark.parametrize("silence", [np.nan, 0.0])
def test_the_end_of_an_outage_is_no_surge(silence: float) -> None:
    levels = np.repeat([10.0, 100.0], 10)
    counts = seasonal(24 * 18, levels, seed=1)
    counts[24 * 15 : 24 * 15 + 9] = silence
    points, scores = run(CountDetector(levels.size, HOUR_S), counts)
    assert (points & (scores >= 0.3))[24 * 15 :].sum() <= 1


def test_missing_is_neither_judged_nor_learnt() -> None:
    counts = np.repeat(seasonal(24 * 14, np.array([50.0]), seed=2), 2, axis=1)
    detector = CountDetector(2, HOUR_S)
    run(detector, counts)
    gap = np.full((24 * 3, 2), np.nan)
    gap[:, 1] = 0.0
    run(detector, gap, start=24 * 14)
    after = detector.update(MONDAY + 24 * 17 * HOUR_S, np.array([np.nan, 30.0]))
    assert np.isnan(after.days[0]) and after.score[0] == 0 and not after.point[0]
    assert after.expected[0] > 1.05 * after.expected[1], "zeros lower the level, missing rows leave it"


def test_a_changed_world_becomes_the_baseline_in_days() -> None:
    levels = np.full(5, 40.0)
    counts = seasonal(24 * 56, levels, seed=3)
    counts[24 * 28 :] *= 3
    detector = CountDetector(5, HOUR_S)
    points, scores = run(detector, counts)
    assert (points & (scores >= 0.3))[24 * 28 : 24 * 29].any(axis=0).all()
    assert (points & (scores >= 0.3))[24 * 42 :].sum() <= 2
    expected = detector.update(MONDAY + 24 * 56 * HOUR_S, counts[24 * 28]).expected  # a Monday, at midnight
    assert np.allclose(expected, 3 * 40 * 1.5, rtol=0.3)


def test_series_do_not_touch_each_other() -> None:
    counts = seasonal(24 * 10, np.array(LEVELS), seed=4)
    counts[30:50, 1] = np.nan
    together, _ = run(CountDetector(4, HOUR_S), counts)
    alone = [run(CountDetector(1, HOUR_S), counts[:, [series]])[0] for series in range(4)]
    assert (together == np.concatenate(alone, axis=1)).all()


def test_a_restart_changes_nothing_and_the_state_is_small() -> None:
    counts = seasonal(24 * 12, np.repeat(LEVELS, 5), seed=5)
    counts[-30:] *= 5
    whole = run(CountDetector(20, HOUR_S), counts)
    detector = CountDetector(20, HOUR_S)
    first = run(detector, counts[:251])
    snapshot = detector.snapshot()
    second = run(CountDetector.restore(snapshot), counts[251:], start=251)
    for one, before, after in zip(whole, first, second, strict=True):
        assert (one == np.concatenate([before, after])).all()
    assert len(snapshot) / 20 < 2048


@pytest.mark.parametrize("damage", [b"", b"nothing", None])
def test_a_damaged_snapshot_is_refused(damage: bytes | None) -> None:
    snapshot = CountDetector(1, 60.0).snapshot()
    with pytest.raises(CountSnapshotError):
        CountDetector.restore(snapshot[:-9] if damage is None else damage)


def test_what_is_no_count_or_comes_too_early_is_refused() -> None:
    detector = CountDetector(1, 60.0)
    detector.update(MONDAY, np.array([1.0]))
    with pytest.raises(ValueError, match="come after"):
        detector.update(MONDAY, np.array([1.0]))
    with pytest.raises(ValueError, match="not negative"):
        detector.update(MONDAY + 60, np.array([-1.0]))
