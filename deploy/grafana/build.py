"""Writes the dashboards: `python -m deploy.grafana.build`; with `--check` only says whether they are in step."""

from __future__ import annotations

import json
from pathlib import Path

import click
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.alerts import alerts
from deploy.grafana.deliveries import deliveries
from deploy.grafana.desk import desk
from deploy.grafana.pipeline import pipeline
from deploy.grafana.sentiment import sentiment

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, str]:
    """Return file name → JSON of each dashboard."""
    made = {
        "alerts.json": alerts(),
        "deliveries.json": deliveries(),
        "desk.json": desk(),
        "pipeline.json": pipeline(),
        "sentiment.json": sentiment(),
    }
    texts = {}
    for name, builder in made.items():
        model = builder.build()
        for number, panel in enumerate(model.panels or (), 1):
            panel.id_val = number
        texts[name] = json.dumps(model, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
    return texts


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit 1 when a file is out of step.")
def main(check: bool) -> None:
    """Write dashboards/*.json, which Grafana is provisioned with."""
    stale = [name for name, text in dashboards().items() if not _same(FOLDER / name, text)]
    if check and stale:
        raise click.ClickException(f"out of step: {', '.join(stale)}; run `python -m deploy.grafana.build`")
    for name in stale:
        (FOLDER / name).write_text(dashboards()[name], "utf-8")
        click.echo(f"wrote {FOLDER / name}")


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


if __name__ == "__main__":
    main()
