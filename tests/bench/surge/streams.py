"""Streams of items with planted surges and harmless events: minute counts [series, minute].

The volume follows a real stream: the counts of a stretch of it, smoothed so that about seven items stand behind each
value, scaled to the level wanted, and drawn anew (Poisson). Times of day, weekends and bursts are thus its own. Labels
are drawn: odds of a share of 12-18 % that drift (0.12 a day), have a season by hour of day (up to ±30 %) and scatter
from hour to hour (15 %).
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DAY = 1_440
SIZES = (1.5, 2.0, 3.0, 5.0, 10.0)
SHAPES = ("step", "ramp", "pulse")
HARMLESS = ("volume x3", "outage", "reprint storm", "daily peak", "earnings season", "market-wide volume")
_BEHIND = 7  # real items behind a value of the volume
_UNSEEN_COPIES, _NEAR_COPIES = 0.05, 0.8

Counts = NDArray[np.int32]


@dataclass(frozen=True)
class Event:
    """Something planted: minutes from `start` to `end`; `size` is 0 when it is harmless."""

    series: int
    start: int
    end: int
    kind: str
    size: float = 0.0


@dataclass(frozen=True)
class Streams:
    """Counts [series, minute] of one level (items a minute), and what was planted in them; it begins on a Monday.

    `near` of the negatives are copies that only their words tell.
    """

    level: float
    negatives: Counts
    others: Counts
    copies: Counts
    near: Counts
    events: tuple[Event, ...] = ()


def real_stream(path: Path) -> list[NDArray[np.int32]]:
    """Return minute counts [minute] of all items and of the five busiest tickers, from a Monday on."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = [(row["created_at_utc"], row["ticker"]) for row in csv.DictReader(lines)]
    minutes = np.array([int(datetime.fromisoformat(at).timestamp()) // 60 for at, _ in rows])
    tickers = np.array([ticker for _, ticker in rows])
    names, sizes = np.unique(tickers, return_counts=True)
    begin = (minutes.min() // DAY + 3) // 7 * 7 * DAY - 3 * DAY
    chosen = [np.ones(len(rows), dtype=bool)] + [tickers == name for name in names[np.argsort(-sizes)][:5]]
    return [np.bincount(minutes[mask] - begin, minlength=minutes.max() - begin + 1).astype(np.int32) for mask in chosen]


def own_stream(rng: np.random.Generator, days: int = 364) -> list[NDArray[np.int32]]:
    """Return minute counts [minute] of a process of our own: working hours, weekends, bursts that decay in an hour."""
    at = np.arange(days * DAY)
    hours, weekend = at % DAY / 60, at // DAY % 7 >= 5
    usual = (0.3 + np.exp(-(((hours - 15) / 4) ** 2)) * 1.2) * np.where(weekend, 0.4, 1.0) * 0.11
    bursts = np.zeros(at.size)
    for start in rng.integers(0, at.size, days * 3):
        length = min(240, at.size - start)
        bursts[start : start + length] += rng.pareto(2.0) * 0.2 * np.exp(-np.arange(length) / 60)
    return [rng.poisson(usual + bursts).astype(np.int32)]


def make(
    real: list[NDArray[np.int32]], level: float, series: int, days: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the volume expected [series, minute] and the share of negatives."""
    length = days * DAY
    volume = np.empty((series, length))
    for number in range(series):
        counts = real[number % len(real)]
        width = int(np.clip(_BEHIND / counts.mean(), 30, 720))
        while True:
            week = rng.integers(0, max(1, (len(counts) - length) // (7 * DAY)))
            local = np.convolve(counts[week * 7 * DAY :][:length], np.ones(width) / width, "same")
            if local.mean() > counts.mean() / 2:  # the file has gaps
                break
        volume[number] = 0.15 + 0.85 * local / local.mean()
    volume *= level / volume.mean(axis=1, keepdims=True)
    base = rng.uniform(0.12, 0.18, (series, 1))
    drift = np.repeat(np.cumsum(rng.normal(0, 0.12 / np.sqrt(24), (series, days * 24)), axis=1), 60, axis=1)
    season = rng.uniform(0, 0.3, (series, 1)) * np.sin(
        2 * np.pi * (np.arange(length) / DAY + rng.uniform(size=(series, 1)))
    )
    scatter = np.repeat(rng.normal(0, 0.15, (series, days * 24)), 60, axis=1)
    low, high = np.log(0.12 / 0.88), np.log(0.18 / 0.82)
    drifted = np.log(base / (1 - base)) + drift
    drifted = low + np.abs((drifted - low) % (2 * (high - low)) - (high - low))  # between 12 and 18 %, by reflection
    odds = np.exp(drifted + season + scatter)
    return volume, odds / (1 + odds)


def quiet(real: list[NDArray[np.int32]], level: float, series: int, days: int, rng: np.random.Generator) -> Streams:
    """Return streams in which nothing was planted."""
    volume, share = make(real, level, series, days, rng)
    negatives, others = rng.poisson(volume * share), rng.poisson(volume * (1 - share))
    none = np.zeros_like(others, dtype=np.int32)
    return Streams(level, negatives.astype(np.int32), others.astype(np.int32), none, none)


def lengths(level: float) -> dict[str, int]:
    """Return for how many minutes a surge of each shape lasts: at three items a day, days."""
    scale = 1 if level >= 0.1 else 12
    return {"step": 240 * scale, "ramp": 240 * scale, "pulse": 60 * scale}


def surging(
    real: list[NDArray[np.int32]], level: float, series: int, days: int, first_day: int, rng: np.random.Generator
) -> Streams:
    """Return streams with surges: negatives times a size; a ramp rises for a quarter of its time."""
    volume, share = make(real, level, series, days, rng)
    gain = np.ones_like(volume)
    events = []
    spacing = DAY + 7 * 60 if level >= 0.1 else 9 * DAY
    plan = [(size, shape) for size in SIZES for shape in SHAPES]
    number = int(rng.integers(len(plan)))
    for row in range(series):
        start = first_day * DAY + int(rng.integers(spacing))
        while True:
            size, shape = plan[number % len(plan)]
            length = lengths(level)[shape]
            if start + length > days * DAY:
                break
            rise = np.minimum(1, np.arange(1, length + 1) / (length / 4)) if shape == "ramp" else np.ones(length)
            gain[row, start : start + length] = 1 + (size - 1) * rise
            events.append(Event(row, start, start + length, shape, size))
            number += 1
            start += spacing + int(rng.integers(240))
    negatives, others = rng.poisson(volume * share * gain), rng.poisson(volume * (1 - share))
    none = np.zeros_like(others, dtype=np.int32)
    return Streams(level, negatives.astype(np.int32), others.astype(np.int32), none, none, tuple(events))


def harmless(
    real: list[NDArray[np.int32]], level: float, series: int, days: int, first_day: int, rng: np.random.Generator
) -> Streams:
    """Return streams with one kind of harmless event each, in turn, the share unchanged."""
    volume, share = make(real, level, series, days, rng)
    storm = np.zeros_like(volume)
    events = []
    for row in range(series):
        kind = HARMLESS[row % len(HARMLESS)]
        if kind == "earnings season":
            begin = first_day * DAY
            volume[row, begin : begin + 7 * DAY] *= 3
            events += [Event(row, day * DAY, day * DAY + 240, kind) for day in range(first_day, first_day + 7)]
            continue
        start = first_day * DAY + (int(rng.integers(DAY)) if kind != "market-wide volume" else 15 * 60)
        for day in range(days):
            at = slice(day * DAY + 14 * 60, day * DAY + 16 * 60)
            if kind == "daily peak":
                volume[row, at] *= 4
        while start + 360 < days * DAY:
            if kind == "volume x3":
                volume[row, start : start + 240] *= 3
            elif kind == "outage":
                volume[row, start : start + 240] = 0
            elif kind == "reprint storm":
                storm[row, start : start + 120] = max(0.5, volume[row].mean() * 0.5)
            elif kind == "market-wide volume":
                volume[row, start : start + 240] *= 5
            else:
                start = start // DAY * DAY + 14 * 60
            events.append(Event(row, start, start + 300, kind))
            start += DAY + (0 if kind in ("daily peak", "market-wide volume") else int(rng.integers(60, 240)))
    copies = rng.poisson(storm)
    unseen = rng.binomial(copies, _UNSEEN_COPIES)
    negatives, others = rng.poisson(volume * share) + unseen, rng.poisson(volume * (1 - share))
    near = np.random.default_rng(0).binomial(unseen, _NEAR_COPIES).astype(np.int32)
    copies = (copies - unseen).astype(np.int32)
    return Streams(level, negatives.astype(np.int32), others.astype(np.int32), copies, near, tuple(events))
