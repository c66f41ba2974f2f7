"""The negative binomial by mean and size (variance = mean + mean² / size), on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, nbdtrik

Floats = NDArray[np.float64]


def signed_root(observed: Floats, mean: Floats, size: Floats) -> Floats:
    """Return the signed root of the deviance, near standard normal; ½ towards the mean as continuity correction.

    McCullagh and Nelder, Generalized Linear Models, 2nd ed., 1989, §2.4 and §11.2.

    >>> signed_root(np.array([12.0, 4.0]), np.array([4.0, 4.0]), np.array([1e9, 1e9])).round(2)
    array([3.05, 0.  ])
    """
    above = np.maximum(observed - 0.5, mean)
    x = np.where(observed > mean, above, np.minimum(observed + 0.5, mean))
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.where(x > 0, x * np.log(x / mean), 0.0)
    deviance = 2 * (own - (x + size) * np.log((x + size) / (mean + size)))
    return np.sign(x - mean) * np.sqrt(np.maximum(deviance, 0.0))


def upper_tail(observed: int, mean: float, size: float) -> float:
    """Return P(X ≥ observed).

    >>> round(upper_tail(0, 2.0, 1.0), 3), round(upper_tail(3, 2.0, 1.0), 3)
    (1.0, 0.296)
    """
    return float(betainc(observed, size, mean / (mean + size))) if observed > 0 else 1.0


def central_interval(mean: float, size: float, share: float = 0.95) -> tuple[int, int]:
    """Return the interval that holds X with probability `share` at least, with equal tails.

    >>> central_interval(2.0, 1e6)
    (0, 5)
    """
    low, high = central_intervals(np.array([mean]), np.array([size]), share)
    return int(low[0]), int(high[0])


def central_intervals(mean: Floats, size: Floats, share: float = 0.95) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the lower and upper ends of those intervals, an array each."""
    success = size / (mean + size)
    ends = [nbdtrik(tail, size, success) for tail in ((1 - share) / 2, (1 + share) / 2)]
    # NaN below the smallest tail
    low, high = (np.ceil(np.where(end > 0, end, 0.0)).astype(np.int64) for end in ends)
    return low, high
