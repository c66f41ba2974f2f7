"""The dashboard "newsquake: the desk": who looks on, how fast pages are, what people do, what of it reaches Kafka."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from deploy.grafana.panels import RED, YELLOW, Query, board, lines, number, rows_of

_SECONDS = "newsquake_desk_request_seconds_bucket"


def desk() -> dashboard.Dashboard:
    """Return the dashboard, over all desks."""
    base = board("newsquake-desk", "newsquake: the desk", "The analysts' page: viewers, answers and deeds.", span="24h")
    return rows_of(base, {"Now": _now(), "Pages": _pages(), "What people do": _deeds()})


def _now() -> list[object]:
    return [
        number(
            "Viewers",
            "short",
            Query("sum(newsquake_desk_viewers)", ""),
            about="Pages that are kept up to date; desk.viewers is the most.",
            width=6,
        ),
        number(
            "Answers, p99",
            "s",
            Query(f"histogram_quantile(0.99, sum by (le) (rate({_SECONDS}[5m])))", ""),
            about="Seconds until an answer was ready.",
            bad=[(0.2, YELLOW), (1, RED)],
            width=6,
        ),
        number(
            "Waits for Kafka",
            "short",
            Query("max(newsquake_desk_feedback_waiting)", ""),
            about="What analysts said that is in Redis and not on the topic yet.",
            bad=[(10, YELLOW), (1_000, RED)],
            width=6,
        ),
        number(
            "Refused sign-ins",
            "short",
            Query('sum(increase(newsquake_desk_logins_total{outcome!="ok"}[$__range]))', ""),
            about="Over the time shown: a token that is not known, or too many attempts.",
            bad=[(20, YELLOW), (200, RED)],
            width=6,
            decimals=0,
        ),
    ]


def _pages() -> list[object]:
    return [
        lines(
            "Pages kept up to date",
            "short",
            Query("sum by (instance) (newsquake_desk_viewers)", "{{instance}}"),
            about="Open pages by desk.",
        ),
        lines(
            "Seconds until an answer",
            "s",
            Query(f"histogram_quantile(0.5, sum by (le) (rate({_SECONDS}[$__rate_interval])))", "p50"),
            Query(f"histogram_quantile(0.95, sum by (le) (rate({_SECONDS}[$__rate_interval])))", "p95"),
            Query(f"histogram_quantile(0.99, sum by (le) (rate({_SECONDS}[$__rate_interval])))", "p99"),
            about="Pages and API; streams of events are left out.",
            limit=0.2,
        ),
        lines(
            "Viewers too slow or too many",
            "short",
            Query("sum(increase(newsquake_desk_viewers_dropped_total[$__rate_interval]))", "told to load anew"),
            Query("sum(increase(newsquake_desk_viewers_refused_total[$__rate_interval]))", "refused"),
            about="Pages that took events up too slowly, and those beyond desk.viewers.",
        ),
    ]


def _deeds() -> list[object]:
    return [
        lines(
            "Deeds, an hour",
            "short",
            Query("sum by (action) (increase(newsquake_desk_actions_total[1h]))", "{{action}}"),
            about="What people did on the desk; the audit log has each with its name.",
        ),
        lines(
            "Sign-ins, an hour",
            "short",
            Query("sum by (outcome) (increase(newsquake_desk_logins_total[1h]))", "{{outcome}}"),
            about="ok; wrong; limited: too many attempts from one address.",
            colors={"ok": "green", "wrong": "orange", "limited": "red"},
        ),
        lines(
            "What analysts said on its way to Kafka",
            "short",
            Query("sum(increase(newsquake_desk_feedback_sent_total[1h]))", "sent in the hour before"),
            Query("max(newsquake_desk_feedback_waiting)", "waits"),
            Query("sum(increase(newsquake_desk_feedback_errors_total[1h]))", "failed attempts in the hour before"),
            about="It waits in Redis while Kafka is away, and none is lost.",
            colors={"failed attempts in the hour before": "red"},
        ),
    ]
