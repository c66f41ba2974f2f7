"""Our detector on streams: a minute a tick, an episode as `alerts.lifecycle` keeps it."""

from __future__ import annotations

import time

import numpy as np

from alerts.panel import Panel
from alerts.rolling import COPIES, NEGATIVES, OTHERS
from alerts.settings import SurgeSettings
from alerts.surge import CALM_Z
from tests.bench.surge.streams import Streams

START_MIN = 4 * 1_440 + 2_800 * 7 * 1_440  # a Monday


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
        panel.take_in(kind, np.full(kind.size, START_MIN + at), column, now[kind, column].astype(np.int64))
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


def tick_ms(series: int = 10_000, minutes: int = 30) -> float:
    """Return the milliseconds that a minute takes when all series get an item and are judged."""
    rng, panel, columns = np.random.default_rng(0), Panel(START_MIN), np.arange(series)
    panel.append([-1] * series)
    begin = time.perf_counter()
    for _ in range(minutes):
        panel.advance()
        panel.take_in(rng.integers(0, 2, series), np.full(series, panel.minute), columns, np.ones(series, np.int64))
        panel.assess(columns, SurgeSettings().threshold_z, SurgeSettings().minimum_count)
    return 1e3 * (time.perf_counter() - begin) / minutes
