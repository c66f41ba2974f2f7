"""The demo: a bank run retold in our own words, replayed in event time."""

from __future__ import annotations

from importlib.resources import files

DEMO_SPEED = 6_000
"""Event seconds a second: ten days in 144 s."""


def demo_overrides() -> dict[str, str]:
    """Return the environment variables that turn `newsquake up` into the demo."""
    return {
        "NEWSQUAKE_INGEST__RSS__ENABLED": "false",
        "NEWSQUAKE_INGEST__BLUESKY__ENABLED": "false",
        "NEWSQUAKE_INGEST__REPLAY__FILE": str(files("deploy.demo").joinpath("bankrun.jsonl")),
        "NEWSQUAKE_INGEST__REPLAY__SPEED": str(DEMO_SPEED),
        "NEWSQUAKE_INGEST__REPLAY__NAME": "demo",
        "NEWSQUAKE_ALERTS__CLOCK": "event",
    }
