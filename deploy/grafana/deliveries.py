"""The dashboard "newsquake: deliveries": who was told, how soon, and who takes nothing."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from deploy.grafana.panels import RED, YELLOW, Query, board, choice, lines, number, rows_of, states

_MINE = 'receiver=~"$receiver"'
_ATTEMPTS = f"newsquake_alerts_deliveries_total{{{_MINE}}}"
_BUCKETS = f"newsquake_alerts_delivery_seconds_bucket{{{_MINE}}}"
_LEADS = "unless on (job, instance) newsquake_alerts_leader == 0"


def deliveries() -> dashboard.Dashboard:
    """Return the dashboard, by receiver."""
    base = board(
        "newsquake-deliveries",
        "newsquake: deliveries",
        "What was sent to receivers of alerts, and what waits or was given up. `newsquake deliveries` shows each one.",
        span="24h",
    ).with_variable(choice("receiver", "Receiver", "label_values(newsquake_alerts_receiver_up, receiver)"))
    return rows_of(base, {"At a glance": _glance(), "By receiver": _receivers(), "The way out": _way()})


def _glance() -> list[object]:
    return [
        number(
            "Receivers that take nothing",
            "short",
            Query(f"count((newsquake_alerts_receiver_up{{{_MINE}}} {_LEADS}) == 0) or vector(0)", ""),
            about="Three failures in a row; one delivery at a time is tried.",
            bad=[(1, RED)],
            width=4,
        ),
        number(
            "Waiting",
            "short",
            Query(f"max(newsquake_alerts_outbox_depth {_LEADS})", ""),
            about="Deliveries that no receiver has taken yet.",
            bad=[(1, YELLOW), (10, RED)],
            width=4,
        ),
        number(
            "Overdue",
            "s",
            Query(f"clamp_min(max(newsquake_alerts_oldest_due_seconds {_LEADS}), 0)", ""),
            about="How long the delivery that is longest due has been due and not tried.",
            bad=[(30, YELLOW), (120, RED)],
            width=4,
        ),
        number(
            "Given up",
            "short",
            Query(f'sum(increase(newsquake_alerts_deliveries_total{{outcome="dead", {_MINE}}}[$__range]))', ""),
            about="Over the time shown: nobody was told of these.",
            bad=[(0.5, RED)],
            width=4,
            decimals=0,
        ),
        number(
            "Told within",
            "s",
            Query(f"histogram_quantile(0.95, sum by (le) (increase({_BUCKETS}[$__range])))", ""),
            about="From a message to its receiver's answer, 95 of 100 within this, over the time shown.",
            bad=[(3, YELLOW), (30, RED)],
            width=4,
        ),
        number(
            "Shortened to digests",
            "short",
            Query(f"sum(increase(newsquake_alerts_deliveries_held_back_total{{{_MINE}}}[$__range]))", ""),
            about="Messages that came as lines of a digest, because a receiver's limit a minute was reached.",
            bad=[(1, YELLOW)],
            width=4,
            decimals=0,
        ),
    ]


def _receivers() -> list[object]:
    return [
        states(
            "Takes deliveries",
            Query(f"min by (receiver) (newsquake_alerts_receiver_up{{{_MINE}}} {_LEADS})", "{{receiver}}"),
            about="No: the circuit of this receiver is open, what it is due waits.",
        ),
        lines(
            "Attempts to deliver by receiver",
            "short",
            Query(f"sum by (receiver, outcome) (increase({_ATTEMPTS}[$__rate_interval]))", "{{receiver}} {{outcome}}"),
            about="delivered; failed (tried again); dead (given up).",
            width=12,
        ),
        lines(
            "Seconds until taken, p95",
            "s",
            Query(
                f"histogram_quantile(0.95, sum by (le, receiver) (rate({_BUCKETS}[$__rate_interval])))", "{{receiver}}"
            ),
            about="From the moment a message was made until its receiver had taken it.",
            width=12,
        ),
    ]


def _way() -> list[object]:
    return [
        lines(
            "Notifications made, an hour",
            "short",
            Query("sum by (event) (increase(newsquake_alerts_notifications_total[1h]))", "{{event}}"),
            about="What routes and groups made for receivers of what happened.",
        ),
        lines(
            "Waiting and given up",
            "short",
            Query(f"max(newsquake_alerts_outbox_depth {_LEADS})", "waiting"),
            Query(f"max(newsquake_alerts_dead_deliveries {_LEADS})", "in the dead list"),
            about="`newsquake deliveries replay` sends again what was given up.",
            colors={"in the dead list": "red"},
        ),
        lines(
            "Age of the longest due",
            "s",
            Query(f"max by (receiver) (newsquake_alerts_oldest_due_seconds{{{_MINE}}} {_LEADS})", "{{receiver}}"),
            about="How late each receiver is told. 0 for one that is down: its deliveries are meant to wait.",
            limit=120,
        ),
        states(
            "Leads alerting",
            Query("newsquake_alerts_leader", "{{instance}}"),
            about="One process judges, tells and sends; the others stand by.",
        ),
    ]
