"""Settings of windows, detection and delivery."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from alerts.receivers import Receiver


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
        default=3.7,
        ge=2,
        description="Strength, on the scale of a z, from which a series surges. At 3.7 a busy series alone gives a "
        "false alarm in one to two weeks, one with a few items a day hardly any (`make bench-surge`).",
    )
    minimum_count: int = Field(
        default=4,
        ge=1,
        description="Negative items below which nothing surges: in the window, or in the day for what has added up.",
    )
    minimum_publishers: int = Field(
        default=2,
        ge=1,
        description="Publishers below which no alert opens. A flood may leave items unlisted; then the benefit of "
        "the doubt is with the alert, which says so.",
    )
    calm_min: int = Field(
        default=60, ge=1, description="Calm minutes (z below 1.75 in the windows up to an hour) that end an alert."
    )
    warm_up_h: int = Field(default=24, ge=0, description="Hours with items before anything is judged.")
    warm_up_items: int = Field(
        default=100, ge=0, description="Items of the market learnt from before anything is judged."
    )
    exchange: str = Field(
        default="XNYS",
        pattern=r"^(none|[A-Z0-9]{4})$",
        description="Exchange (MIC, ISO 10383: `XNYS`, `XLON`, `XTKS` and 70 others) by whose sessions and holidays "
        "the usual is told: pre-market, session, after hours, weekend. `none`: by hour (UTC) and day of the week. "
        "A change makes the detector learn again.",
    )
    max_series: int = Field(
        default=20_000, ge=1, description="Series tracked at most; counts of further ones are left out and counted."
    )


class DiscoverySettings(BaseModel, frozen=True, extra="forbid"):
    """How many of the alerts may be false, when many series are watched."""

    on: bool = Field(
        default=True,
        description="Whether a surge must also be rare among all tests of late to open an alert. Off, each does.",
    )
    share: float = Field(
        default=0.1,
        gt=0,
        le=0.5,
        description="Share of false alerts aimed at, q: an alert opens when p is at most (q times the alerts of late, "
        "plus the false ones tolerated) over the tests of late. Smaller is calmer and finds less.",
    )
    tolerated_a_day: float = Field(
        default=2,
        ge=0,
        le=1_000,
        description="False alerts a day that are tolerated beside that share, so that on a quiet day a single surge is "
        "found. With few series there are fewer: the thresholds alone keep them out.",
    )
    half_life_h: float = Field(
        default=24, ge=1, le=720, description="Hours after which a test or an alert counts half in what is of late."
    )


class ThemesSettings(BaseModel, frozen=True, extra="forbid"):
    """When a word or phrase that no list holds becomes a theme."""

    on: bool = Field(default=True, description="Whether themes raise alerts.")
    threshold_p: float = Field(
        default=2e-5,
        gt=0,
        le=1e-2,
        description="p-value below which stories that share a name or phrase are a theme; for a common word a fiftieth "
        "of it. It holds up to 30 negative stories a day; with more it falls in proportion.",
    )
    minimum_count: int = Field(default=3, ge=2, description="Negative stories below which nothing is a theme.")
    minimum_publishers: int = Field(default=2, ge=1, description="Publishers below which nothing is a theme.")
    max_stories: int = Field(
        default=20_000,
        ge=100,
        description="Negative stories held, at most: about 3 kB each. When they do not reach back two days, themes are "
        "counted in less than 24 h.",
    )
    max_terms: int = Field(
        default=100_000,
        ge=1_000,
        description="Terms of the past remembered, at most: the heaviest; about 150 bytes each.",
    )


class AlertsSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """Alerting: windows, detector, evidence and delivery."""

    windows: WindowsSettings = Field(default=WindowsSettings(), description="How items are counted.")
    surge: SurgeSettings = Field(default=SurgeSettings(), description="When a series surges.")
    discovery: DiscoverySettings = Field(
        default=DiscoverySettings(), description="How many of the alerts may be false, when many series are watched."
    )
    themes: ThemesSettings = Field(default=ThemesSettings(), description="When themes emerge.")
    clock: Literal["wall", "event"] = Field(
        default="wall",
        description="What time it is: `wall` for live feeds; `event`, the newest item's time, for replays and demo.",
    )
    grace_s: float = Field(
        default=15, ge=0, description="Seconds that a minute stays open after its end, for items under way."
    )
    poll_s: float = Field(default=0.5, gt=0, description="Seconds between two looks at the workers' progress.")
    snapshot_s: float = Field(default=10, gt=0, description="Seconds between two snapshots of the detector's state.")
    stories: int = Field(default=8, ge=1, le=20, description="Stories shown in an alert, at most.")
    explain: bool = Field(
        default=True,
        description="Whether the words that weighed most are marked in an alert's stories. The first surge in "
        "sight loads the model for it: about 500 MB. Without the extra `model` there are none.",
    )
    explain_timeout_s: float = Field(
        default=10, gt=0, le=60, description="Seconds that new alerts wait for those words, at most."
    )
    critical_z: float = Field(
        default=6, ge=2, description="Strength from which an alert is `critical`, below it is `warning`."
    )
    receivers: tuple[Receiver, ...] = Field(
        default=(), description="Receivers of alerts, each with its `type`; see docs/receivers.md."
    )
    rules: Path | None = Field(
        default=None,
        description="File of rules (YAML): limits and receivers by topic, company, group and time. Unset: the settings "
        'here hold for everything. Read anew when it changes, but for `clock = "event"`.',
    )

    @field_validator("receivers")
    @classmethod
    def _names_differ(cls, value: tuple[Receiver, ...]) -> tuple[Receiver, ...]:
        names = [receiver.name for receiver in value]
        if len(set(names)) < len(names):
            raise ValueError("two receivers have the same name")
        return value
