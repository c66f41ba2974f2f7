"""An alert and a story that stand for any: a test says what of them it is about."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from alerts.alert import Alert, Figures, Story

_FIGURES = Figures(
    window_min=60, observed=14, others=1, copies=3, expected=1.2, low=0, high=4, p_value=2e-9, z=6.1, share=0.2,
    history=33.0,
)  # fmt: skip


def made_alert(company: str, at: datetime, **fields: Any) -> Alert:
    """Return an alert on a company that fired at a time, without stories; `fields` are its others."""
    plain = Alert(
        id="a" * 32, revision=1, status="firing", severity="critical", series=f"company={company}", name=company,
        started_at=at, updated_at=at, summary=f"{company}: 14 negative of 15 items", figures=_FIGURES, peak=_FIGURES,
        publishers=2, stories=(),
    )  # fmt: skip
    return msgspec.structs.replace(plain, **fields)


def made_story(title: str, at: datetime, **fields: Any) -> Story:
    """Return a negative story published at a time; `fields` are its others."""
    plain = Story(
        title=title, publisher="Daily", source="rss", url="https://example.org/1", published_at=at, topic="Liquidity",
        companies=("SIVB",), negative=0.97,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **fields)
