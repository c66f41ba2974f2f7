"""What a user would pick instead: statistics [series, minute] of the counts, the higher the more alarming.

None is told what we are not: all see the counts up to the minute. Their thresholds are fitted, level by level, on quiet
streams of the same kind, which ours is not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import betaln, gammaln, logsumexp

from tests.bench.surge.streams import DAY, Streams

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Predict = Callable[..., tuple[Floats, Floats, Bools]]  # likely if changed, likely if not, whether higher
_CHANGES = 24  # changes kept, the likeliest
_HAZARD = 1 / DAY
_RECENT_MIN = 720


def sums(counts: NDArray[np.generic], window: int) -> Floats:
    """Return the sum over the last `window` minutes at each minute."""
    total = np.pad(np.cumsum(counts, axis=1, dtype=float), ((0, 0), (1, 0)))
    return total[:, 1:] - total[:, np.maximum(np.arange(1, total.shape[1]) - window, 0)]


def ago(values: Floats, minutes: int) -> Floats:
    """Return the values of so many minutes before; before the first, the first."""
    return values[:, np.maximum(np.arange(values.shape[1]) - minutes, 0)]


def _z(now: Floats, values: Floats, span: int, gap: int) -> Floats:
    """Return how many deviations `now` is above the mean of `values` over `span` minutes, which end `gap` before."""
    number = np.minimum(np.arange(1, values.shape[1] + 1), span)
    mean, square = sums(values, span) / number, sums(values**2, span) / number
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return (now - ago(mean, gap)) / (ago(deviation, gap) + 0.5)


def z_score(streams: Streams) -> Floats:
    """Negatives of 15 minutes against mean and deviation of such sums in the last 24 h."""
    counts = sums(streams.negatives, 15)
    return _z(counts, counts, DAY, 15)


def windowed_gaussian(streams: Streams) -> Floats:
    """Mean of 5 minutes' negatives over the last hour against three days of them (NAB's windowedGaussian, smoothed)."""
    return _z(sums(streams.negatives, 60), sums(streams.negatives, 60), 3 * DAY, 60)


def ewma(streams: Streams) -> Floats:
    """A fast exponential mean against a slow one and its deviation (Roberts 1959): half-lives 20 minutes and a day."""
    negatives = streams.negatives.astype(float)
    fast, slow = (1 - 0.5 ** (1 / length) for length in (20, DAY))
    quick = lfilter([fast], [1, fast - 1], negatives)
    mean = lfilter([slow], [1, slow - 1], negatives)
    deviation = np.sqrt(lfilter([slow], [1, slow - 1], (quick - mean) ** 2))
    return (quick - ago(mean, 60)) / (ago(deviation, 60) + 1e-3)


def _ears(streams: Streams, gap: int, point: int = 30) -> Floats:
    counts = sums(streams.negatives, point)
    past = np.stack([ago(counts, point * (step + gap)) for step in range(1, 8)])
    return (counts - past.mean(0)) / (past.std(0, ddof=1) + 0.5)


def ears_c1(streams: Streams) -> Floats:
    """EARS C1 (Hutwagner et al. 2003): a point of 30 minutes against the seven before it."""
    return _ears(streams, 0)


def ears_c2(streams: Streams) -> Floats:
    """EARS C2: with a gap of two points."""
    return _ears(streams, 2)


def ears_c3(streams: Streams) -> Floats:
    """EARS C3: what C2 was above 1 in the last three points."""
    c2 = _ears(streams, 2)
    total: Floats = sum((np.maximum(ago(c2, 30 * step) - 1, 0) for step in range(3)), np.zeros_like(c2))
    return total


def farrington(streams: Streams) -> Floats:
    """Like Farrington et al. 1996: an hour against the same hours (±1) of seven days, quasi-Poisson, 2/3 powers."""
    counts = sums(streams.negatives, 60)
    past = np.stack([ago(counts, DAY * day + 60 * step) for day in range(1, 8) for step in (-1, 0, 1)])
    known = np.array([DAY * day + 60 for day in range(1, 8) for _ in range(3)])[:, None] < np.arange(counts.shape[1])
    number = np.maximum(known.sum(0), 1)
    mean = np.maximum((past * known[:, None]).sum(0) / number, 0.2)
    spread = np.maximum((known[:, None] * (past - mean) ** 2 / mean).sum(0) / np.maximum(number - 1, 1), 1)
    deviation = np.sqrt(spread * mean + spread * mean / number)
    return (counts ** (2 / 3) - mean ** (2 / 3)) / (2 / 3 * mean ** (-1 / 3) * deviation)


def last_week(streams: Streams) -> Floats:
    """`> 2x of last week`, as dashboards do: the negatives of an hour over those of the same hour a week before."""
    counts = sums(streams.negatives, 60)
    ratio = (counts + 1) / (ago(counts, 7 * DAY) + 1)
    return np.where(np.arange(counts.shape[1]) >= 7 * DAY, ratio, 0)


def _changes(streams: Streams, predict: Predict, prior: Callable[..., Floats]) -> Floats:
    """Bayesian online change-point detection (Adams and MacKay 2007), with the 24 likeliest changes kept.

    The statistic is the log odds of a change within 12 h to a higher level against the level of three days: unbounded,
    so that there is a threshold for streams that scatter more than the model knows.
    """
    negatives, others = streams.negatives.astype(float), streams.others.astype(float)
    keep = 1 - 1 / (3 * DAY)
    usual = np.stack([lfilter([1 - keep], [1, -keep], counts) for counts in (negatives, others)])
    usual /= 1 - keep ** np.arange(1, negatives.shape[1] + 1)
    series, length = negatives.shape
    odds = np.full((series, _CHANGES), -np.inf)
    a, b, begun = np.ones((series, _CHANGES)), np.ones((series, _CHANGES)), np.zeros((series, _CHANGES))
    statistic, rows = np.zeros((series, length)), np.arange(series)
    for at in range(length):
        known = usual[:, :, max(0, at - 60)]
        odds[begun <= at - _RECENT_MIN] = -np.inf
        worst = odds.argmin(axis=1)
        odds[rows, worst] = np.log(_HAZARD)
        a[rows, worst], b[rows, worst] = prior(known)
        begun[rows, worst] = at
        likely, unchanged, higher = predict(a, b, negatives[:, at, None], others[:, at, None], known)
        odds += likely - unchanged
        statistic[:, at] = logsumexp(np.where(higher, odds, -700), axis=1)
    return statistic


def bocpd_share(streams: Streams) -> Floats:
    """The share: negatives among all, beta-binomial; a new level is worth four items at the share of three days."""

    def prior(known: Floats) -> Floats:
        share = (known[0] + 1e-3) / (known.sum(0) + 6e-3)
        return np.stack([4 * share, 4 * (1 - share)])

    def predict(a: Floats, b: Floats, x: Floats, o: Floats, known: Floats) -> tuple[Floats, Floats, Bools]:
        likely = betaln(a + x, b + o) - betaln(a, b)
        a += x
        b += o
        share = ((known[0] + 1e-3) / (known.sum(0) + 6e-3))[:, None]
        return likely, x * np.log(share) + o * np.log(1 - share), a / (a + b) > share

    return _changes(streams, predict, prior)


def bocpd_rate(streams: Streams) -> Floats:
    """The rate: negatives a minute, Poisson-gamma; a new level is drawn around the mean of three days."""

    def prior(known: Floats) -> Floats:
        return np.stack([np.ones_like(known[0]), 1 / (known[0] + 1e-4)])

    def predict(a: Floats, b: Floats, x: Floats, o: Floats, known: Floats) -> tuple[Floats, Floats, Bools]:
        likely = gammaln(a + x) - gammaln(a) + a * np.log(b) - (a + x) * np.log(b + 1)
        a += x
        b += 1
        rate = (known[0] + 1e-4)[:, None]
        return likely, x * np.log(rate) - rate, a / b > rate

    return _changes(streams, predict, prior)


RIVALS: dict[str, Callable[[Streams], Floats]] = {
    "BOCPD, share": bocpd_share,
    "BOCPD, rate": bocpd_rate,
    "z-score 24 h": z_score,
    "EWMA": ewma,
    "windowed Gaussian": windowed_gaussian,
    "EARS C1": ears_c1,
    "EARS C2": ears_c2,
    "EARS C3": ears_c3,
    "Farrington-like": farrington,
    "over last week": last_week,
}
