"""What was meant by a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MOST = 1_000


def near(wrong: str, known: Iterable[str]) -> str:
    """Return the nearest known name as the end of a sentence; empty when none is near.

    >>> near("treshold_z", ["threshold_z", "windows"])
    '; did you mean threshold_z?'
    >>> near("colour", ["threshold_z", "windows"])
    ''
    """
    by_case = {name.casefold(): name for name, _ in zip(sorted(known), range(_MOST), strict=False)}
    found = get_close_matches(wrong[:128].casefold(), by_case, 1)
    return f"; did you mean {by_case[found[0]]}?" if found else ""


def listed(names: Iterable[str], most: int = 12) -> str:
    """Return the names as a list to read, cut after `most`.

    >>> listed(["b", "a"]), listed("dcba", 2)
    ('a, b', 'a, b and 2 more')
    """
    every = sorted(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
