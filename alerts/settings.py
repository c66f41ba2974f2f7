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


class SurgeSettings(BaseModel, frozen=True, extra="forbid"):
    """When a series surges."""

    threshold_z: float = Field(
        default=3.675, ge=2, description="Signed root of the deviance from which a series surges (3.5 x 1.05)."
    )
    minimum_count: int = Field(default=5, ge=1, description="Negative items in the window below which nothing surges.")
    minimum_publishers: int = Field(
        default=2, ge=1, description="Publishers among the listed items below which no alert opens."
    )
    calm_min: int = Field(
        default=60, ge=1, description="Calm minutes (z below 1.75 in the windows of 5, 15 and 60) that end an alert."
    )
    warm_up_h: int = Field(default=24, ge=0, description="Hours of event time before anything is judged.")
    warm_up_items: int = Field(
        default=100, ge=0, description="Items of the market learnt from before anything is judged."
    )
    max_series: int = Field(
        default=20_000, ge=1, description="Series tracked at most; counts of further ones are left out and counted."
    )
