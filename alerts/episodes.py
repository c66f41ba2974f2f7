"""One theme an episode: which finds of terms are about the same, and when it is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from alerts.windows import WindowItem

_DAY_MIN = 1_440
_CALM_MIN = _DAY_MIN
_REMEMBERED_MIN = 5 * _DAY_MIN
LONGEST_MIN = 30 * _DAY_MIN
"""How long a theme is open at most."""
_SHARED = 0.3
_ESCALATION = 2
_NEVER = 2**62
_STORIES, _TERMS = 500, 64
MOST_STORIES = int(_STORIES / _SHARED)
"""Of a find with more stories an episode knows too few to tell by them that it belongs to it."""


class Theme(msgspec.Struct, frozen=True, kw_only=True):
    """A theme that opens, or closes after a day without a story that shows it. `opened` is the minute it opened.

    `observed`, `expected`, `low` to `high` (the middle 95 %), `p_value` and `z` are of the term that shows it most, in
    the `window_min` minutes up to the opening; of one that closes, up to its peak. `share` is what was expected of the
    market's items, `history` the (faded) number of earlier stories. `items` are the stories of the window, none for a
    theme that closes; `copies` their reprints.
    """

    event: Literal["opened", "closed"]
    phrase: str
    minute: int
    opened: int
    window_min: int
    observed: int
    expected: float
    low: int
    high: int
    p_value: float
    z: float
    share: float
    history: float
    copies: int
    items: tuple[WindowItem, ...]


class Episode(msgspec.Struct):
    """A theme under way, or over and remembered, with the latest of its terms and stories."""

    peak: Theme
    last: int
    terms: list[str]
    stories: list[str]
    over: bool = False

    def grows(self, observed: int) -> bool:
        """Say whether so many stories are more than at its peak; when it is over, enough to open it anew."""
        most = self.peak.observed
        return observed >= _ESCALATION * most if self.over else observed > most

    def rise(self, find: Theme) -> None:
        """Take a find for its peak; what is open keeps its name and the minute it opened, what is over opens anew."""
        now = self.peak
        if not self.over:
            find = msgspec.structs.replace(find, phrase=now.phrase, opened=now.opened)
        self.peak, self.over = msgspec.structs.replace(find, items=()), False


class Episodes:
    """A find belongs to an episode of the last 5 days that has one of its terms or over 30 % of its stories.

    An episode is over after a day without a find, or after 30 days: what goes on is normal by then. One that is over
    opens anew only when there are twice as many stories as at its peak.
    """

    def __init__(self) -> None:
        self.episodes: list[Episode] = []

    def advance(self, minute: int) -> list[Theme]:
        """Let time pass up to `minute`; return the peaks of the episodes that this ends."""
        ended, kept = [], []
        for episode in self.episodes:
            too_long = minute - episode.peak.opened >= LONGEST_MIN
            if not episode.over and (too_long or minute - episode.last >= _CALM_MIN):
                episode.over = True
                ended.append(episode.peak)
            if not too_long and minute - episode.last < _REMEMBERED_MIN:
                kept.append(episode)
        self.episodes = kept
        return ended

    def rests_until(self) -> int:
        """Return the last minute up to which `advance` changes nothing."""
        return min(
            (
                min(each.peak.opened + LONGEST_MIN, each.last + (_REMEMBERED_MIN if each.over else _CALM_MIN)) - 1
                for each in self.episodes
            ),
            default=_NEVER,
        )

    def take(self, minute: int, observed: int, terms: Sequence[str], stories: Sequence[str]) -> Episode | None:
        """Give a find to the episode it belongs to, and return that; None when it belongs to none.

        `stories` are its `observed` stories, or the latest `MOST_STORIES` of them: of more, no episode knows 30 %.
        """
        wanted = set(terms)
        for episode in reversed(self.episodes):
            if wanted.isdisjoint(episode.terms):
                if len(episode.stories) <= _SHARED * observed:
                    continue
                known = set(episode.stories)
                if sum(story in known for story in stories) <= _SHARED * observed:
                    continue
            episode.last = minute
            episode.terms = _latest([*episode.terms, *terms], _TERMS)
            episode.stories = _latest([*episode.stories, *stories], _STORIES)
            return episode
        return None

    def open(self, find: Theme, terms: Sequence[str], stories: Sequence[str]) -> None:
        """Begin an episode with a find that belongs to none."""
        peak = msgspec.structs.replace(find, items=())
        self.episodes.append(Episode(peak, find.minute, _latest(terms, _TERMS), _latest(stories, _STORIES)))


def _latest(values: Sequence[str], most: int) -> list[str]:
    """Each once, at its last place; the last `most` of them."""
    return list(reversed(dict.fromkeys(reversed(values))))[-most:]
