"""Marks the words of a headline that weighed most."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

_STRONG_BITS = 1.0


def marked(title: str, words: Sequence[tuple[str, float]]) -> Markup:
    """Return the title, escaped, with its heavy words in `<mark>`: `strong` where the odds at least double.

    >>> marked("Fraud at <b>Bank", [("Fraud", 2.5)])
    Markup('<mark class="strong" title="2.5 bits towards negative">Fraud</mark> at &lt;b&gt;Bank')
    """
    spans: list[tuple[int, int, float]] = []
    for word, bits in words:
        if not word.strip() or bits <= 0:
            continue
        for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", title, re.IGNORECASE):
            if not any(match.start() < end and begin < match.end() for begin, end, _ in spans):
                spans.append((match.start(), match.end(), bits))
                break
    parts, at = [], 0
    for begin, end, bits in sorted(spans):
        css = "strong" if bits >= _STRONG_BITS else "weak"
        parts += [
            escape(title[at:begin]),
            Markup('<mark class="{}" title="{:.1f} bits towards negative">').format(css, bits),
            escape(title[begin:end]),
            Markup("</mark>"),
        ]
        at = end
    return Markup("").join([*parts, escape(title[at:])])
