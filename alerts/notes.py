"""Notes: short texts that people write on an alert, as steps in its history that change nothing else."""

from __future__ import annotations

import unicodedata

MAX_NOTES, MAX_NOTE = 50, 500
"""Notes on one alert, and characters in one."""
_JOINERS = "\u200c\u200d"  # scripts and emoji need them; they hide nothing
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and signs that look like spaces


def cleaned(text: str) -> str:
    r"""Return lines of what can be seen: without controls, escapes and direction marks, blank lines and indents.

    Nothing is left of what shows nothing.

    >>> cleaned(" called the\x1b[31m bank\u202e,\r\n\r\n  they  know ")
    'called the[31m bank,\nthey know'
    >>> cleaned("\u200d \u3164\ufe0f")
    ''
    """
    if not any(unicodedata.category(char)[0] not in "CMZ" and char not in _BLANKS for char in text):
        return ""
    lines = ("".join(filter(is_seen, line)).split() for line in text.splitlines())
    return "\n".join(" ".join(words) for words in lines if words)


def is_seen(char: str) -> bool:
    """Say whether a character shows, or joins or parts what does."""
    return char.isspace() or char in _JOINERS or unicodedata.category(char)[0] != "C"
