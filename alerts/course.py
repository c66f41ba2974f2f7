"""The course of a series: what was seen of late, in bins, each with what the baseline expected of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.columns import Counts, Floats, Ints
from alerts.negbin import central_intervals
from alerts.rolling import NEGATIVES, OTHERS, WINDOWS_MIN

if TYPE_CHECKING:
    from alerts.surge import Detector


class Bin(msgspec.Struct, frozen=True):
    """`span_min` minutes from the minute `start` on: what was seen, and the middle 95 % of what was expected."""

    start: int
    span_min: int
    negatives: int
    others: int
    expected: float
    low: int
    high: int


encode_bin = msgspec.msgpack.Encoder().encode
decode_bin = msgspec.msgpack.Decoder(Bin).decode


def lately(ring: NDArray[Any], now: int, columns: Ints, slots: int) -> Counts:
    """Return the counts [kind, bin, series] that a ring of `alerts.rolling` holds, in bins of `slots` of its slots.

    `now` is the number of the slot under way. Bins begin at full multiples; the oldest comes first.
    """
    bins = ring.shape[1] // slots
    at = (now // slots - bins + 1) * slots + np.arange(bins * slots)
    counts = ring[:, (at % ring.shape[1])[:, None], columns].astype(np.int32)
    counts[:, at > now] = 0
    together: Counts = counts.reshape(counts.shape[0], bins, slots, len(columns)).sum(axis=2)
    return together


def course(detector: Detector, series: str, latest: int = 0) -> list[Bin]:
    """Return what a tracked series saw in bins of 5, 15 and 60 minutes: the last hour, 4 hours and day.

    `latest` bins of each length, or all when it is 0. The last of each is under way.
    """
    rolling, minute = detector.panel.rolling, detector.minute
    one = np.array([detector.names.index(series)])
    rings: tuple[tuple[int, NDArray[Any], int], ...] = (
        (5, rolling.minutes, 1),
        (15, rolling.quarters, 15),
        (60, rolling.hours, 60),
    )
    found: list[Bin] = []
    for span, ring, step in rings:
        counts = lately(ring, minute // step, one, span // step)[:, -latest:]
        starts = starts_of(minute, span, counts.shape[1])
        mean, low, high = expected(detector, span, starts, one, counts[OTHERS])
        found += [
            Bin(
                start=int(starts[n]),
                span_min=span,
                negatives=int(counts[NEGATIVES, n, 0]),
                others=int(counts[OTHERS, n, 0]),
                expected=round(float(mean[n, 0]), 2),
                low=int(low[n, 0]),
                high=int(high[n, 0]),
            )
            for n in range(len(starts))
        ]
    return found


def starts_of(minute: int, span: int, bins: int) -> Ints:
    """Return the minutes at which so many bins of `span` minutes begin; the last is under way at `minute`."""
    starts: Ints = (minute // span - np.arange(bins)[::-1]) * span
    return starts


def expected(
    detector: Detector, span: int, starts: Ints, columns: Ints, others: Counts
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Return the negatives expected beside `others` [bin, series] in bins of `span` minutes, and their middle 95 %.

    That is as the baseline has it now, scattering as in a window of that length, or in the shortest there is.
    """
    baseline, window = detector.panel.baseline, WINDOWS_MIN.index(max(span, WINDOWS_MIN[0]))
    # A bin's season at its middle, as the baseline draws it.
    factor = np.stack([baseline.factor(int(start) + span // 2, columns) for start in starts])
    items = others + 0.5
    mean = baseline.odds[columns] * factor * items
    inverse = 1 / items + baseline.dispersion[window, columns] + baseline.uncertainty[columns]
    return mean, *central_intervals(mean, 1 / inverse)
