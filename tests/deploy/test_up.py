"""`newsquake up` before anything is started: what it refuses, and when it becomes the demo."""

import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from alerts.desk.auth import Tokens
from deploy.commands import up as module
from deploy.local.state import StateLock


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command up to the point where it would start something, and tells whether it would be the demo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        module, "_run", lambda settings, state_dir, demo: print(f"runs in {state_dir.name}, demo {demo}")
    )
    monkeypatch.setattr(module, "_FEEDS_TIMEOUT_S", 0.5)

    def invoke(*arguments, **env):
        return CliRunner().invoke(module.up, arguments, env={f"NEWSQUAKE_{name}": value for name, value in env.items()})

    return invoke


NO_FEED = '[{"name": "nobody", "url": "http://127.0.0.1:1/", "publisher": "Nobody"}]'


def test_without_options_it_is_no_demo(run):
    assert run().output == "runs in .newsquake, demo False\n"


def test_or_demo_with_feeds_out_of_reach_is_the_demo_and_says_so(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "deploy.demo", SimpleNamespace(demo_overrides=dict))
    done = run("--or-demo", INGEST__RSS__FEEDS=NO_FEED)
    assert "none of the feeds can be reached" in done.output
    assert done.output.endswith("runs in demo, demo True\n")


def test_or_demo_leaves_settings_alone_that_read_no_feeds(run):
    assert run("--or-demo", INGEST__RSS__ENABLED="false").output == "runs in .newsquake, demo False\n"


def test_a_list_of_feeds_that_cannot_be_used_is_a_clear_error(run, tmp_path):
    (tmp_path / "feeds.toml").write_text("[[feeds]]\nname = 1\n")
    done = run("--or-demo", INGEST__RSS__FEEDS_FILE=str(tmp_path / "feeds.toml"))
    assert done.exit_code == 1
    assert "feeds.toml" in done.output


def test_the_demo_starts_from_nothing_and_keeps_what_is_not_its_own(run, tmp_path):
    demo, other = tmp_path / ".newsquake" / "demo", tmp_path / ".newsquake" / "kafka"
    for folder in (demo / "kafka", other):
        folder.mkdir(parents=True)
        (folder / "old").write_text("old")
    (demo / "link").symlink_to(other)
    with StateLock(demo):
        module._wipe(demo)
        assert [path.name for path in demo.iterdir()] == ["up.lock"]
    assert (other / "old").exists()


def test_two_in_one_place_are_refused(run, tmp_path):
    with StateLock(tmp_path / ".newsquake"):
        done = run()
    assert done.exit_code == 1
    assert "already runs" in done.output


SHOW = "import sys; from deploy.commands.up import _first_token; print(_first_token(sys.argv[1], print))"


def test_the_first_token_is_made_on_a_terminal_once_and_in_no_log(store):
    command = [sys.executable, "-c", SHOW, os.environ["NEWSQUAKE_REDIS__URL"]]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == b"False\n"
    assert Tokens(store).list() == []
    terminal, end = pty.openpty()
    with os.fdopen(terminal, "rb") as seen, os.fdopen(end, "wb") as out:
        subprocess.run(command, stdout=out, check=True)
        (token,) = re.findall(r"nqd_\S+", seen.readline().decode())
        assert seen.readline() == b"True\r\n"
        subprocess.run(command, stdout=out, check=True)
        assert seen.readline() == b"False\r\n"
    assert Tokens(store).check(token) is not None
