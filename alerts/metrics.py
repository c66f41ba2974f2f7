"""All metrics of alerting."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from alerts.life import SEVERITIES, Event

KINDS = ("market", "topic", "company", "company_topic", "theme")


class AlertsMetrics:
    """Counts what the engine judges, opens and delivers. `kind` is the kind of series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        name = "newsquake_alerts_"
        self.leader = Gauge(
            f"{name}leader", "1 in the process that leads alerting, 0 where it stands by.", registry=registry
        )
        self.published = Counter(
            f"{name}published", "Records of alerts and silences that Kafka has acknowledged.", registry=registry
        )
        self.publish_errors = Counter(
            f"{name}publish_errors",
            "Failed attempts to publish alerts to Kafka, tried again, and records too large for it, left out.",
            registry=registry,
        )
        self.series = Gauge(f"{name}series", "Series tracked by the detector.", registry=registry)
        self.refused = Counter(
            f"{name}series_refused", "Counts left out because max_series were tracked.", registry=registry
        )
        self.minutes = Counter(f"{name}minutes_judged", "Minutes judged.", registry=registry)
        self.tick_seconds = Histogram(
            f"{name}tick_seconds",
            "Seconds to judge a minute, or each of those judged together, on average.",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
            registry=registry,
        )
        self.behind_seconds = Gauge(
            f"{name}behind_seconds",
            "Seconds from the end of the last judged minute to now, either way where a clock stood ahead.",
            registry=registry,
        )
        self.open = Gauge(f"{name}open", "Alerts that fire now.", ["kind"], registry=registry)
        self.opened = Counter(f"{name}opened", "Alerts opened.", ["kind"], registry=registry)
        self.resolved = Counter(f"{name}resolved", "Alerts resolved.", ["kind"], registry=registry)
        self.transitions = Counter(
            f"{name}transitions",
            "Steps in the lives of alerts: firing, moved, escalated, acknowledged, unacknowledged, resolved, reopened, "
            "silenced, unsilenced, noted.",
            ["event"],
            registry=registry,
        )
        self.acknowledge_seconds = Histogram(
            f"{name}acknowledge_seconds",
            "Seconds from when an alert fired, or was reopened, until somebody acknowledged it.",
            buckets=(30, 60, 120, 300, 600, 1_800, 3_600, 14_400, 86_400),
            registry=registry,
        )
        self.lives = Gauge(
            f"{name}lives",
            "Alerts that are not resolved, by how people stand to them: firing, acknowledged, silenced.",
            ["state"],
            registry=registry,
        )
        self.unheard_seconds = Gauge(
            f"{name}unheard_seconds",
            "Seconds for which the longest waiting alert has had no acknowledgement, by severity; 0 when none waits.",
            ["severity"],
            registry=registry,
        )
        self.joined = Counter(
            f"{name}joined",
            "Surges listed in the alert of a related series: parts that it explains, and what surges because of it.",
            ["kind"],
            registry=registry,
        )
        self.expected_false_share = Gauge(
            f"{name}expected_false_share",
            "Share of the alerts of late that is expected to be false, from the tests made and the p-values at which "
            "alerts open; themes do not count.",
            registry=registry,
        )
        self.held = Counter(
            f"{name}held",
            "Surging minutes of a series that opened no alert, by reason: warming_up, publishers, copies (no surge "
            "without its reprints), discovery (not rare enough among all tests of late), muted (by a rule).",
            ["reason"],
            registry=registry,
        )
        self.themes_window_seconds = Gauge(
            f"{name}themes_window_seconds",
            "Seconds in which the stories of a theme are counted: 86400, or less when themes.max_stories is too small.",
            registry=registry,
        )
        self.themes_terms = Gauge(f"{name}themes_terms", "Terms of the past remembered.", registry=registry)
        self.themes_forgotten = Counter(
            f"{name}themes_forgotten", "Terms dropped because themes.max_terms were remembered.", registry=registry
        )
        self.themes_loss = Gauge(
            f"{name}themes_loss",
            "Stories by which the expectation for a term may be too high, for what was forgotten: themes are found "
            "that much later.",
            registry=registry,
        )
        self.deliveries = Counter(
            f"{name}deliveries",
            "Attempts to deliver, by receiver and outcome: delivered, failed, dead; superseded were not sent again.",
            ["receiver", "outcome"],
            registry=registry,
        )
        self.delivery_seconds = Histogram(
            f"{name}delivery_seconds",
            "Seconds from the moment a message was made until its receiver had taken it, by receiver.",
            ["receiver"],
            buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 10_000, 100_000),
            registry=registry,
        )
        self.receiver_up = Gauge(
            f"{name}receiver_up",
            "0 while a receiver takes nothing: it failed three times in a row, and one delivery at a time is tried.",
            ["receiver"],
            registry=registry,
        )
        self.held_back = Counter(
            f"{name}deliveries_held_back",
            "Messages that a receiver got as lines of a digest, because its limit a minute was reached.",
            ["receiver"],
            registry=registry,
        )
        self.explained = Counter(
            f"{name}explained",
            "Questions for the words that weighed most in new alerts, by outcome: explained, failed, late (no answer "
            "in time), busy (an earlier answer was still awaited). The alerts went out in any case.",
            ["outcome"],
            registry=registry,
        )
        self.explain_seconds = Histogram(
            f"{name}explain_seconds",
            "Seconds until those words were there.",
            buckets=(0.1, 0.3, 1, 3, 10, 30),
            registry=registry,
        )
        self.notifications = Counter(
            f"{name}notifications",
            "Notifications made for receivers by routes and groups, by event: alert.firing, alert.escalated, "
            "alert.acknowledged, alert.resolved, alert.repeated.",
            ["event"],
            registry=registry,
        )
        self.groups = Gauge(f"{name}groups", "Groups of alerts of which a receiver is told.", registry=registry)
        self.rules_valid = Gauge(
            f"{name}rules_valid",
            "1 when the file of rules is in force as it stands; 0 when it is wrong or gone, and the rules before it "
            "stay in force.",
            registry=registry,
        )
        self.rules_loaded_timestamp_seconds = Gauge(
            f"{name}rules_loaded_timestamp_seconds",
            "Unix time at which the rules in force were read; 0 without a file of rules.",
            registry=registry,
        )
        self.outbox_depth = Gauge(f"{name}outbox_depth", "Deliveries that wait.", registry=registry)
        self.oldest_due_seconds = Gauge(
            f"{name}oldest_due_seconds",
            "Seconds for which what a receiver is to be told has been due: how late it is; 0 while it is down, "
            "when that is to wait.",
            ["receiver"],
            registry=registry,
        )
        self.dead_deliveries = Gauge(f"{name}dead_deliveries", "Deliveries in the dead list.", registry=registry)
        self.redis_errors = Counter(f"{name}redis_errors", "Failed calls to Redis, tried again.", registry=registry)
        self.unexpected_errors = Counter(
            f"{name}unexpected_errors",
            "Failures that nobody foresaw, by the part that goes on after a pause, and cursors that held no place in "
            "the log: leading, judging, watching (these metrics), dispatching, sending, publishing. The log has each.",
            ["part"],
            registry=registry,
        )
        for kind in KINDS:  # rules and dashboards see 0, not nothing
            for metric in (self.open, self.opened, self.resolved, self.joined):
                metric.labels(kind=kind)
        for event in get_args(Event):
            self.transitions.labels(event=event)
        for state in ("firing", "acknowledged", "silenced"):
            self.lives.labels(state=state)
        for severity in SEVERITIES:
            self.unheard_seconds.labels(severity=severity)
        for event in ("firing", "escalated", "acknowledged", "resolved", "repeated"):
            self.notifications.labels(event=f"alert.{event}")
        for part in ("leading", "judging", "watching", "dispatching", "sending", "publishing"):
            self.unexpected_errors.labels(part=part)
        for reason in ("warming_up", "publishers", "copies", "discovery", "muted"):
            self.held.labels(reason=reason)
        for outcome in ("explained", "failed", "late", "busy"):
            self.explained.labels(outcome=outcome)

    def receiver(self, name: str) -> None:
        """Let a receiver's metrics be 0 from the start, not missing."""
        for outcome in ("delivered", "failed", "dead", "superseded"):
            self.deliveries.labels(receiver=name, outcome=outcome)
        self.receiver_up.labels(receiver=name).set(1)
        self.oldest_due_seconds.labels(receiver=name)
        self.held_back.labels(receiver=name)
        self.delivery_seconds.labels(receiver=name)
