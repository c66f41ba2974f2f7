"""What services mean that say in the body of an answer how it went, mostly under status 200: 0, or a code."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from alerts.channels.channel import Answer, Result, meaning_of_status


class Codes(msgspec.Struct, frozen=True, kw_only=True):
    """The codes of a service, in the first of `fields` that the body has. One that is in no table is tried again.

    `limited` are to be sent slower, after so many seconds when the answer does not say; `refused` are about the message
    itself, which would be refused again; `mended` are about the receiver's settings, so that trying again helps once
    they are put right. The words are for whoever reads why a delivery failed.
    """

    service: str
    fields: tuple[str, ...]
    limited: Mapping[int, float]
    refused: Mapping[int, str] = {}
    mended: Mapping[int, str] = {}


def meaning_of_code(answer: Answer, now: datetime, codes: Codes) -> Result:
    """Return what an answer means: what its code says, and its status where it has none. No code is no success."""
    result = meaning_of_status(answer, now)
    code = next((found for name in codes.fields if (found := answer.field(name)) is not None), None)
    known = code if isinstance(code, int) else 0
    told = f"code {str(code)[:20]}" if isinstance(code, int | None) else "a code that is no number"  # a token?
    said = f"{codes.service} answered {told}"
    if known in codes.limited:
        return Result("limited", f"{said}: not so fast", max(result.retry_after_s, codes.limited[known]))
    if known in codes.refused:
        return Result("refused", f"{said}: {codes.refused[known]}")
    if code == 0 and result.outcome == "delivered":
        return result
    if result.outcome == "delivered" or (known and result.outcome == "failed"):
        words = codes.mended.get(known)
        return Result("failed", f"{said}: {words}" if words else said, result.retry_after_s)
    return result
