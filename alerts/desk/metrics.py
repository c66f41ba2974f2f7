"""All metrics of the desk."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class DeskMetrics:
    """Counts who looks on and what they do."""

    def __init__(self, registry: CollectorRegistry) -> None:
        name = "newsquake_desk_"
        self.viewers = Gauge(f"{name}viewers", "Pages that are kept up to date now.", registry=registry)
        self.dropped = Counter(
            f"{name}viewers_dropped",
            "Pages that took up events too slowly and were told to load anew.",
            registry=registry,
        )
        self.refused = Counter(
            f"{name}viewers_refused", "Pages not kept up to date because of desk.viewers.", registry=registry
        )
        self.logins = Counter(
            f"{name}logins", "Attempts to sign in, by outcome: ok, wrong, limited.", ["outcome"], registry=registry
        )
        self.actions = Counter(
            f"{name}actions",
            "What people did: acknowledge, unacknowledge, resolve, silence, expire_silence, feedback.",
            ["action"],
            registry=registry,
        )
        self.page_seconds = Histogram(
            f"{name}request_seconds",
            "Seconds until an answer was ready; those that stay open are left out.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 3),
            registry=registry,
        )
        for outcome in ("ok", "wrong", "limited"):
            self.logins.labels(outcome=outcome)
        for action in ("acknowledge", "unacknowledge", "resolve", "silence", "expire_silence", "feedback"):
            self.actions.labels(action=action)
