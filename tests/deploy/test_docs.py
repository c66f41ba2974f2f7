"""The pages made from code: in step, complete, and true."""

import json
import re
from pathlib import Path

from click.testing import CliRunner
from pydantic import BaseModel, Field, SecretStr

from deploy import docs
from deploy.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| `([\w.\[\]]+)` \| (?:`(NEWSQUAKE_\w+)`|in its list) \| (.+?) \| (.+) \|$", re.M)


def test_pages_are_in_step_and_check_says_when_they_are_not(tmp_path, monkeypatch):
    assert CliRunner().invoke(docs.main, ["--check"]).exit_code == 0
    monkeypatch.setattr(docs, "FOLDER", tmp_path)
    (tmp_path / "settings.md").write_text("old")
    done = CliRunner().invoke(docs.main, ["--check"])
    assert done.exit_code == 1
    assert "settings.md, metrics.md; run" in done.output
    assert (tmp_path / "settings.md").read_text() == "old"
    assert CliRunner().invoke(docs.main, []).exit_code == 0
    assert CliRunner().invoke(docs.main, ["--check"]).exit_code == 0


def test_each_variable_and_default_of_the_page_is_what_the_settings_take(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rows = ROW.findall(docs.settings_page())
    assert len(rows) > 60
    given = {variable: default for _, variable, default, _ in rows if variable and default.startswith("`")}
    for variable, default in given.items():
        value = json.loads(default.strip("`"))
        text = value if isinstance(value, str) else json.dumps(value)
        if variable == "NEWSQUAKE_MODEL__WEIGHTS":  # shown without the place of the installation
            text = str(docs.ROOT / text)
        monkeypatch.setenv(variable, text)
    assert Settings() == Settings.model_construct()


def test_each_setting_is_described():
    for name, _, _, description in ROW.findall(docs.settings_page()):
        assert description.endswith("."), name


def test_a_setting_without_its_page_is_noticed_and_a_secret_is_not_shown(monkeypatch):
    class Inner(BaseModel, frozen=True):
        """More."""

        token: SecretStr = Field(default=SecretStr("hunter2"), description="Opens a|b.")

    class Wider(Settings):
        extra: Inner = Inner()

    monkeypatch.setattr(docs, "Settings", Wider)
    page = docs.settings_page()
    assert "| `extra.token` | `NEWSQUAKE_EXTRA__TOKEN` | secret, set |" in page
    assert "Opens a\\|b." in page
    assert "hunter2" not in page
    assert CliRunner().invoke(docs.main, ["--check"]).exit_code == 1


def test_the_runbook_names_settings_and_metrics_that_exist():
    text = (DOCS / "operations.md").read_text()
    known = {setting for setting, *_ in ROW.findall(docs.settings_page())}
    sections = "|".join(Settings.model_fields)
    named = set(re.findall(rf"`((?:{sections})\.[a-z_.]+)`", text))
    assert len(named) > 10
    assert named <= known
    metrics = docs.metrics_page()
    assert set(re.findall(r"`(newsquake_[a-z_]+)`", text)) <= set(re.findall(r"`(newsquake_[a-z_]+)`", metrics))


def test_the_runbook_names_panels_that_exist():
    text = (DOCS / "operations.md").read_text()
    boards = (DOCS.parent / "deploy" / "grafana" / "dashboards").glob("*.json")
    titles = {panel["title"] for board in boards for panel in json.loads(board.read_text())["panels"]}
    cited = set(re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", text)) - {"Behaviour change"}
    assert len(cited) > 5
    assert {name for name in cited if not any(title.startswith(name) for title in titles)} == set()


def test_links_lead_somewhere():
    text = (DOCS / "operations.md").read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        page, _, anchor = target.partition("#")
        assert (DOCS / page).exists() if page else anchor in anchors, target
