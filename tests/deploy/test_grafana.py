"""The dashboards: in step with their code, with everything a reader needs."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from deploy.grafana import build

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))


def panels(path):
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


def test_files_are_in_step_and_check_says_when_they_are_not(tmp_path, monkeypatch):
    assert CliRunner().invoke(build.main, ["--check"]).exit_code == 0
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    (tmp_path / "pipeline.json").write_text("{}")
    done = CliRunner().invoke(build.main, ["--check"])
    assert done.exit_code == 1
    assert "alerts.json, deliveries.json, desk.json, pipeline.json, sentiment.json; run" in done.output
    assert (tmp_path / "pipeline.json").read_text() == "{}", "--check changes nothing"
    assert CliRunner().invoke(build.main, []).exit_code == 0
    assert [(tmp_path / path.name).read_text() for path in DASHBOARDS] == [path.read_text() for path in DASHBOARDS]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_each_panel_says_what_it_shows_in_which_unit(path):
    shown = panels(path)
    assert len({panel["id"] for panel in shown}) == len({panel["title"] for panel in shown}) == len(shown)
    for panel in shown:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["type"] == "state-timeline" or panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(legends) == 1 or all(legends), f"{panel['title']}: its curves cannot be told apart"
        assert len({target["refId"] for target in panel["targets"]}) == len(legends)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_lie_side_by_side_on_the_grid(path):
    taken = set()
    for panel in json.loads(path.read_text())["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies over another"
        taken |= cells


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_each_choice_is_used_by_a_panel(path):
    names = {variable["name"] for variable in json.loads(path.read_text())["templating"]["list"]}
    text = json.dumps([panel["targets"] for panel in panels(path)]) + "${datasource}"
    unused = {name for name in names if f"${name}" not in text and f"${{{name}}}" not in text}
    assert not unused


def test_provisioning_points_at_the_mounted_folder():
    compose = yaml.safe_load((GRAFANA.parent / "compose" / "compose.yaml").read_text())
    mounts = [mount.split(":") for mount in compose["services"]["grafana"]["volumes"] if mount.startswith("..")]
    targets = {target: (GRAFANA.parent / "compose" / source).resolve() for source, target, *_ in mounts}
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "newsquake.yaml").read_text())["providers"]
    assert targets[provider["options"]["path"]] == GRAFANA / "dashboards"
    assert targets["/etc/grafana/provisioning"] == GRAFANA / "provisioning"
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text())
    (source,) = sources["datasources"]
    assert source["url"].strip("${}") in compose["services"]["grafana"]["environment"]
