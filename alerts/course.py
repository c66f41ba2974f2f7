"""The course of a series: what was seen of late, in bins, each with what the baseline expected of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.columns import Counts, Ints
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
    rolling, baseline, minute = detector.panel.rolling, detector.panel.baseline, detector.minute
    column = detector.names.index(series)
    one = np.array([column])
    rings: tuple[tuple[int, NDArray[Any], int], ...] = (
        (5, rolling.minutes, 1),
        (15, rolling.quarters, 15),
        (60, rolling.hours, 60),
    )
    found: list[Bin] = []
    for span, ring, step in rings:
        window = WINDOWS_MIN.index(span)
        counts = lately(ring, minute // step, one, span // step)[:, -latest:, 0]
        starts = (minute // span - np.arange(counts.shape[1])[::-1]) * span
        others = counts[OTHERS].astype(np.float64)
        # An hour's season at its middle, as the baseline draws it.
        factor = np.array([baseline.factor(int(start) + span // 2, one)[0] for start in starts])
        mean = baseline.odds[column] * factor * (others + 0.5)
        inverse = 1 / (others + 0.5) + baseline.dispersion[window, column] + baseline.uncertainty[column]
        low, high = central_intervals(mean, 1 / inverse)
        found += [
            Bin(
                start=int(starts[n]),
                span_min=span,
                negatives=int(counts[NEGATIVES, n]),
                others=int(others[n]),
                expected=round(float(mean[n]), 2),
                low=int(low[n]),
                high=int(high[n]),
            )
            for n in range(len(starts))
        ]
    return found
