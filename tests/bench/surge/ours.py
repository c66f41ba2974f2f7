"""Our detector on streams: a minute a tick, an episode as `alerts.lifecycle` keeps it."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from alerts.discovery import Discovery
from alerts.judgement import CALM_Z, Judgement
from alerts.lifecycle import Lifecycle
from alerts.metrics import AlertsMetrics
from alerts.panel import Panel
from alerts.rolling import COPIES, NEGATIVES, OTHERS, WINDOWS_MIN, Arrivals
from alerts.series import MARKET
from alerts.settings import AlertsSettings, SurgeSettings
from alerts.surge import Detector
from alerts.windows import COPY, NEGATIVE, Count, WindowItem
from tests.bench.surge.streams import Streams

START_MIN = 4 * 1_440 + 2_800 * 7 * 1_440  # a Monday
_LISTED = 20


def alarms(streams: Streams, settings: SurgeSettings | None = None) -> list[tuple[int, int]]:
    """Return series and minute of each episode that opens."""
    settings = settings or SurgeSettings()
    panel = Panel(START_MIN - 1)
    series, length = streams.negatives.shape
    panel.append([-1] * series)
    calm = np.zeros(series, dtype=np.int64)
    found = []
    kinds = {NEGATIVES: streams.negatives, OTHERS: streams.others, COPIES: streams.copies}
    for at in range(length):
        panel.advance()
        now = np.stack([kinds[kind][:, at] for kind in range(3)])
        kind, column = np.nonzero(now)
        panel.take_in(Arrivals(kind, np.full(kind.size, START_MIN + at), column, now[kind, column].astype(np.int64)))
        running = panel.episodes.opened > 0
        judged = np.flatnonzero(running | (now[NEGATIVES] > 0))
        if not judged.size or at < settings.warm_up_h * 60:
            continue
        seen = panel.assess(judged, settings.threshold_z, settings.minimum_count)
        fires = np.flatnonzero((seen.strength >= settings.threshold_z) & ~running[judged])
        found += [(int(column), at) for column in judged[fires]]
        panel.open(judged[fires], seen.best[fires])
        calm[judged[fires]] = 0
        quiet = (seen.recent_z < CALM_Z) & ~panel.volume.missing()[judged]
        calm[judged] = np.where(quiet, calm[judged] + 1, np.where(panel.volume.missing()[judged], calm[judged], 0))
        for column in judged[running[judged] & (calm[judged] >= settings.calm_min)]:
            panel.close(np.array([column]), settings.calm_min)
    return found


def by_window(streams: Streams) -> NDArray[np.float64]:
    """Return z [window, series, minute] of each window by itself, with nothing opened; -9 where it has too few."""
    panel = Panel(START_MIN - 1)
    series, length = streams.negatives.shape
    panel.append([-1] * series)
    columns, kinds = np.arange(series), np.repeat([NEGATIVES, OTHERS], series)
    found = np.empty((len(WINDOWS_MIN), series, length))
    for at in range(length):
        panel.advance()
        counts = np.concatenate([streams.negatives[:, at], streams.others[:, at]]).astype(np.int64)
        some = np.flatnonzero(counts)
        panel.take_in(Arrivals(kinds[some], np.full(some.size, START_MIN + at), some % series, counts[some]))
        seen = panel.assess(columns, np.inf, SurgeSettings().minimum_count)
        found[:, :, at] = np.where(seen.usable, seen.z, -9.0)
    return found


def shipped(streams: Streams, settings: AlertsSettings | None = None) -> list[tuple[int, int]]:
    """Return series and minute of each alert as alerting opens it: with control, publishers and families.

    The streams are the companies of one market. An alert that names a company counts for it, a move of it anew; one on
    the market for none, but it counts for the companies that it explains.
    """
    settings = settings or AlertsSettings()
    detector = Detector(settings.surge)
    discovery = Discovery(settings.discovery, settings.surge.threshold_z)
    lifecycle = Lifecycle(settings, detector, discovery, AlertsMetrics(CollectorRegistry()))
    names = [f"company=C{row}" for row in range(len(streams.negatives))]
    rows = {name: row for row, name in enumerate(names)}
    labels = {NEGATIVE: streams.negatives, "neutral": streams.others, COPY: streams.copies}
    evidence = partial(_stories, streams)
    found, named = [], set[str]()
    for at in range(streams.negatives.shape[1]):
        minute, counts = START_MIN + at, dict[Count, int]()
        for label, table in labels.items():
            for row in np.flatnonzero(table[:, at]):
                counts[names[row], minute, label] = int(table[row, at])
            if total := int(table[:, at].sum()):
                counts[MARKET, minute, label] = total
        judgements = detector.update(minute, counts)
        tested = detector.tested
        discovery.observe(
            minute,
            tested.columns,
            tested.strengths,
            tested.negatives,
            detector.in_episode(),
            learn=not detector.warming_up(),
        )
        lifecycle.step(minute, judgements, evidence)
        told = {name for episode in lifecycle.episodes for name in {*episode.excess, *episode.explained} - {MARKET}}
        found += [(rows[name], at) for name in sorted(told - named)]
        named = told
    return found


def _stories(streams: Streams, judgement: Judgement) -> list[WindowItem]:
    """Return the stories observed, as far as lists of evidence hold them, of two publishers in turn.

    Copies that only their words tell have one headline, but for a word; the others no word in common.
    """
    companies: tuple[str, ...] = ()
    rows: int | slice = slice(None)
    if judgement.series != MARKET:
        companies = (judgement.series.removeprefix("company="),)
        rows = int(companies[0].removeprefix("C"))
    upto, at_s = judgement.minute - START_MIN + 1, judgement.minute * 60.0
    near = int(streams.near[rows, max(0, upto - judgement.window_min) : upto].sum())
    listed = min(judgement.observed, _LISTED)
    copies = round(listed * min(1.0, near / judgement.observed))
    return [
        WindowItem(
            offset=number,
            id=f"{number:03}",
            story=f"{judgement.minute}-{number}",
            seen_at=at_s,
            published_at=at_s,
            sentiment=NEGATIVE,
            negative=0.9,
            topic="Other",
            companies=companies,
            publisher=f"Publisher {number % 2}",
            source="bench",
            title=" ".join(_reprint(number) if number < copies else _distinct(number)),
            url="",
        )
        for number in range(listed)
    ]


def _reprint(number: int) -> list[str]:
    return ["lender", "halts", "withdrawals", "after", "regulator", "freezes", "deposits", chr(97 + number) * 4]


def _distinct(number: int) -> list[str]:
    return [start + chr(97 + number) * 4 for start in ("ab", "ce", "do", "fu")]


def tick_ms(series: int = 10_000, minutes: int = 30) -> float:
    """Return the milliseconds that a minute takes when all series get an item and are judged."""
    rng, panel, columns = np.random.default_rng(0), Panel(START_MIN), np.arange(series)
    panel.append([-1] * series)
    begin = time.perf_counter()
    for _ in range(minutes):
        panel.advance()
        panel.take_in(
            Arrivals(rng.integers(0, 2, series), np.full(series, panel.minute), columns, np.ones(series, np.int64))
        )
        panel.assess(columns, SurgeSettings().threshold_z, SurgeSettings().minimum_count)
    return 1e3 * (time.perf_counter() - begin) / minutes
