"""Many series at once: false alerts a day, surges found, and how p-values hold, with and without control.

    python -m tests.bench.many [--series 400] [--days 6] [--planted 0.01] [--share 0.1] [--tolerated 0 1 2 4]
    python -m tests.bench.many --planted 0 [--series 10000] [--table]

Streams of 5 items a day to 30 a minute (log-uniform), quiet but for planted surges: the share of negatives 12-18 %,
with a drift, a season by hour of day and a scatter from hour to hour; a surge multiplies the negatives by 2 to 10 for
four hours. The detector begins as if it had known the levels for long, and learns for three days, which do not count.
An alert is over when nothing has surged for three hours. Without planted surges (`--planted 0`) it is also printed how
often a quiet series comes to a p-value anew in an hour, over that p-value: 1 is what it should be.
The last line is JSON. `--table` prints what `alerts.discovery.SHIPPED` holds.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise

import numpy as np
from rich.console import Console
from rich.table import Table

from alerts.columns import Bools, Ints
from alerts.discovery import KNOTS, LEVELS, Discovery
from alerts.judgement import CALM_Z
from alerts.panel import Panel, Strengths
from alerts.rolling import NEGATIVES, OTHERS, WINDOWS_MIN, Arrivals
from alerts.settings import DiscoverySettings, SurgeSettings

DAY = 1_440
START_MIN = 4 * DAY + 2_800 * 7 * DAY
SIZES = (2.0, 3.0, 5.0, 10.0)
RATES = (0.1, 1.0, 10.0)
"""Items a minute between the columns of the table."""
NOMINAL = (1e-2, 1e-3, 1e-4)
_LEARN_DAYS = 3
_SURGE_MIN, _OVER_MIN, _CALM_MIN = 240, 180, 60


class Streams:
    """Counts of each minute, and what is planted: surges of a series begin with `planted` a day, once learnt."""

    def __init__(self, series: int, days: int, planted: float, rng: np.random.Generator) -> None:
        self.rate = np.exp(rng.uniform(np.log(5 / DAY), np.log(30.0), series))
        self.base = rng.uniform(np.log(0.12 / 0.88), np.log(0.18 / 0.82), series)
        self._season, self._phase = rng.uniform(0, 0.3, series), rng.uniform(0, 2 * np.pi, series)
        self._drift = np.zeros(series)
        self._rng = rng
        self.size = np.where(rng.random(series) < planted * days, rng.choice(SIZES, series), 1.0)
        self.start = rng.integers(_LEARN_DAYS * DAY, (_LEARN_DAYS + days) * DAY - _SURGE_MIN, series)
        self._odds = np.zeros(series)

    def minute(self, at: int) -> tuple[Ints, Ints]:
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

    def surges(self, column: int, at: int) -> bool:
        """Say whether an alert at that minute is about what was planted."""
        return bool(self.size[column] > 1) and 0 <= at - self.start[column] < _SURGE_MIN + 60


class Rule:
    """One setting of the control, what is open under it, and what it opened."""

    def __init__(self, settings: DiscoverySettings, threshold: float, series: int) -> None:
        self.discovery = Discovery(settings, threshold)
        self.opened: list[tuple[int, int]] = []
        self.claimed: list[float] = []
        self._last = np.full(series, -(10**6))  # when each series last surged in an open alert
        self._threshold = threshold
        self._no_parents = np.full(series, -1, dtype=np.int32)

    def step(self, at: int, touched: Ints, seen: Strengths) -> None:
        """Test what was judged in a minute, and open alerts."""
        day, rule = seen.observed[len(WINDOWS_MIN) - 1], self.discovery
        running = at - self._last < _OVER_MIN
        fresh = ~running[touched]
        rule.observe(START_MIN + at, touched[fresh], seen.strength[fresh], day[fresh], running, learn=at >= DAY)
        limit: float | None = None
        for column in np.flatnonzero(seen.strength >= self._threshold):
            one = int(touched[column])
            if fresh[column]:
                p = rule.p_value(float(seen.strength[column]), int(day[column]))
                limit = rule.limit(self._no_parents) if limit is None else limit
                if p > limit:
                    continue
                rule.opened()
                limit = None
                if at >= _LEARN_DAYS * DAY:
                    self.opened.append((one, at))
            self._last[one] = at
        if at >= _LEARN_DAYS * DAY and at % 60 == 0:
            self.claimed.append(rule.expected_false_share)

    def figures(self, streams: Streams, days: int) -> dict[str, object]:
        """Return false alerts and what was found, of surges of 3x and more by items a minute, too."""
        hit = {one for one, at in self.opened if streams.surges(one, at)}
        false = sum(not streams.surges(one, at) for one, at in self.opened)
        band = np.searchsorted(np.array(RATES), streams.rate)
        found = np.isin(np.arange(streams.rate.size), sorted(hit))

        def part(mask: Bools) -> float | None:
            return round(float(found[mask].mean()), 3) if mask.any() else None

        return {
            "false_a_day": round(false / days, 2),
            "false_share": round(false / max(1, len(self.opened)), 3),
            "expected_false_share": round(float(np.mean(self.claimed)), 3),
            "found": part(streams.size > 1),
            "found_3x_by_rate": [part((streams.size >= 3) & (band == each)) for each in range(len(RATES) + 1)],
            "found_2x_from_1_a_min": part((streams.size == 2) & (streams.rate >= 1)),
        }


class Excursions:
    """How often quiet series come to a p-value, or to a strength, anew in an hour; over when calm for an hour."""

    def __init__(self, series: int) -> None:
        self.p_hits = np.zeros(len(NOMINAL))
        self._inside = np.zeros((len(NOMINAL), series), dtype=bool)
        self._lively = np.full(series, -(10**6))
        self.knot_hits, self.hours = np.zeros((len(LEVELS) + 1, len(KNOTS))), np.zeros(len(LEVELS) + 1)
        self._peaks, self._level = np.full(series, -np.inf), np.zeros(series, dtype=np.int64)
        self._before = np.zeros(series)

    def step(self, at: int, touched: Ints, seen: Strengths, rule: Discovery) -> None:
        """Take in a minute."""
        if at % 60 == 0:
            self._end_hour(counted=at > _LEARN_DAYS * DAY)
        day = seen.observed[len(WINDOWS_MIN) - 1]
        self._peaks[touched] = np.maximum(self._peaks[touched], seen.strength)
        self._level[touched] = np.searchsorted(np.array(LEVELS), day, side="right")
        self._lively[touched[seen.strength >= CALM_Z]] = at
        self._inside &= at - self._lively < _CALM_MIN
        high = seen.strength >= 2
        columns, p = touched[high], rule.p_values(seen.strength[high], day[high])
        for number, nominal in enumerate(NOMINAL):
            now = columns[p <= nominal]
            if at >= _LEARN_DAYS * DAY:
                self.p_hits[number] += np.count_nonzero(~self._inside[number, now])
            self._inside[number, now] = True

    def over_nominal(self) -> dict[float, float]:
        """Return how often series came to each p-value, over how often they should."""
        due = self.hours.sum() * np.array(NOMINAL)
        return dict(zip(NOMINAL, (self.p_hits / due).tolist(), strict=True))

    def _end_hour(self, *, counted: bool) -> None:
        tested = np.isfinite(self._peaks)
        if counted:
            for level in range(len(LEVELS) + 1):
                mine = tested & (self._level == level)
                self.hours[level] += mine.sum()
                came = (self._peaks[mine, None] >= np.array(KNOTS)) & (self._before[mine, None] < np.array(KNOTS))
                self.knot_hits[level] += came.sum(axis=0)
        self._before = np.maximum(self._before - 0.125, np.where(tested, self._peaks, 0))
        self._peaks[:] = -np.inf


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


def run(
    series: int, days: int, planted: float, controls: dict[str, DiscoverySettings], seed: int
) -> tuple[Streams, dict[str, Rule], Excursions]:
    """Judge streams under each control; of excursions the p-values are the last control's."""
    settings = SurgeSettings()
    streams = Streams(series, days, planted, np.random.default_rng(seed))
    panel = Panel(START_MIN - 1)
    panel.append([-1] * series)
    known(panel, streams)
    rules = {name: Rule(control, settings.threshold_z, series) for name, control in controls.items()}
    last, excursions = list(rules.values())[-1], Excursions(series)
    for at in range((_LEARN_DAYS + days) * DAY):
        negatives, others = streams.minute(at)
        panel.advance()
        kinds = np.concatenate([np.full(np.count_nonzero(n), k) for k, n in ((NEGATIVES, negatives), (OTHERS, others))])
        columns = np.concatenate([np.flatnonzero(negatives), np.flatnonzero(others)])
        counts = np.concatenate([negatives[negatives > 0], others[others > 0]]).astype(np.int64)
        panel.take_in(Arrivals(kinds, np.full(kinds.size, START_MIN + at), columns, counts))
        touched = np.flatnonzero(negatives)
        seen = panel.assess(touched, settings.threshold_z, settings.minimum_count)
        for rule in rules.values():
            rule.step(at, touched, seen)
        excursions.step(at, touched, seen, last.discovery)
    return streams, rules, excursions


def show(result: dict[str, dict[str, object]], console: Console) -> None:
    """Print the frontier."""
    table = Table(title="Found, and false alerts, by how many false ones a day are tolerated beside the share")
    rates = ["< 0.1", *(f"{low:g}-{high:g}" for low, high in pairwise(RATES)), f"> {RATES[-1]:g}"]
    columns = ("control", "false a day", "false share", "claimed", "found", "2x, > 1/min")
    for name in (*columns, *(f"3x, {rate}/min" for rate in rates)):
        table.add_column(name, justify="right")
    for name, row in result.items():
        plain = [row["false_a_day"], row["false_share"], row["expected_false_share"], row["found"]]
        by_rate = row["found_3x_by_rate"]
        assert isinstance(by_rate, list)
        table.add_row(name, *map(str, [*plain, row["found_2x_from_1_a_min"], *by_rate]))
    console.print(table)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=400)
    parser.add_argument("--days", type=int, default=6, help="days that count")
    parser.add_argument("--planted", type=float, default=0.01, help="surges a series and day")
    parser.add_argument("--share", type=float, default=DiscoverySettings().share)
    parser.add_argument("--tolerated", type=float, nargs="+", default=[DiscoverySettings().tolerated_a_day])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    series, days, begun = arguments.series, arguments.days, time.perf_counter()
    controls = {"off": DiscoverySettings(on=False)} | {
        f"{each:g} a day": DiscoverySettings(share=arguments.share, tolerated_a_day=each)
        for each in arguments.tolerated
    }
    streams, rules, excursions = run(series, days, arguments.planted, controls, arguments.seed)
    result = {name: rule.figures(streams, days) for name, rule in rules.items()}
    summary: dict[str, object] = {"series": series, "days": days, "planted": int((streams.size > 1).sum())}
    if not arguments.planted:
        summary["hours"] = int(excursions.hours.sum())
        summary["p_over_nominal"] = {f"{at:g}": round(share, 2) for at, share in excursions.over_nominal().items()}
        for level, hits in enumerate(excursions.knot_hits if arguments.table else []):
            of = excursions.hours[level]
            print(f"level {level}, {of:.0f} hours:", *(f"{hit / of:.2g}" for hit in hits))
    show(result, Console(width=150))
    print(json.dumps(summary | result | {"seconds": round(time.perf_counter() - begun, 1)}))


if __name__ == "__main__":
    main()
