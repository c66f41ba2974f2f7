"""What the dispatcher reads of what it has stored: what cannot be read holds up nothing else."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import msgspec

from alerts.groups import Group, Known
from alerts.records import UNREADABLE, name_of
from alerts.store import PREFIX

log = logging.getLogger(__name__)

ENDS_KEPT_S = 30 * 86_400
"""How long it is known which deliveries told of an alert's end: longer than any of them waits."""
_T = TypeVar("_T")
_known = msgspec.json.Decoder(Known)
_group = msgspec.json.Decoder(Group)


def ends_key(alert: str) -> str:
    """Return the key of a hash: receiver → the delivery that told it of the alert's end last."""
    return f"{PREFIX}dispatch:ended:{alert}"


def decoded_alerts(raws: Any) -> tuple[dict[str, Known], set[str]]:
    """Return what the book's hash of alerts holds, and the keys of what cannot be read."""
    return _decoded("alert", raws, _known)


def decoded_groups(raws: Any) -> tuple[dict[str, Group], set[str]]:
    """Return what the book's hash of groups holds, and the keys of what cannot be read."""
    return _decoded("group", raws, _group)


def _decoded(what: str, raws: Any, decoder: msgspec.json.Decoder[_T]) -> tuple[dict[str, _T], set[str]]:
    found: dict[str, _T] = {}
    for key, raw in raws.items():
        try:
            found[key.decode()] = decoder.decode(raw)
        except UNREADABLE as exc:
            log.error("what was told of %s %r cannot be read; it is noted anew (%s)", what, key, exc)
    return found, set(map(name_of, raws)) - found.keys()


def number_of(entry: str) -> tuple[int, int]:
    """Return an id of the log's entries as what can be compared."""
    first, _, second = entry.partition("-")
    return int(first), int(second or 0)
