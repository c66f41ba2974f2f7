"""Explanations as one page of HTML that stands on its own: no script, nothing fetched, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from model.explain import Explanation

_HEAD = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>newsquake: which words weighed</title><style>
:root { color-scheme: light dark; font: 16px/1.6 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
section { border-top: 1px solid #8886; padding: .8rem 0 }
p { margin: .3rem 0; overflow-wrap: anywhere; unicode-bidi: isolate }
.text { font-size: 1.15rem }
.text span { border-radius: .2em; padding: .1em 0 }
.note, .odds { font-size: .85rem; opacity: .8 }
.odds b { opacity: 1 }
</style></head><body>
"""


def page(explanations: Iterable[Explanation], head: str, method: str, model: str) -> Iterator[str]:
    """The page, piece by piece. All that comes from outside is escaped."""
    yield _HEAD
    yield f"<h1>Which words weighed for the {escape(head)}</h1>\n"
    yield (
        f'<p class="note">Model {escape(model)}, method {escape(method)}. '
        '<span style="background:rgb(230 120 0/.5)">Orange</span> words speak for the label, '
        '<span style="background:rgb(40 110 240/.5)">blue</span> ones against it; the stronger, the more. '
        "A weight of 1 doubles the odds of the label, −1 halves them.</p>\n"
    )
    for explanation in explanations:
        yield _section(explanation)
    yield "</body></html>\n"


def _section(explanation: Explanation) -> str:
    ranked = sorted(zip(explanation.probabilities, explanation.labels, strict=True), reverse=True)[:5]
    odds = " · ".join(
        f"<b>{escape(label)} {p:.2f}</b>" if label == explanation.label else f"{escape(label)} {p:.2f}"
        for p, label in ranked
    )
    weighed = ", ".join(f"{escape(word.text)} {signed(word.weight)}" for word in explanation.heaviest(5))
    left_out = f" The last {explanation.left_out} words were not looked at." if explanation.left_out else ""
    return (
        f'<section><p class="odds">{odds}</p>\n<p class="text" dir="auto">{_marked(explanation) or "(no text)"}</p>\n'
        f'<p class="note">{weighed or "No word speaks for it."}{left_out}</p></section>\n'
    )


def _marked(explanation: Explanation) -> str:
    largest = max((abs(word.weight) for word in explanation.words), default=0.0)
    pieces, at = [], 0
    for word in explanation.words:
        pieces.append(escape(explanation.text[at : word.start]))
        strength = abs(word.weight) / largest if largest else 0.0
        colour = "230 120 0" if word.weight > 0 else "40 110 240"
        pieces.append(
            f'<span style="background:rgb({colour}/{0.6 * strength:.2f})" title="{signed(word.weight)}">'
            f"{escape(word.text)}</span>"
        )
        at = word.stop
    return "".join([*pieces, escape(explanation.text[at:])])


def signed(weight: float) -> str:
    """The weight with its sign, to one decimal place."""
    return f"{weight:+.1f}".replace("-", "−")
