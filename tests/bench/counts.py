"""`make bench-surge`: the detector of plain counts against what a user would pick, on series with planted anomalies.

Series of five-minute counts over 55 days, from 1 to 100 a row. Half have the volume of a real stream of items (smoothed
so that about seven items stand behind each value, scaled to the level, drawn anew with scatter), half are a process of
our own: seasons of day and week, drift, and short bursts with a heavy tail. Two to four anomalies are planted in each:
bursts of hours (x2 to x10, fading), lasting shifts (x1.5 to x4, half a day to five days) and falls (to 5-40 %). Nothing
else is labelled, though the real stream has bursts of its own: its scores are low for every detector.

Scored with one threshold over all series, by the rule of the Numenta Anomaly Benchmark (Lavin and Ahmad, ICMLA 2015:
windows of a tenth of the series around the onsets, one hit a window, the earlier the better, each point outside costs
0.11), and by the share of anomalies found within a day of their onset at half a false point a week and series.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from alerts.counts import CountDetector

DAYS, STEP_S = 55, 300
DAY_ROWS = 86_400 // STEP_S
ROWS = DAYS * DAY_ROWS
BEGIN = 1_741_564_800  # a Monday
_FALSE_COST, _PROBATION = 0.11, 750
_FALSE_A_WEEK = 0.5

Counts = NDArray[np.float64]
Points = list[list[tuple[int, float]]]  # a series: row and score


def stream(path: Path) -> list[Counts]:
    """Return the counts [row] of a file of items (`created_at_utc`, `ticker`): of all, and of the five busiest."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        items = [(row["created_at_utc"], row["ticker"]) for row in csv.DictReader(lines)]
    rows = np.array([int(datetime.fromisoformat(at).timestamp()) // STEP_S for at, _ in items])
    week = 7 * DAY_ROWS
    rows -= (rows.min() - BEGIN // STEP_S) // week * week + BEGIN // STEP_S  # a Monday is row 0
    tickers = np.array([ticker for _, ticker in items])
    names, sizes = np.unique(tickers, return_counts=True)
    chosen = [rows, *(rows[tickers == name] for name in names[np.argsort(-sizes)][:5])]
    return [np.bincount(of, minlength=rows.max() + 1).astype(float) for of in chosen]


def volume_of_stream(real: list[Counts], rng: np.random.Generator) -> Counts:
    """Return the relative volume [row] of a stretch of the real stream, all of it or a busy ticker."""
    counts = real[0] if rng.random() < 0.5 else real[rng.integers(len(real))]
    width = int(np.clip(7 / counts.mean(), 6, 144))
    while True:
        begin = rng.integers((len(counts) - ROWS) // (7 * DAY_ROWS)) * 7 * DAY_ROWS
        local: Counts = np.convolve(counts[begin:][:ROWS], np.ones(width) / width, "same")
        if local.mean() > counts.mean() / 2:  # the file has gaps
            return 0.15 + 0.85 * local / local.mean()


def own_volume(rng: np.random.Generator) -> Counts:
    """Return the relative volume [row] of the process of our own."""
    at = np.arange(ROWS)
    angle = at / DAY_ROWS * 2 * np.pi
    season = rng.uniform(0.1, 0.9) * np.sin(angle + rng.uniform(0, 2 * np.pi))
    season += rng.uniform(0, 0.3) * np.sin(2 * angle + rng.uniform(0, 2 * np.pi))
    weekend = np.where((at // DAY_ROWS + rng.integers(7)) % 7 >= 5, rng.uniform(-0.7, 0), 0.0)
    wander = _wander(rng, rng.uniform(0.05, 0.25), 3 * DAY_ROWS) + _wander(rng, rng.uniform(0.05, 0.3), 24)
    volume: Counts = np.exp(season + weekend + wander)
    volume /= volume.mean()
    for start in rng.integers(0, ROWS, rng.poisson(DAYS * rng.uniform(0.3, 4))):
        length = np.arange(min(rng.integers(1, 12), ROWS - start))
        volume[start : start + length.size] += min(30, rng.pareto(1.7) / 2) * np.exp(-length / rng.uniform(0.7, 4))
    return volume


def planted(volumes: list[Counts], rng: np.random.Generator) -> tuple[Counts, list[list[tuple[int, str]]]]:
    """Return counts [series, row], and of each series the onset and kind of what was planted."""
    counts, events = np.empty((len(volumes), ROWS)), []
    for series, volume in enumerate(volumes):
        number = int(rng.integers(2, 5))
        while True:
            onsets = np.sort(rng.integers(5 * DAY_ROWS, ROWS - 2 * DAY_ROWS, number))
            if np.diff(onsets).min() > 5 * DAY_ROWS:
                break
        gain = np.ones(ROWS)
        kinds = [_plant(gain, int(onset), rng) for onset in onsets]
        scatter = rng.uniform(0.01, 0.2)
        mean = volume * gain * math.exp(rng.uniform(0, math.log(100)))
        counts[series] = rng.poisson(mean * rng.gamma(1 / scatter, scatter, ROWS))
        events.append(list(zip(onsets.tolist(), kinds, strict=True)))
    return counts, events


def ours(counts: Counts) -> Points:
    """Return the points of the detector under test."""
    detector = CountDetector(len(counts), STEP_S)
    points: Points = [[] for _ in counts]
    for row in range(ROWS):
        judged = detector.update(BEGIN + row * STEP_S, counts[:, row])
        for series in np.flatnonzero(judged.point):
            points[series].append((row, float(judged.score[series])))
    return points


def cusum(counts: Counts) -> Points:
    """CUSUM (Page, Biometrika 1954) on roots of half hours against mean and deviation of seven days."""
    roots = 2 * np.sqrt(counts.reshape(len(counts), -1, 6).sum(axis=2) + 0.375)
    total = np.zeros(len(counts))
    course = np.zeros_like(roots)
    for block in range(48, roots.shape[1]):
        past = roots[:, max(0, block - 344) : max(24, block - 8)]
        total = np.maximum(0, total + (roots[:, block] - past.mean(axis=1)) / np.maximum(past.std(axis=1), 1) - 1.5)
        course[:, block] = total
    return [_cooled(series, 3.0, 48, 6) for series in course]


def gaussian(counts: Counts) -> Points:
    """Return each row over four deviations from the mean of the seven days before, one a day."""
    width = 7 * DAY_ROWS
    sums = [np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1) for values in (counts, counts**2)]
    mean, square = ((total[:, width:-1] - total[:, : -width - 1]) / width for total in sums)
    z = np.zeros_like(counts)
    z[:, width:] = (counts[:, width:] - mean) / np.sqrt(np.maximum(square - mean**2, 1e-3))
    return [_cooled(series, 4.0, DAY_ROWS, 1) for series in z]


def nab_score(points: Points, events: list[list[tuple[int, str]]]) -> float:
    """Return the score by NAB's standard profile at the threshold that is best over all series."""
    gains = [_gains(row, event) for row, event in zip(points, events, strict=True)]
    windows = sum(map(len, events))
    best = 0.0
    for threshold in _thresholds(points):
        raw = 0.0
        for series in gains:
            hits: dict[int, float] = {}
            for score, gain, window in series:
                if score >= threshold and window is None:
                    raw += gain
                elif score >= threshold and window is not None:
                    hits[window] = max(gain + 1, hits.get(window, -math.inf))
            raw += sum(hits.values())
        best = max(best, raw)
    return 100 * best / (2 * windows)


def found(points: Points, events: list[list[tuple[int, str]]]) -> dict[str, float]:
    """Return the share of each kind found within a day at the lowest threshold with few enough false points."""
    weeks = sum(DAYS - 5 - 5 * len(event) for event in events) / 7
    for threshold in _thresholds(points):
        false, hits = 0, dict[str, list[bool]]()
        for series, event in zip(points, events, strict=True):
            rows = [row for row, score in series if score >= threshold]
            for onset, kind in event:
                hits.setdefault(kind, []).append(any(onset <= row <= onset + DAY_ROWS for row in rows))
            spans = [(0, 5 * DAY_ROWS), *((onset, onset + 5 * DAY_ROWS) for onset, _ in event)]
            false += sum(not any(a <= row <= b for a, b in spans) for row in rows)
        if false <= _FALSE_A_WEEK * weeks:
            every = [hit for kind in hits.values() for hit in kind]
            return {"all": _share(every)} | {kind: _share(hits[kind]) for kind in sorted(hits)}
    return {"all": 0.0}


def bench(data: Path | None, series: int, seed: int) -> dict[str, object]:
    """Return what each detector reaches on each kind of series."""
    rng = np.random.default_rng(seed)
    volumes = {"own": [own_volume(rng) for _ in range(series)]}
    if data is not None:
        real = stream(data)
        volumes["stream"] = [volume_of_stream(real, rng) for _ in range(series)]
    detectors: dict[str, Callable[[Counts], Points]] = {
        "newsquake": ours,
        "CUSUM": cusum,
        "windowed Gaussian": gaussian,
    }
    table: dict[str, object] = {}
    for name, of_kind in volumes.items():
        counts, events = planted(of_kind, rng)
        results = {detector: run(counts) for detector, run in detectors.items()}
        table[name] = {
            detector: {
                "nab_rule": round(nab_score(points, events), 1),
                "points_a_week": round(sum(map(len, points)) / len(points) / DAYS * 7, 2),
                "found": found(points, events),
            }
            for detector, points in results.items()
        }
    return table


def _wander(rng: np.random.Generator, sd: float, rows: float) -> Counts:
    """Return an Ornstein-Uhlenbeck process with this standard deviation and memory."""
    keep = math.exp(-1 / rows)
    noise = rng.normal(0, sd * math.sqrt(1 - keep**2), ROWS)
    noise[0] = rng.normal(0, sd)
    wander: Counts = lfilter([1], [1, -keep], noise)
    return wander


def _plant(gain: Counts, onset: int, rng: np.random.Generator) -> str:
    chance = rng.random()
    if chance < 0.6:
        size, fading = math.exp(rng.uniform(math.log(2), math.log(10))), rng.uniform(12, 72)
        length = np.arange(min(int(5 * fading), ROWS - onset))
        rise = np.minimum(1, (length + 1) / rng.integers(1, 12))
        gain[onset : onset + length.size] *= 1 + (size - 1) * rise * np.exp(-length / fading)
        return "burst"
    if chance < 0.85:
        gain[onset : onset + int(rng.uniform(0.5, 5) * DAY_ROWS)] *= math.exp(rng.uniform(math.log(1.5), math.log(4)))
        return "shift"
    gain[onset : onset + int(rng.uniform(0.25, 2) * DAY_ROWS)] *= rng.uniform(0.05, 0.4)
    return "fall"


def _cooled(course: Counts, least: float, rest: int, rows: int) -> list[tuple[int, float]]:
    """Return a point an episode: another within `rest` only where the course is twice as high."""
    points: list[tuple[int, float]] = []
    last, height = -math.inf, 0.0
    for at in np.flatnonzero(course > least):
        if at - last >= rest or course[at] > 2 * height:
            points.append(((int(at) + 1) * rows - 1, float(course[at])))
            last, height = at, float(course[at])
    return points


def _gains(points: list[tuple[int, float]], event: list[tuple[int, str]]) -> list[tuple[float, float, int | None]]:
    half = int(0.1 * ROWS / len(event) / 2)
    windows = [(onset - half, min(ROWS - 1, onset + half)) for onset, _ in event]
    gains: list[tuple[float, float, int | None]] = []
    for row, score in points:
        inside = next((number for number, (a, b) in enumerate(windows) if a <= row <= b), None)
        past = [window for window in windows if window[1] < row]
        if row < _PROBATION:
            continue
        if inside is not None:
            a, b = windows[inside]
            gains.append((score, _sigmoid(-(b - row + 1) / (b - a + 1)) / _sigmoid(-1), inside))
        elif past:
            a, b = past[-1]
            gains.append((score, _FALSE_COST * _sigmoid((row - b) / (b - a)), None))
        else:
            gains.append((score, -_FALSE_COST, None))
    return gains


def _sigmoid(place: float) -> float:
    return -1.0 if place > 3 else 2 / (1 + math.exp(5 * place)) - 1


def _thresholds(points: Points) -> list[float]:
    """Return about a hundred of the scores that occur, from the lowest on."""
    scores = sorted({score for series in points for _, score in series})
    return scores[:: max(1, len(scores) // 100)]


def _share(hits: list[bool]) -> float:
    return round(sum(hits) / len(hits), 2)
