"""All metrics of the desk."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_ACTIONS = (
    "acknowledge", "unacknowledge", "resolve", "reopen", "note", "silence", "change_silence", "expire_silence",
    "dismiss", "feedback",
)  # fmt: skip


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
            f"{name}viewers_refused",
            "Pages not kept up to date because of desk.viewers or desk.viewers_each.",
            registry=registry,
        )
        self.reading_errors = Counter(
            f"{name}reading_errors",
            "Failed looks at what has changed, made again, by reason: redis, now (the minute of the table cannot be "
            "read; all else is told), unexpected. Until one succeeds pages say that they are not up to date.",
            ["reason"],
            registry=registry,
        )
        self.unreadable = Counter(
            f"{name}unreadable",
            "Records passed over by what follows what is new, because they cannot be read, by what they should be: "
            "transition, deed, item.",
            ["what"],
            registry=registry,
        )
        self.logins = Counter(
            f"{name}logins", "Attempts to sign in, by outcome: ok, wrong, limited.", ["outcome"], registry=registry
        )
        self.actions = Counter(
            f"{name}actions",
            f"What people did: {', '.join(_ACTIONS)}.",
            ["action"],
            registry=registry,
        )
        self.page_seconds = Histogram(
            f"{name}request_seconds",
            "Seconds until an answer was ready; those that stay open are left out.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 3),
            registry=registry,
        )
        self.feedback = Counter(
            "newsquake_alerts_feedback",
            "What analysts said of alerts and headlines: useful, false_alarm, wrong_sentiment, wrong_topic, "
            "taken_back.",
            ["verdict"],
            registry=registry,
        )
        self.verdicts = Gauge(
            "newsquake_alerts_verdicts",
            "Verdicts on alerts of the last 90 days that stand, `by` rule or topic: useful or false_alarm, of at most "
            "50 names each. All desks on one Redis give the same.",
            ["by", "name", "verdict"],
            registry=registry,
        )
        self.feedback_sent = Counter(
            f"{name}feedback_sent", "What analysts said and Kafka acknowledged.", registry=registry
        )
        self.feedback_errors = Counter(
            f"{name}feedback_errors", "Failed attempts to bring it to Kafka, made again.", registry=registry
        )
        self.feedback_waiting = Gauge(
            f"{name}feedback_waiting", "What analysts said that waits in Redis for Kafka.", registry=registry
        )
        self.feedback_oldest_seconds = Gauge(
            f"{name}feedback_oldest_seconds", "Seconds for which the oldest of it has waited.", registry=registry
        )
        for verdict in ("useful", "false_alarm", "wrong_sentiment", "wrong_topic", "taken_back"):
            self.feedback.labels(verdict=verdict)
        for reason in ("redis", "now", "unexpected"):
            self.reading_errors.labels(reason=reason)
        for what in ("transition", "deed", "item"):
            self.unreadable.labels(what=what)
        for outcome in ("ok", "wrong", "limited"):
            self.logins.labels(outcome=outcome)
        for action in _ACTIONS:
            self.actions.labels(action=action)
