"""Families of series: how much of a surge is a part's, and what is left of a part's surge given what contains it.

The market contains topics and companies; a company and a topic contain what they have in common, which is the company's
part of that topic. A surge of the whole must not raise an alert a part, nor a part's surge one for each whole:

* the whole explains a part when the part is no surge beside the odds of the rest of the whole: its expectation is
  multiplied by how many times what was expected the rest has now, or the whole had at its peak, with the scatter that
  the rest's own count has;
* a part explains the whole when it has more than half of what the whole has above its expectation and the rest is calm;
  parts that have an alert of their own explain the whole when the rest is no surge.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from alerts.alert import MAX_CHILDREN, Child, Figures
from alerts.columns import Floats
from alerts.judgement import CALM_Z, Judgement
from alerts.negbin import signed_root
from alerts.panel import Strengths, shown
from alerts.rolling import WINDOWS_MIN
from alerts.series import MARKET, common, containers, kind, label
from alerts.surge import Detector

MOST = 0.5
"""A part with more than this share of the whole's excess explains it."""
_LEAST = 0.02  # of the excess, or a part is not worth naming
_LEAST_REST = 0.1  # baselines of parts need not add up to that of the whole
_PRIOR = 1.0  # negatives at the usual odds behind the rest's ratio


class Families:
    """Looks at series that share items, at the last minute of `detector`."""

    def __init__(self, detector: Detector, threshold: float) -> None:
        self._detector = detector
        self._threshold = threshold
        self._explaining: dict[Judgement, str | None] = {}  # of this minute

    def new_minute(self) -> None:
        """What was worked out of the minute before is worked out anew."""
        self._explaining.clear()

    def contribution(self, outer: Judgement, inner: str) -> float:
        """Return the share of `outer`'s excess, in its window, that is `inner`'s too; 0 when nothing is known of it."""
        part = common(outer.series, inner)
        if part is None or not self._detector.tracks(part):
            return 0.0
        return float(self._shares(outer, [part])[1][0])

    def without(self, outer: str, inner: Iterable[str]) -> float:
        """Return the strength of `outer` when what it has in common with the series `inner` is left out."""
        seen = self._beside(outer, inner)
        return _fallen(seen, _rest(seen))

    def shown_without(self, outer: str, inner: Iterable[str]) -> float:
        """Return what the windows of `outer` show when what it has in common with `inner` is left out."""
        seen = self._beside(outer, inner)
        return float(shown(_rest(seen), seen.adds[:, 0]).max(where=seen.usable[:, 0], initial=-np.inf))

    def goes_on_without(self, outer: str, inner: Iterable[str]) -> float:
        """Return the same of the windows that tell whether a surge goes on."""
        seen = self._beside(outer, inner)
        return float(shown(_rest(seen), seen.adds[:, 0]).max(where=seen.recent[:, 0], initial=-np.inf))

    def given(self, series: str, outer: str, peak: Figures, told: Iterable[str] = ()) -> float | None:
        """Return the strength of `series` given the odds of the rest of `outer`; None when `outer` says nothing of it.

        `peak` is how `outer` stood at its peak: the items of `series` may be those of that time.
        When most of its excess is of the series `told`, which have alerts of their own, `outer` is taken without them
        and as it stands now. Of two that only overlap, `outer` says something when most of the excess of `series` is in
        what they have in common.
        """
        part = common(outer, series)
        if part is None or not self._detector.tracks(part):
            return None
        seen = self._detector.stand([series, outer, part])
        best = int(seen.best[0])
        excess = seen.observed[best] - seen.mean[best]
        if part != series and excess[2] <= MOST * excess[0]:
            return None
        parts = {p for each in told if each != series and (p := common(outer, each)) and self._detector.tracks(p)}
        others = self._detector.stand(sorted(parts - {part}))
        least = (peak.observed + _PRIOR) / (peak.expected + _PRIOR)
        at = int(seen.best[1])
        above = (others.observed[at] - others.mean[at]).clip(min=0).sum()
        if above <= MOST * (seen.observed[at, 1] - seen.mean[at, 1]):
            return _given(seen, least, 0.0, 0.0)
        return _given(seen, 0.0, others.observed.sum(axis=1).astype(float), others.mean.sum(axis=1))

    def less(self, series: str, part: float) -> float:
        """Return the strength of `series` without that part of each window's negatives."""
        seen = self._detector.stand([series])
        z = signed_root(seen.observed[:, 0].astype(float) * (1 - part), seen.mean[:, 0], seen.size[:, 0])
        return _fallen(seen, z)

    def leading(self, outer: Judgement, surged: Iterable[str] = ()) -> tuple[Child, ...]:
        """Return the parts of `outer` with most of its excess, the largest first; `surged` are named as surging."""
        parts = self._detector.parts(outer.series)
        if not parts:
            return ()
        seen, shares = self._shares(outer, parts)
        at, known = WINDOWS_MIN.index(outer.window_min), set(surged)
        order = sorted(np.flatnonzero(shares >= _LEAST), key=lambda n: (-shares[n], parts[n]))
        return tuple(
            Child(
                series=parts[n],
                name=label(parts[n]),
                contribution=round(min(1.0, float(shares[n])), 3),
                observed=int(seen.observed[at, n]),
                expected=round(float(seen.mean[at, n]), 2),
                surged=parts[n] in known,
            )
            for n in order[:MAX_CHILDREN]
        )

    def explaining(self, outer: Judgement) -> str | None:
        """Return the part that surges and explains `outer`, of the market a company before a topic; None without one.

        A company's topics do not explain it: they say what it is about. It is worked out once a minute: what surges in
        a minute asks each open alert.
        """
        if outer not in self._explaining:
            self._explaining[outer] = self._explained_by(outer)
        return self._explaining[outer]

    def _explained_by(self, outer: Judgement) -> str | None:
        if kind(outer.series) not in ("market", "topic"):
            return None
        parts = self._detector.parts(outer.series)
        if not parts:
            return None
        seen, shares = self._shares(outer, parts)
        at = WINDOWS_MIN.index(outer.window_min)
        found = [
            parts[n]
            for n in np.flatnonzero((shares > MOST) & (seen.strength >= self._threshold))
            if _rest(self._detector.stand([outer.series, parts[n]]))[at] < CALM_Z
        ]
        return min(found, key=lambda name: (kind(name) == "topic", name), default=None)

    def told(self, series: str, explained: Iterable[str]) -> list[str]:
        """Return what an episode of `series` that ends has told of: what it explained, and parts that are not calm."""
        names = sorted({name for name in explained if self._detector.tracks(name)} | set(self._within(series)))
        if not names:
            return []
        wanted, strength = set(explained), self._detector.stand(names).strength
        return [name for name, now in zip(names, strength, strict=True) if name in wanted or now >= CALM_Z]

    def _beside(self, outer: str, inner: Iterable[str]) -> Strengths:
        """Return how `outer` stands, and after it what it has in common with each of `inner`."""
        parts = {part for each in inner if (part := common(outer, each)) and self._detector.tracks(part)}
        return self._detector.stand([outer, *sorted(parts)])

    def _within(self, series: str) -> list[str]:
        """Return what `series` contains, of the market all that something contains."""
        if series != MARKET:
            return self._detector.parts(series)
        return [name for name in self._detector.names if containers(name)]

    def _shares(self, outer: Judgement, parts: list[str]) -> tuple[Strengths, Floats]:
        seen = self._detector.stand(parts)
        at = WINDOWS_MIN.index(outer.window_min)
        above = max(outer.observed - outer.expected, 1e-9)
        shares: Floats = np.maximum(0.0, seen.observed[at] - seen.mean[at]) / above
        return seen, shares


def _given(seen: Strengths, least: float, without: Floats | float, due: Floats | float) -> float:
    """Return the strength of the first column given the second without the third, which both hold.

    Of the second so many more, of which so many were due, are left out; its ratio is `least` at least.
    """
    observed, mean = seen.observed.astype(float), seen.mean
    rest = np.maximum(observed[:, 1] - observed[:, 2] - without, 0.0)
    expected = np.maximum(mean[:, 1] - mean[:, 2] - due, _LEAST_REST * mean[:, 1])
    # Of a long window all items may have come while a short one surged.
    ratio = np.maximum.accumulate(np.maximum(least, (rest + _PRIOR) / (expected + _PRIOR)))
    size = 1 / (1 / seen.size[:, 0] + 1 / (rest + 1.5))
    return _fallen(seen, signed_root(observed[:, 0], mean[:, 0] * ratio, size))


def _rest(seen: Strengths) -> Floats:
    """Return z [window] of the first column without the others, which it contains."""
    observed, mean = seen.observed.astype(float), seen.mean
    rest = np.maximum(observed[:, 0] - observed[:, 1:].sum(axis=1), 0.0)
    expected = np.maximum(mean[:, 0] - mean[:, 1:].sum(axis=1), _LEAST_REST * mean[:, 0])
    return signed_root(rest, expected, seen.size[:, 0])


def _fallen(seen: Strengths, z: Floats) -> float:
    """Return the strength of the first column when its windows have `z`; what has added up falls by as much."""
    usable = seen.usable[:, 0] if seen.usable[:, 0].any() else np.ones_like(seen.usable[:, 0])
    adds = seen.adds[usable, 0]
    fall = shown(seen.z[usable, 0], adds).max() - shown(z[usable], adds).max()
    return float(seen.strength[0] - max(fall, 0.0))
