"""Themes that emerge: negative stories that share a word or phrase which no list foresaw.

When a negative story arrives, each of its terms (`alerts.terms`) is tested; nothing is scanned. k of the stories of
the last 24 h have the term. Expected are m = (b + ½)·max(N / (N_b + 50), X / (X_b + 10)): b the stories that had it
before (fading over 60 days, up to a guard of 12 h before the window), N and N_b the items of the market now and then,
X and X_b the negative ones; N and X without the k and with ½ more, or of three items a day the k themselves would be
what explains them. So neither a busy day nor a day on which everything is bad makes a theme. k is negative binomial
with 1/size = 1/(b + ½) + 0.05. Copies do not count (`alerts.recent`).

* A theme is new when p is below the threshold, with three stories of two publishers at least. Names, phrases and
  cashtags are trusted at that; a common word needs a p fifty times smaller, and four stories.
* The threshold holds for up to 30 negative stories a day and falls with more, since each brings about 15 tests.
* Seasons: a term that was in that many stories on two earlier occasions (within 400 days, 5 days apart) is expected to
  be so again: m is then at least the second highest of them.
* Memory is bounded: 60 days of terms by heavy hitters (`alerts.memory`), whose error makes the test duller, never
  louder; two days of stories, or what there is room for.

It learns as it goes: with little history m is large, so that it needs no warm-up of its own.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec
import numpy as np

from alerts.episodes import MOST_STORIES, Episode, Episodes, Theme
from alerts.evidence import published_by, publishers
from alerts.memory import Memory, MemoryState
from alerts.negbin import central_interval, signed_root, upper_tail
from alerts.recent import Recent, RecentState
from alerts.rules import Rules
from alerts.series import theme_series
from alerts.settings import ThemesSettings
from alerts.terms import is_name, phrase, terms
from alerts.windows import WindowItem

DAY_MIN = 1_440
_FADE_MIN = 60.0 * DAY_MIN
_APART_MIN = 5 * DAY_MIN
_SEASONS_MIN = 400 * DAY_MIN
_OCCASIONS = 6
_SEASON_TERMS = 20_000
_EXCESS = 0.05
_PRIOR_ITEMS, _PRIOR_NEGATIVES = 50.0, 10.0
_COMMON_WORD = 50.0
_USUAL_STORIES = 30.0
_TITLES = 200
"""Titles that a theme is named by, at most: the latest."""
_SNAPSHOT_VERSION = 1


class ThemesSnapshotError(ValueError):
    """A snapshot was not written by this version."""


class _Occasion(msgspec.Struct):
    """The most stories a term had in one window, in days that belong together, and per item of the market."""

    last: int
    count: int
    share: float


class _Snapshot(msgspec.Struct, frozen=True):
    version: int
    minute: int
    items: float
    negatives: float
    memory: MemoryState
    recent: RecentState
    occasions: dict[str, list[_Occasion]]
    episodes: list[Episode]


class _Shown(NamedTuple):
    """A term that shows a theme: k stories, m expected, with the size of their distribution."""

    p: float
    term: str
    k: int
    m: float
    size: float


class Emerging:
    """Finds themes. One thread; deterministic; call `update` with rising minutes, none twice."""

    def __init__(self, settings: ThemesSettings | None = None) -> None:
        self._settings = settings or ThemesSettings()
        self.rules: Rules | None = None
        self.is_told: Callable[[Theme], bool] = lambda theme: False
        self._minute = 0
        self._items = self._negatives = 0.0  # what the baseline rests on, faded
        self._memory = Memory(self._settings.max_terms, _FADE_MIN)
        self._recent = Recent(self._settings.max_stories)
        self._occasions: dict[str, list[_Occasion]] = {}
        self._episodes = Episodes()
        self._snapshot = -1, b""  # the last, with its minute: saved more often than once a minute

    @property
    def window_min(self) -> int:
        """Minutes in which stories are counted: 1,440, or less when `max_stories` do not reach back two days."""
        return self._recent.window_min

    @property
    def terms(self) -> int:
        """Terms remembered."""
        return len(self._memory)

    @property
    def forgotten(self) -> int:
        """Terms dropped so far because `max_terms` were remembered."""
        return self._memory.forgotten

    @property
    def loss(self) -> float:
        """By how many stories a window the expectation for a term may be too high, for what was forgotten."""
        return self._memory.floor * self._ratio()

    def update(self, minute: int, market: int, negatives: int, listed: Sequence[WindowItem]) -> list[Theme]:
        """Go on to `minute`, in which the market had so many items and negatives; return what opens and closes.

        `listed` are the negative items that arrived in it, each story once, as far as they are known.

        Raises:
            ValueError: the minute does not follow the last.
        """
        if minute <= self._minute:
            raise ValueError(f"minute {minute} does not follow {self._minute}")
        self._learn(minute, market, negatives)
        ended = self._episodes.advance(minute)
        found = [msgspec.structs.replace(peak, event="closed", minute=minute) for peak in ended]
        for item in sorted(listed, key=lambda item: (item.seen_at, item.id)):
            its = terms(item.title)
            if its and self._recent.add(item, its):
                found += self._judge(its)
        return found

    def rests_until(self) -> int:
        """Return the last minute up to which `rest` can go: no theme closes till then."""
        return self._minute if not self._minute else max(self._minute, self._episodes.rests_until())

    def rest(self, minute: int) -> None:
        """Go on to `minute`, at most `rests_until`, while nothing arrives, as `update` does minute by minute."""
        fade = math.exp(-1 / _FADE_MIN)
        while self._minute < minute:
            day = self._minute // DAY_MIN * DAY_MIN + DAY_MIN - 1
            upto = min(minute, day, self._recent.rests_until(), self._memory.rests_until())
            if upto <= self._minute:
                self.update(self._minute + 1, 0, 0, ())  # something is learnt or forgotten
                continue
            for _ in range(upto - self._minute):
                self._items *= fade
                self._negatives *= fade
            self._minute = upto
            self._memory.advance(upto)
            self._recent.rest(upto)

    @property
    def minute(self) -> int:
        """The last minute; 0 before the first."""
        return self._minute

    def snapshot(self) -> bytes:
        """Return all state, compressed."""
        if self._snapshot[0] == self._minute:
            return self._snapshot[1]
        state = _Snapshot(
            version=_SNAPSHOT_VERSION,
            minute=self._minute,
            items=self._items,
            negatives=self._negatives,
            memory=self._memory.state(),
            recent=self._recent.state(),
            occasions=self._occasions,
            episodes=self._episodes.episodes,
        )
        self._snapshot = self._minute, zlib.compress(msgspec.msgpack.encode(state), level=1)
        return self._snapshot[1]

    def restore(self, snapshot: bytes) -> None:
        """Take over what `snapshot` returned, to the bit.

        Raises:
            ThemesSnapshotError: it is damaged or of another version.
        """
        try:
            state = msgspec.msgpack.decode(zlib.decompress(snapshot), type=_Snapshot)
        except (zlib.error, msgspec.MsgspecError) as exc:
            raise ThemesSnapshotError(f"not a snapshot of themes: {exc}") from exc
        if state.version != _SNAPSHOT_VERSION:
            raise ThemesSnapshotError(f"the snapshot has version {state.version}, this detector {_SNAPSHOT_VERSION}")
        self._minute, self._items, self._negatives = state.minute, state.items, state.negatives
        self._snapshot = -1, b""
        self._memory.restore(state.memory)
        self._recent.restore(state.recent)
        self._occasions = state.occasions
        self._episodes.episodes = state.episodes

    def _learn(self, minute: int, market: int, negatives: int) -> None:
        fade = math.exp((self._minute - minute) / _FADE_MIN) if self._minute else 0.0
        if minute // DAY_MIN != self._minute // DAY_MIN:
            self._forget_occasions(minute)
        self._minute = minute
        self._memory.advance(minute)
        learnt, items, bad = self._recent.advance(minute, market, negatives)
        self._items = self._items * fade + items
        self._negatives = self._negatives * fade + bad
        for entry in learnt:
            for term in entry.terms:
                self._memory.add(term)

    def _ratio(self, k: int = 0) -> float:
        """The market of the window, `k` negatives left out, over the baseline's; by items or negatives, the larger."""
        items, negatives = max(0, self._recent.items - k) + 0.5, max(0, self._recent.negatives - k) + 0.5
        return max(items / (self._items + _PRIOR_ITEMS), negatives / (self._negatives + _PRIOR_NEGATIVES))

    def _judge(self, its: tuple[str, ...]) -> list[Theme]:
        """Test the terms of the story that was just added."""
        settings = self._settings
        a_day = self._recent.stories * DAY_MIN / self._recent.window_min
        limit = settings.threshold_p * min(1.0, _USUAL_STORIES / a_day)
        shown: list[_Shown] = []
        for term in its:
            k = self._recent.count(term)
            if k < settings.minimum_count:
                continue
            b = self._memory.count(term)
            m = (b + 0.5) * self._ratio(k)
            if k <= 2 * m:
                continue
            behind = b
            usual = self._season(term, k)
            if usual is not None and usual.share * self._recent.items > m:
                m, behind = usual.share * self._recent.items, float(usual.count)
            size = 1 / (1 / (behind + 0.5) + _EXCESS)
            p = upper_tail(k, m, size)
            if p < limit and self._trusted(term, k, p, limit):
                shown.append(_Shown(p, term, k, m, size))
        if not shown:
            return []
        shown.sort(key=lambda each: (each.p, " " not in each.term, each.term))
        best, names = shown[0], [each.term for each in shown]
        stories = [entry.item.story for entry in islice(self._recent.latest(best.term), MOST_STORIES)][::-1]
        episode = self._episodes.take(self._minute, best.k, names, stories)
        # Most finds are a further story of an open theme: what only an alert says is not worked out for each.
        if episode is not None and not episode.grows(best.k):
            return []
        find = self._figures(best)
        if episode is not None and not episode.over:
            episode.rise(find)
            return []
        entries = self._recent.having(best.term)
        name = phrase(best.term, [entry.item.title for entry in entries[-_TITLES:]])
        theme = msgspec.structs.replace(find, phrase=name, items=tuple(entry.item for entry in entries))
        if not self._may_open(theme):
            return []
        if episode is not None:
            episode.rise(theme)
        else:
            self._episodes.open(theme, names, stories)
        return [theme]

    def _figures(self, shown: _Shown) -> Theme:
        """Return the theme that a term shows, without name and stories."""
        _, term, k, m, size = shown
        low, high = central_interval(m, size)
        return Theme(
            event="opened",
            phrase="",
            minute=self._minute,
            opened=self._minute,
            window_min=self._recent.window_min,
            observed=k,
            expected=m,
            low=low,
            high=high,
            p_value=shown.p,
            z=float(signed_root(np.array([float(k)]), np.array([m]), np.array([size]))[0]),
            share=m / max(1, self._recent.items),
            history=self._memory.count(term),
            copies=sum(entry.copies for entry in self._recent.latest(term)),
            items=(),
        )

    def _may_open(self, theme: Theme) -> bool:
        """Say whether a theme is news, and the rules let it open an alert now."""
        if self.is_told(theme):
            return False
        if self.rules is None or self.rules.plain:
            return True
        limits = self.rules.limits(theme_series(theme.phrase), self._minute)
        enough = theme.observed >= limits.minimum_count and publishers(theme.items) >= limits.minimum_publishers
        return enough and theme.z >= limits.threshold_z and not limits.muted

    def _trusted(self, term: str, k: int, p: float, limit: float) -> bool:
        if not published_by((entry.item for entry in self._recent.latest(term)), self._settings.minimum_publishers):
            return False
        common = k <= self._settings.minimum_count or p >= limit / _COMMON_WORD
        return not common or is_name(term, [entry.item.title for entry in islice(self._recent.latest(term), _TITLES)])

    def _season(self, term: str, k: int) -> _Occasion | None:
        """Note how many stories the term has now; return the second highest of earlier occasions."""
        share = k / max(1, self._recent.items)
        occasions = self._occasions.setdefault(term, [])
        if occasions and self._minute - occasions[-1].last < _APART_MIN:
            now = occasions[-1]
            if share > now.share:
                now.count, now.share = k, share
            now.last = self._minute
        else:
            occasions.append(_Occasion(self._minute, k, share))
            del occasions[:-_OCCASIONS]
        earlier = sorted(occasions[:-1], key=lambda each: each.share)
        return earlier[-2] if len(earlier) > 1 else None

    def _forget_occasions(self, minute: int) -> None:
        kept = {
            term: occasions for term, occasions in self._occasions.items() if minute - occasions[-1].last < _SEASONS_MIN
        }
        if len(kept) > _SEASON_TERMS:
            latest = sorted(kept, key=lambda term: kept[term][-1].last)[-_SEASON_TERMS:]
            kept = {term: kept[term] for term in latest}
        self._occasions = kept
