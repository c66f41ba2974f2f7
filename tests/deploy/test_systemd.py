"""The systemd units: valid, hardened, with commands and settings that exist."""

import configparser
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import cli
from deploy.settings import load, require

SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = {
    "newsquake-ingest.service": "newsquake-ingest.service",
    "newsquake-alerts.service": "newsquake-alerts.service",
    "newsquake-desk.service": "newsquake-desk.service",
    "newsquake-stream@.service": "newsquake-stream@9410.service",
}


@pytest.fixture
def systemd_analyze(service_program):
    program = service_program("systemd-analyze", "systemd")

    def run(*arguments):
        return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def installed(tmp_path):
    """The unit as it would be installed here: with this environment's command."""

    def copy(unit):
        path = tmp_path / UNITS[unit]
        path.write_text((SYSTEMD / unit).read_text().replace("/opt/newsquake/.venv/bin", sysconfig.get_path("scripts")))
        return path

    return copy


def test_all_units_are_looked_at():
    assert {path.name for path in SYSTEMD.glob("*.service")} == UNITS.keys()


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_it(systemd_analyze, installed, unit):
    done = systemd_analyze("verify", installed(unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_check_notices_a_misspelt_option(systemd_analyze, installed):
    path = installed("newsquake-ingest.service")
    path.write_text(path.read_text().replace("ProtectHome", "ProtectHouse"))
    assert "ProtectHouse" in systemd_analyze("verify", path).stderr


@pytest.mark.parametrize("unit", UNITS)
def test_it_is_hardened(systemd_analyze, unit):
    """systemd's own measure, in tenths: 10 is wide open, below 2 is what it calls OK."""
    done = systemd_analyze("security", "--offline=true", "--threshold=20", SYSTEMD / unit)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_its_command_exists_with_these_options(unit):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(SYSTEMD / unit)
    program, *arguments = parser["Service"]["ExecStart"].replace("%i", "9410").split()
    assert Path(program).name == "newsquake"
    done = CliRunner().invoke(cli, [*arguments, "--help"])
    assert done.exit_code == 0, done.output
    assert parser["Service"]["Restart"] == "always"


def test_the_example_of_an_environment_is_complete_and_holds_no_secret(monkeypatch, tmp_path):
    text = (SYSTEMD / "newsquake.env.example").read_text()
    assert not re.search(r"whsec_[A-Za-z0-9+/]", text)
    monkeypatch.chdir(tmp_path)
    # all of it filled in, and read by a shell, as operations.md does
    whole = re.sub(r"^# (?=NEWSQUAKE_)", "", text, flags=re.M).replace("whsec_...", "whsec_" + "A" * 32)
    (tmp_path / "newsquake.env").write_text(whole)
    read = subprocess.run(
        ["bash", "-c", "set -ae; . ./newsquake.env; env -0"], capture_output=True, check=True, text=True
    )
    assert not read.stderr
    for line in read.stdout.split("\0"):
        if line.startswith("NEWSQUAKE_"):
            monkeypatch.setenv(*line.split("=", 1))
    settings = load()
    assert settings.ingest.user_agent == "newsquake (risk team, risk@bank.example)"
    assert [receiver.name for receiver in settings.alerts.receivers] == ["risk"]
    bootstrap, url = require(settings)
    assert bootstrap.startswith("kafka-1.bank.example:9092,")
    assert url == "redis://redis.bank.example:6379/0"


def test_units_differ_only_where_they_must():
    """One hardening for all, kept in step."""
    texts = [
        re.sub(r"^(Description|ExecStart|TimeoutStopSec)=.*\n|^#.*\n", "", (SYSTEMD / unit).read_text(), flags=re.M)
        for unit in UNITS
    ]
    assert len(set(texts)) == 1
