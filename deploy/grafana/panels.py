"""The few kinds of panel that newsquake's dashboards are made of, so that all look and read alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models

DATASOURCE = models.DataSourceRef("prometheus", "${datasource}")
GREEN, YELLOW, RED, GREY = "green", "yellow", "red", "#8e8e8e"
WIDTH = 24  # columns of Grafana's grid


class _Asks(Protocol):
    def with_target(self, target: Any) -> Self: ...


P = TypeVar("P", bound=_Asks)


class Query(NamedTuple):
    """A PromQL expression and the legend of each series it gives."""

    expr: str
    legend: str


def rows_of(board: dashboard.Dashboard, rows: dict[str, Sequence[Any]]) -> dashboard.Dashboard:
    """Add the panels under their row titles."""
    for title, panels in rows.items():
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return board


def board(uid: str, title: str, description: str, *, span: str) -> dashboard.Dashboard:
    """Return an empty dashboard that shows the last `span` and links to the other one."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["newsquake"])
        .time(f"now-{span}", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            dashboard.DashboardLink("newsquake")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["newsquake"])
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )


def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Return a variable whose values are a label's, several or all at once."""
    everything = models.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def lines(
    title: str,
    unit: str,
    *queries: Query,
    about: str,
    stacked: bool = False,
    width: int = 8,
    least: float | None = 0,
    most: float | None = None,
    limit: float | None = None,
    colors: dict[str, str] | None = None,
) -> timeseries.Panel:
    """Return curves over time; `limit` draws a dashed line from which the value is bad."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(8)
        .line_width(1)
        .fill_opacity(25 if stacked else 8)
        .show_points(kinds.VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.TABLE)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
    if least is not None:
        panel = panel.min(least)
    if most is not None:
        panel = panel.max(most)
    if limit is not None:
        panel = panel.thresholds(_steps([(None, GREEN), (limit, RED)])).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(kinds.GraphTresholdsStyleMode.DASHED)
        )
    for name, color in (colors or {}).items():
        panel = panel.override_by_name(name, [_fixed(color)])
    return _asked(panel, queries)


def number(
    title: str,
    unit: str,
    query: Query,
    *,
    about: str,
    bad: Sequence[tuple[float, str]] = (),
    width: int = 3,
    decimals: int | None = None,
) -> stat.Panel:
    """Return one large number, green until the first of `bad` (value, color) is reached."""
    panel = (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .no_value("none")
        .color_mode(kinds.BigValueColorMode.VALUE)
        .graph_mode(kinds.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_steps([(None, GREEN), *bad]))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    return _asked(panel, [query], instant="$__range" in query.expr)  # the same at every point of the curve otherwise


def bars(title: str, unit: str, query: Query, *, about: str, width: int = 12, height: int = 10) -> bargauge.Panel:
    """Return a bar for each series of an instant query, in its order."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(about)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(height)
        .min(0)
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .display_mode(kinds.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .no_value("none")
    )
    return _asked(panel, [query], instant=True)


def states(title: str, *queries: Query, about: str, width: int = 24) -> statetimeline.Panel:
    """Return 1 (fine) and 0 (not) over time as bands of green and red."""
    fine = models.ValueMap(
        options={
            "1": models.ValueMappingResult(text="yes", color=GREEN, index=0),
            "0": models.ValueMappingResult(text="no", color=RED, index=1),
        }
    )
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(about)
        .datasource(DATASOURCE)
        .span(width)
        .height(8)
        .mappings([fine])
        .show_value(kinds.VisibilityMode.NEVER)
        .fill_opacity(80)
        .line_width(0)
        .legend(common.VizLegendOptions().show_legend(False).display_mode(kinds.LegendDisplayMode.LIST))
    )
    return _asked(panel, queries)


def _asked(panel: P, queries: Sequence[Query], *, instant: bool = False) -> P:
    for ref_id, query in zip("ABCDEF", queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref_id)
        panel = panel.with_target(target.instant() if instant else target.range())
    return panel


def _steps(steps: Sequence[tuple[float | None, str]]) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value, color) for value, color in steps])
    )


def _fixed(color: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})
