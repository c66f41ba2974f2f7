"""Settings of windows, detection and delivery."""

from __future__ import annotations

from pydantic import BaseModel, Field


class WindowsSettings(BaseModel, frozen=True, extra="forbid"):
    """How items are counted. All workers and alerting must agree on these."""

    late_after_s: int = Field(
        default=900,
        ge=0,
        description="An item seen at most this long after its publication counts in the minute it was published, "
        "a later one in the minute it was seen.",
    )
    too_old_s: int = Field(
        default=21_600,
        ge=0,
        description="An item older than this when it was first seen counts in no window: old news is not a surge.",
    )
    keep_days: int = Field(default=8, ge=1, description="Days for which counts stay in Redis.")
    evidence_days: int = Field(default=2, ge=1, description="Days for which listed negative items stay in Redis.")
    items_a_minute: int = Field(
        default=100, ge=1, le=10_000, description="Negative items listed as evidence a minute and partition, at most."
    )
