"""Many series at once: false alerts a day and surges found, with and without false-discovery control.

    python -m tests.bench.many [--series 600] [--days 3] [--table]

Streams of 5 items a day to 3 a minute (log-uniform), quiet but for planted surges: the share of negatives 12-18 %, with
a drift, a season by hour of day and a scatter from hour to hour; a surge multiplies the negatives by 2 to 10 for four
hours. The detector begins as if it had known the levels for long; its first day is not counted. An alert is over when
nothing has surged for three hours. The last line is JSON. `--table` prints what `alerts.discovery.SHIPPED` holds.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from alerts.columns import Floats
from alerts.discovery import KNOTS, LEVELS, Discovery
from alerts.panel import Panel
from alerts.rolling import NEGATIVES, OTHERS, WINDOWS_MIN
from alerts.settings import DiscoverySettings, SurgeSettings

DAY = 1_440
START_MIN = 4 * DAY + 2_800 * 7 * DAY
SIZES = (2.0, 3.0, 5.0, 10.0)
_SURGE_MIN, _OVER_MIN = 240, 180


class Streams:
    """Counts of each minute, and what is planted: a surge a series with probability `planted`, after the first day."""

    def __init__(self, series: int, days: int, planted: float, rng: np.random.Generator) -> None:
        self.rate = np.exp(rng.uniform(np.log(5 / DAY), np.log(3.0), series))
        self.base = rng.uniform(np.log(0.12 / 0.88), np.log(0.18 / 0.82), series)
        self._season, self._phase = rng.uniform(0, 0.3, series), rng.uniform(0, 2 * np.pi, series)
        self._drift = np.zeros(series)
        self._rng = rng
        self.size = np.where(rng.random(series) < planted, rng.choice(SIZES, series), 1.0)
        self.start = rng.integers(DAY, days * DAY - _SURGE_MIN, series)
        self._odds = np.zeros(series)

    def minute(self, at: int) -> tuple[Floats, Floats]:
        """Return negatives and others [series]."""
        rng = self._rng
        if at % 60 == 0:
            self._drift = 0.99 * self._drift + rng.normal(0, 0.12 / np.sqrt(24), self.rate.size)
            season = self._season * np.sin(2 * np.pi * at / DAY + self._phase)
            self._odds = np.exp(self.base + self._drift + season + rng.normal(0, 0.15, self.rate.size))
        volume = self.rate * (0.4 + 1.2 * max(0.0, np.sin(2 * np.pi * at / DAY)))
        share = self._odds / (1 + self._odds)
        gain = np.where((at >= self.start) & (at < self.start + _SURGE_MIN), self.size, 1.0)
        return rng.poisson(volume * share * gain), rng.poisson(volume * (1 - share))


def known(panel: Panel, streams: Streams) -> None:
    """Let the detector know levels, seasons aside, as after weeks."""
    share = 1 / (1 + np.exp(-streams.base))
    items = streams.rate * 60 * 72
    panel.baseline.negatives[:] = items * share
    panel.baseline.others[:] = items * (1 - share)
    panel.baseline.weight[:] = 2_000.0
    panel.baseline.excess[:] = 2_000.0 * 0.04
    panel.volume.level[0] = streams.rate * 60 * 200
    panel.volume.level[1] = 200.0


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=600)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--planted", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    series, days = arguments.series, arguments.days
    begun = time.perf_counter()
    settings = SurgeSettings()
    streams = Streams(
        series, days, 0.0 if arguments.table else arguments.planted, np.random.default_rng(arguments.seed)
    )
    panel = Panel(START_MIN - 1)
    panel.append([-1] * series)
    known(panel, streams)
    parents = np.full(series, -1, dtype=np.int32)
    rules = {name: Discovery(DiscoverySettings(on=name == "on"), settings.threshold_z) for name in ("on", "off")}
    last = {name: np.full(series, -(10**6)) for name in rules}  # when each series last surged in an open alert
    opened: dict[str, list[tuple[int, int]]] = {name: [] for name in rules}
    peaks, levels, hours = np.full(series, -np.inf), np.zeros(series, dtype=np.int64), []
    for at in range(days * DAY):
        negatives, others = streams.minute(at)
        panel.advance()
        kinds = np.concatenate([np.full(np.count_nonzero(n), k) for k, n in ((NEGATIVES, negatives), (OTHERS, others))])
        columns = np.concatenate([np.flatnonzero(negatives), np.flatnonzero(others)])
        counts = np.concatenate([negatives[negatives > 0], others[others > 0]]).astype(np.int64)
        panel.take_in(kinds, np.full(kinds.size, START_MIN + at), columns, counts)
        touched = np.flatnonzero(negatives)
        seen = panel.assess(touched, settings.threshold_z, settings.minimum_count)
        day = seen.observed[len(WINDOWS_MIN) - 1]
        if at % 60 == 0:
            if at > DAY:
                hours.append(np.stack([peaks, levels])[:, np.isfinite(peaks)])
            peaks[:] = -np.inf
        peaks[touched], levels[touched] = np.maximum(peaks[touched], seen.strength), day
        for name, rule in rules.items():
            running = at - last[name] < _OVER_MIN
            fresh = ~running[touched]
            rule.observe(
                START_MIN + at, touched[fresh], seen.strength[fresh], day[fresh], running, learn=at >= DAY // 2
            )
            for column in np.flatnonzero(seen.strength >= settings.threshold_z):
                one = int(touched[column])
                if fresh[column]:
                    p = rule.p_value(float(seen.strength[column]), int(day[column]))
                    if p > rule.limit(parents):
                        continue
                    rule.opened()
                    if at >= DAY:
                        opened[name].append((one, at))
                last[name][one] = at
    if arguments.table:
        peak, negatives_a_day = np.concatenate(hours, axis=1)
        level = np.searchsorted(np.array(LEVELS), negatives_a_day, side="right")
        for number in range(len(LEVELS) + 1):
            mine = peak[level == number]
            print(f"level {number}, {mine.size} hours:", *(f"{(mine >= knot).mean():.5f}" for knot in KNOTS))
        return
    planted = np.flatnonzero(streams.size > 1)
    result = {"series": series, "days": days - 1, "planted": int(planted.size), "seconds": 0.0}
    for name, found in opened.items():
        hit = {one for one, at in found if streams.size[one] > 1 and 0 <= at - streams.start[one] < _SURGE_MIN + 60}
        false = sum(not (streams.size[o] > 1 and 0 <= at - streams.start[o] < _SURGE_MIN + 60) for o, at in found)
        strong = planted[streams.size[planted] >= 5]
        result[name] = {
            "false_a_day": round(false / (days - 1), 2),
            "false_share": round(false / max(1, len(found)), 3),
            "expected_false_share": round(rules[name].expected_false_share, 3),
            "found": round(len(hit) / max(1, planted.size), 3),
            "found_5x": round(len(hit & set(strong.tolist())) / max(1, strong.size), 3),
        }
    result["seconds"] = round(time.perf_counter() - begun, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
