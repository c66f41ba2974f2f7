"""Near copies among an alert's stories: reprints whose words differ too much for the story key (`ingest.story`).

Posts that only list tags are left out with them: their authors send one template for each symbol, from many accounts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from alerts.terms import lists_tags, terms
from alerts.windows import WindowItem

_OVERLAP = 0.6
_LEAST_TERMS = 5  # a shorter headline says too little to be the same story
_LOOKED_AT = 500


def different(items: Iterable[WindowItem]) -> list[WindowItem]:
    """Return the items without lists of tags, and without near copies of earlier ones: over 60 % of terms (Jaccard).

    Of many the first 500 are compared. Who printed them does not matter: one story in two papers, nearly word for word,
    is one story.
    """
    kept: list[WindowItem] = []
    sizes: list[int] = []
    having: dict[str, list[int]] = defaultdict(list)
    ordered = sorted(items, key=lambda item: (item.seen_at, item.id))
    for item in ordered[:_LOOKED_AT]:
        if lists_tags(item.title):
            continue
        own = terms(item.title)
        if len(own) >= _LEAST_TERMS:
            shared = Counter(number for term in own for number in having[term])
            if any(both > _OVERLAP * (len(own) + sizes[number] - both) for number, both in shared.items()):
                continue
            for term in own:
                having[term].append(len(kept))
        kept.append(item)
        sizes.append(len(own))
    return kept + ordered[_LOOKED_AT:]
