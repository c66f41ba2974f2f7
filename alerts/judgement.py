"""What the detector says of a series at a minute."""

from __future__ import annotations

from typing import Literal

import msgspec

from alerts.columns import Counts, Floats, Ints

State = Literal["warming up", "no data", "normal", "pending", "firing"]

CALM_Z = 1.75
"""An episode is calm while `recent_z` is below this."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """One series at one minute, in the window that shows the most.

    `low` and `high` hold the middle 95 % of what was expected, `p_value` is for this window and minute alone.
    `strength` is what the threshold is compared with: the largest z, of a long window somewhat more, or
    what has `added_up` over many windows when none of them is past the threshold by itself.
    `recent_z` is the largest z of the windows that tell whether a surge goes on: those up to an hour, and up to the
    window in which the open alert fired; `recent_strength` the same on the scale of strength. `share` is the baseline's
    share of negatives at this time, `odds_ratio` how many times its odds those of the window are. `history` is the
    (decayed) number of the series' own items behind the baseline; with few, its parent's share stands in. `coverage` is
    the part of the day's hours of which the series has items of its own. `usual_items` is how many items, negative or
    not, the series usually has in an hour like this one.

    `state` is the first of these that holds: "warming up", there is too little history to judge by; "no data", so many
    items are lacking that nothing can be said; "firing", an open alert is about the series; "pending", it is past the
    threshold and no alert is open, either because none was opened yet or because something holds it back: publishers,
    false-discovery control, a mute, or an open alert that explains it; "normal".
    """

    series: str
    minute: int
    state: State
    window_min: int
    observed: int
    others: int
    copies: int
    expected: float
    low: int
    high: int
    p_value: float
    z: float
    strength: float
    added_up: bool
    recent_z: float
    recent_strength: float
    odds_ratio: float
    share: float
    history: float
    coverage: float
    usual_items: float


class Tested(msgspec.Struct, frozen=True):
    """What was judged in a minute: columns, strengths, and negatives in a day, each [n]."""

    columns: Ints
    strengths: Floats
    negatives: Counts
