"""`make bench-surge`: planted surges and harmless events, ours against what a user would pick instead.

    python -m tests.bench.surge [--stream tweets.csv.gz] [--series 24] [--levels 0.5,2,10] [--plot FILE.png]

Ours runs with its default settings at all levels: the detector alone, and alerting as shipped, with control of false
alerts, publishers and families (the streams of a level are the companies of one market). Each rival's threshold is
fitted, level by level, to one false alarm a week a series on the quiet streams. A surge counts as found when an alarm
begins while it lasts; a harmless run is the event and the hour after it. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from itertools import chain
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from alerts.rolling import WINDOWS_MIN
from tests.bench.surge import ours
from tests.bench.surge.rivals import RIVALS, sums
from tests.bench.surge.streams import DAY, SIZES, Event, Streams, harmless, own_stream, quiet, real_stream, surging

OURS, SHIPPED = "newsquake", "newsquake, as shipped"
LEVELS = (3 / DAY, 0.5, 2.0, 10.0, 50.0, 200.0)
_WEEK = 7 * DAY
_BIG = 3.0
Alarms = list[tuple[int, int]]  # series, minute


def joined(parts: list[Streams]) -> Streams:
    """Put streams of one level below each other."""
    negatives, others, copies, near = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("negatives", "others", "copies", "near")
    )
    events, rows = [], 0
    for part in parts:
        events += [Event(e.series + rows, e.start, e.end, e.kind, e.size) for e in part.events]
        rows += len(part.negatives)
    return Streams(parts[0].level, negatives, others, copies, near, tuple(events))


def crossings(statistic: NDArray[np.float64], threshold: float, first: int) -> Alarms:
    """Return where a statistic reaches the threshold and had not in the hour before."""
    above = statistic >= threshold
    before = sums(above, 61) - above
    rows, minutes = np.nonzero(above & (before < 0.5))
    return [(int(row), int(at)) for row, at in zip(rows, minutes, strict=True) if at >= first]


def fitted(statistic: NDArray[np.float64], first: int) -> float:
    """Return the lowest threshold above which there is nowhere more than one false alarm a week a series.

    Searched from above: below, a statistic that is always over its threshold never crosses it.
    """
    judged = statistic[:, first:]
    allowed = judged.size / _WEEK
    levels = np.unique(np.quantile(judged, 1 - np.geomspace(1 / judged.size, 0.3, 60)))[::-1]
    high = float(judged.max()) + 1e-6
    low = high
    for level in levels:
        low, high = float(level), low
        if len(crossings(statistic, low, first)) > allowed:
            break
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if len(crossings(statistic, middle, first)) > allowed else (low, middle)
    return high


def delays(alarms: Alarms, events: tuple[Event, ...]) -> list[tuple[Event, float]]:
    """Return for each event the minutes to the first alarm that begins within it; infinite without one."""
    by_series = defaultdict(list)
    for row, at in alarms:
        by_series[row].append(at)
    found = []
    for event in events:
        within = [at for at in by_series[event.series] if event.start <= at < event.end]
        found.append((event, min(within) - event.start + 1 if within else math.inf))
    return found


def measured(alarms: Alarms, streams: Streams, series: int, first: int) -> dict[str, object]:
    """Return the figures of one detector at one level; the first `series` streams are quiet."""
    found = delays(alarms, streams.events)
    weeks = series * (streams.negatives.shape[1] - first) / _WEEK
    by_size = {size: [delay for event, delay in found if event.size == size] for size in SIZES}
    runs = defaultdict(list)
    for event, delay in found:
        if not event.size:
            runs[event.kind].append(math.isinf(delay))
    return {
        "false_a_week": sum(row < series and at >= first for row, at in alarms) / weeks,
        "by_size": by_size,
        "big": [delay for size, values in by_size.items() if size >= _BIG for delay in values],
        "harmless": dict(runs),
    }


def share(delays_min: list[float]) -> float:
    """Return the part that was found."""
    return float(np.isfinite(delays_min).mean()) if delays_min else math.nan


def median(delays_min: list[float]) -> float:
    """Return the median with what was missed as infinite."""
    return float(np.median(delays_min)) if delays_min else math.nan


def cell(values: list[float]) -> str:
    """Return found and median as `98 % 6`."""
    middle = median(values)
    return f"{100 * share(values):.0f} % {'-' if math.isinf(middle) else f'{middle:.0f}'}"


def name_of(level: float) -> str:
    """Return a level as a user says it."""
    return "3 a day" if level < 0.1 else f"{level:g} a min"


def show(results: dict[float, dict[str, dict[str, object]]], console: Console) -> None:
    """Print the tables."""
    detectors = list(next(iter(results.values())))
    table = Table(title="Surges of 3x and more: found, median minutes to detect (-: more than half missed)")
    table.add_column("detector")
    sizes = Table(title="By size, over all levels from 0.5 a minute")
    sizes.add_column("detector")
    for level in results:
        table.add_column(name_of(level), justify="right")
    for size in SIZES:
        sizes.add_column(f"{size:g}x", justify="right")
    for detector in detectors:
        table.add_row(detector, *(cell(of[detector]["big"]) for of in results.values()))
        busy = [of[detector]["by_size"] for level, of in results.items() if level >= 0.1]
        pooled = {size: list(chain(*(by_size[size] for by_size in busy))) for size in SIZES}
        sizes.add_row(detector, *(cell(values) for values in pooled.values()))
    console.print(table, sizes)
    kinds = list(next(iter(results.values()))[OURS]["harmless"])
    calm = Table(title="Harmless runs without an alarm, %; false alarms a week a series of ours, by level")
    calm.add_column("detector")
    for kind in [*kinds, "all"]:
        calm.add_column(kind, justify="right")
    calm.add_column("false a week")
    for detector in detectors:
        pooled_runs = {kind: [r for of in results.values() for r in of[detector]["harmless"][kind]] for kind in kinds}
        every = [r for values in pooled_runs.values() for r in values]
        own = " ".join(f"{of[detector]['false_a_week']:.2f}" for of in results.values())
        calm.add_row(detector, *(f"{100 * np.mean(values):.1f}" for values in [*pooled_runs.values(), every]), own)
    console.print(calm)


def plot(results: dict[float, dict[str, dict[str, object]]], path: Path) -> None:
    """Draw found and median delay by level."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    names = [name_of(level) for level in results]
    for detector in next(iter(results.values())):
        ours_too = detector in (OURS, SHIPPED)
        style = {"linewidth": 2.5 if ours_too else 1, "color": "black" if ours_too else None, "marker": "."}
        big = [of[detector]["big"] for of in results.values()]
        axes[0].plot(names, [100 * share(values) for values in big], label=detector, **style)
        axes[1].plot(names, [d if math.isfinite(d := median(values)) else math.nan for values in big], **style)
    axes[0].set(title="Surges of 3x and more found, %", ylim=(0, 101))
    axes[1].set(title="Median minutes to detect", yscale="log")
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--stream", type=Path, help="tweets as CSV, gzipped: created_at_utc, ticker; else our own process"
    )
    parser.add_argument("--series", type=int, default=24, help="series of each kind and level")
    parser.add_argument("--levels", type=lambda text: tuple(map(float, text.split(","))), default=LEVELS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--alone", action="store_true", help="without the rivals")
    parser.add_argument("--windows", action="store_true", help="only each window's own threshold, on quiet streams")
    parser.add_argument("--detector", action="store_true", help="the detector only, not alerting as shipped")
    args = parser.parse_args()
    console, begin = Console(width=160), time.monotonic()
    rng = np.random.default_rng(args.seed)
    real = real_stream(args.stream) if args.stream else own_stream(rng)
    console.print("volume: " + (args.stream.name if args.stream else "a process of our own (no file given)"))
    results: dict[float, dict[str, dict[str, object]]] = {}
    seconds = minutes = 0.0
    for level in args.levels if args.windows else ():
        z = ours.by_window(quiet(real, level, args.series, 16, rng))
        alone = (f"{window} min {fitted(each, 7 * DAY):.2f}" for window, each in zip(WINDOWS_MIN, z, strict=True))
        console.print(f"{name_of(level)}, z of one false alarm a week: {', '.join(alone)}")
    if args.windows:
        return
    for level in args.levels:
        slow = level < 0.1
        series, days, first_day = (args.series // 2, 50, 14) if slow else (args.series, 16, 7)
        parts = [quiet(real, level, series, days, rng)]
        parts += [make(real, level, series, days, first_day, rng) for make in (surging, harmless)]
        streams, first = joined(parts), first_day * DAY
        started = time.monotonic()
        alarms = {OURS: ours.alarms(streams)}
        seconds, minutes = seconds + time.monotonic() - started, minutes + days * DAY
        if not args.detector:
            alarms[SHIPPED] = ours.shipped(streams)
        for name, rival in ({} if args.alone else RIVALS).items():
            statistic = rival(streams)
            threshold = fitted(statistic[:series], first)
            alarms[name] = crossings(statistic, threshold, first)
        results[level] = {name: measured(found, streams, series, first) for name, found in alarms.items()}
        console.print(f"{name_of(level)}: {time.monotonic() - begin:.0f} s")
    show(results, console)
    tick_ms = ours.tick_ms()
    console.print(
        f"ours: {1e3 * seconds / minutes:.2f} ms a minute here; with 10,000 series, all judged, {tick_ms:.0f} ms"
    )
    if args.plot:
        plot(results, args.plot)
    print(
        json.dumps(
            {
                "seconds": round(time.monotonic() - begin, 1),
                "tick_ms_10000_series": round(tick_ms, 1),
                "stream": args.stream.name if args.stream else "own process",
                "levels": {
                    name_of(level): {
                        detector: {
                            "found": round(share(figures["big"]), 3),
                            "median_min": None if math.isinf(d := median(figures["big"])) else d,
                            "false_a_week": round(figures["false_a_week"], 2),
                            "quiet_in_harmless": round(float(np.mean(list(chain(*figures["harmless"].values())))), 3),
                        }
                        for detector, figures in of.items()
                    }
                    for level, of in results.items()
                },
            }
        )
    )


if __name__ == "__main__":
    main()
