"""The dashboard "newsquake: alerts": how many, how soon somebody takes them up, and how often they are right."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from deploy.grafana.panels import RED, YELLOW, Query, bars, board, lines, number, rows_of

_TRANSITIONS = "newsquake_alerts_transitions_total"
_ACKNOWLEDGED = "newsquake_alerts_acknowledge_seconds_bucket"
_KINDS = {"market": "purple", "topic": "blue", "company": "orange", "company_topic": "yellow", "theme": "green"}


def alerts() -> dashboard.Dashboard:
    """Return the dashboard; what it shows of verdicts is what analysts said on the desk in the last 90 days."""
    base = board(
        "newsquake-alerts",
        "newsquake: alerts",
        "Alerts about the news: what opens, how people take it up, and how often it was worth it.",
        span="7d",
    )
    return rows_of(base, {"Now": _now(), "What happens": _course(), "Are they right": _right()})


def _now() -> list[object]:
    return [
        number(
            "Nobody is on it",
            "short",
            Query('max(newsquake_alerts_lives{state="firing"})', ""),
            about="Alerts that fire, not acknowledged and not silenced.",
            bad=[(1, YELLOW), (10, RED)],
            width=4,
        ),
        number(
            "Longest without an acknowledgement",
            "s",
            Query("max(newsquake_alerts_unheard_seconds)", ""),
            about="Since when the alert that has waited longest has been before people.",
            bad=[(900, YELLOW), (1_800, RED)],
            width=4,
        ),
        number(
            "Alerts fired",
            "short",
            Query(f'sum(increase({_TRANSITIONS}{{event="firing"}}[$__range]))', ""),
            about="Over the time shown.",
            width=4,
            decimals=0,
        ),
        number(
            "Median time to acknowledge",
            "s",
            Query(f"histogram_quantile(0.5, sum by (le) (increase({_ACKNOWLEDGED}[$__range])))", ""),
            about="Of the alerts that somebody acknowledged over the time shown.",
            bad=[(900, YELLOW), (3_600, RED)],
            width=4,
        ),
        number(
            "Precision",
            "percentunit",
            Query(
                'sum(max by (name, verdict) (newsquake_alerts_verdicts{by="rule", verdict="useful"})) '
                '/ (sum(max by (name, verdict) (newsquake_alerts_verdicts{by="rule"})) > 0)',
                "",
            ),
            about="Share of useful among the verdicts of the last 90 days: only of alerts that somebody judged.",
            width=4,
            decimals=0,
        ),
        number(
            "Expected to be false",
            "percentunit",
            Query("max(newsquake_alerts_expected_false_share)", ""),
            about="Share of the alerts of late that the tests themselves lead one to expect to be false.",
            bad=[(0.2, YELLOW), (0.4, RED)],
            width=4,
            decimals=0,
        ),
    ]


def _course() -> list[object]:
    return [
        lines(
            "Open alerts by state",
            "short",
            Query("max by (state) (newsquake_alerts_lives)", "{{state}}"),
            about="firing: nobody is on it. acknowledged: somebody is. silenced: nobody is told.",
            stacked=True,
            colors={"firing": "red", "acknowledged": "yellow", "silenced": "#8e8e8e"},
        ),
        lines(
            "Steps in the lives of alerts, an hour",
            "short",
            Query("newsquake:alerts_transitions:increase1h", "{{event}}"),
            about="Fired, acknowledged, escalated, silenced, resolved and so on, in the hour before.",
        ),
        lines(
            "Time to acknowledge",
            "s",
            Query("newsquake:alerts_acknowledge_seconds:p50_1d", "p50"),
            Query("newsquake:alerts_acknowledge_seconds:p95_1d", "p95"),
            about="From when an alert fired until somebody said that they are on it, over the day before.",
        ),
        lines(
            "Alerts opened, an hour",
            "short",
            Query("sum by (kind) (increase(newsquake_alerts_opened_total[1h]))", "{{kind}}"),
            about="By what they are about.",
            stacked=True,
            colors=_KINDS,
        ),
        lines(
            "Surges listed in another's alert, an hour",
            "short",
            Query("sum by (kind) (increase(newsquake_alerts_joined_total[1h]))", "{{kind}}"),
            about="What raised no alert of its own, because a related alert explains it.",
            colors=_KINDS,
        ),
        lines(
            "Held back, an hour",
            "short",
            Query("sum by (reason) (increase(newsquake_alerts_held_total[1h]))", "{{reason}}"),
            about="Surging minutes of a series that opened no alert, by reason.",
        ),
    ]


def _right() -> list[object]:
    return [
        bars(
            "Precision by rule",
            "percentunit",
            Query('sort_desc(newsquake:alerts_precision:ratio{by="rule"})', "{{name}}"),
            about="Share of useful among the verdicts of the last 90 days; none: alerts that no rule was about.",
            width=8,
        ),
        bars(
            "Precision by topic",
            "percentunit",
            Query('sort_desc(newsquake:alerts_precision:ratio{by="topic"})', "{{name}}"),
            about="The same by what the alert, or most of its stories, were about.",
            width=8,
        ),
        lines(
            "What analysts said, a day",
            "short",
            Query("sum by (verdict) (increase(newsquake_alerts_feedback_total[1d]))", "{{verdict}}"),
            about="Clicks on the desk: verdicts on alerts and corrections of headlines, those taken back among them.",
            colors={"useful": "green", "false_alarm": "red"},
        ),
        lines(
            "Expected and judged false",
            "percentunit",
            Query("max(newsquake_alerts_expected_false_share)", "expected to be false"),
            Query(
                'sum(max by (name, verdict) (newsquake_alerts_verdicts{by="rule", verdict="false_alarm"})) '
                '/ (sum(max by (name, verdict) (newsquake_alerts_verdicts{by="rule"})) > 0)',
                "judged a false alarm",
            ),
            about="The detector's own expectation beside what people said. The two differ where a surge was real and "
            "yet of no use.",
            width=12,
            most=1,
        ),
        lines(
            "Drift of the model",
            "short",
            Query("newsquake_model_drift / newsquake_model_drift_threshold", "{{measure}}"),
            about="Each measure over its threshold, by `newsquake drift`: from 1 on it may have drifted.",
            limit=1,
            width=12,
        ),
    ]
