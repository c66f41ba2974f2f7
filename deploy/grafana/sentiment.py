"""The dashboard "newsquake: sentiment and alerts by topic": what the news says, for analysts."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.panels import RED, YELLOW, Query, bars, board, choice, lines, number, rows_of

_ALL = 'newsquake_stream_sentiment_total{topic=~"$topic"'
_COLORS = {"negative": "red", "neutral": "#8e8e8e", "positive": "green"}
_KINDS = {"market": "purple", "topic": "blue", "company": "orange", "company_topic": "yellow", "theme": "green"}


def _share(by: str, over: str) -> str:
    """Negative items in all items; a topic without any item has no share."""
    negative = f'sum{by} (increase({_ALL}, sentiment="negative"}}[{over}]))'
    return f"{negative} / (sum{by} (increase({_ALL}}}[{over}])) > 0)"


def sentiment() -> dashboard.Dashboard:
    """Return the dashboard; `$window` is how much of the past a share looks at."""
    window = (
        dashboard.CustomVariable("window")
        .label("Share over")
        .values("5m,15m,1h,6h,24h")
        .current(models.VariableOption(selected=True, text="1h", value="1h"))
    )
    base = (
        board(
            "newsquake-sentiment",
            "newsquake: sentiment and alerts by topic",
            "What the items of each topic say, and which alerts that raised. Times are those of scoring: a replayed "
            "history shows when it was replayed.",
            span="24h",
        )
        .with_variable(choice("topic", "Topic", "label_values(newsquake_stream_sentiment_total, topic)"))
        .with_variable(window)
    )
    return rows_of(base, {"Now": _now(), "Sentiment": _sentiment(), "By topic": _topics(), "Alerts": _alerts()})


def _now() -> list[object]:
    return [
        number(
            "Items",
            "short",
            Query(f"sum(increase({_ALL}}}[$__range]))", ""),
            about="Items scored over the time shown, of the topics chosen.",
            width=4,
            decimals=0,
        ),
        number(
            "Negative",
            "percentunit",
            Query(_share("", "$__range"), ""),
            about="Share of negative items over the time shown.",
            bad=[(0.3, YELLOW), (0.5, RED)],
            width=4,
            decimals=1,
        ),
        number(
            "Negative now",
            "percentunit",
            Query(_share("", "$window"), ""),
            about="Share of negative items in the window chosen above.",
            bad=[(0.3, YELLOW), (0.5, RED)],
            width=4,
            decimals=1,
        ),
        number(
            "Alerts that fire",
            "short",
            Query("sum(newsquake_alerts_open)", ""),
            about="Episodes of surging negative items that are open now.",
            bad=[(1, RED)],
            width=4,
        ),
        number(
            "Alerts opened",
            "short",
            Query("sum(increase(newsquake_alerts_opened_total[$__range]))", ""),
            about="Over the time shown.",
            width=4,
            decimals=0,
        ),
        number(
            "Messages delivered",
            "short",
            Query('sum(increase(newsquake_alerts_deliveries_total{outcome="delivered"}[$__range]))', ""),
            about="Webhooks that receivers took over the time shown.",
            width=4,
            decimals=0,
        ),
    ]


def _sentiment() -> list[object]:
    return [
        lines(
            "Items by sentiment, a minute",
            "short",
            Query(f"sum by (sentiment) (rate({_ALL}}}[$__rate_interval])) * 60", "{{sentiment}}"),
            about="Of the topics chosen.",
            stacked=True,
            width=12,
            colors=_COLORS,
        ),
        lines(
            "Negative share",
            "percentunit",
            Query(_share("", "$window"), "negative"),
            about="Negative items in all items of the topics chosen, over the window chosen.",
            width=12,
            most=1,
            colors=_COLORS,
        ),
        lines(
            "Net sentiment",
            "percentunit",
            Query(
                f'(sum(increase({_ALL}, sentiment="positive"}}[$window])) '
                f'- sum(increase({_ALL}, sentiment="negative"}}[$window]))) '
                f"/ (sum(increase({_ALL}}}[$window])) > 0)",
                "net",
            ),
            about="Positive less negative items, in all items: -100 % all negative, +100 % all positive.",
            width=24,
            least=None,
        ),
    ]


def _topics() -> list[object]:
    return [
        lines(
            "Items by topic, a minute",
            "short",
            Query(f"sum by (topic) (rate({_ALL}}}[$__rate_interval])) * 60", "{{topic}}"),
            about="What is written about.",
            stacked=True,
            width=12,
        ),
        lines(
            "Negative share by topic",
            "percentunit",
            Query(_share(" by (topic)", "$window"), "{{topic}}"),
            about="Small topics jump: look at the number of items too. Alerts weigh that, shares do not.",
            width=12,
            most=1,
        ),
        bars(
            "Negative items by topic",
            "short",
            Query(f'sort_desc(sum by (topic) (increase({_ALL}, sentiment="negative"}}[$__range])))', "{{topic}}"),
            about="Over the time shown.",
        ),
        bars(
            "Most negative topics",
            "percentunit",
            Query(f"sort_desc(({_share(' by (topic)', '$__range')}) > 0)", "{{topic}}"),
            about="Share of negative items over the time shown; topics without a negative item are left out.",
        ),
    ]


def _alerts() -> list[object]:
    return [
        lines(
            "Alerts that fire, by kind",
            "short",
            Query("sum by (kind) (newsquake_alerts_open)", "{{kind}}"),
            about="By the kind of what surged first: market, topic, company, company and topic, emerging theme.",
            stacked=True,
            colors=_KINDS,
        ),
        lines(
            "Opened and resolved",
            "short",
            Query("sum by (kind) (increase(newsquake_alerts_opened_total[$__rate_interval]))", "opened: {{kind}}"),
            Query("sum(increase(newsquake_alerts_resolved_total[$__rate_interval]))", "resolved"),
            about="An episode is one alert, however long it lasts.",
        ),
        lines(
            "Surges that opened no alert of their own",
            "short",
            Query("sum by (reason) (increase(newsquake_alerts_held_total[$__rate_interval]))", "held: {{reason}}"),
            Query("sum(increase(newsquake_alerts_joined_total[$__rate_interval]))", "joined a related alert"),
            about="Surging minutes held back (learning; too few publishers), and series listed in a related alert.",
        ),
    ]
