"""One `newsquake up` a state directory, and a secret that only its user can read."""

import json
import os
import stat
import subprocess

import pytest

from deploy.local.errors import LocalError
from deploy.local.state import StateLock, private_dir, webhook_secret
from deploy.local.valkey import valkey_program

HOLD = """
import time
import sys
from pathlib import Path
from deploy.local.state import StateLock
with StateLock(Path(sys.argv[1])):
    print("held")
    time.sleep(600)
"""


@pytest.fixture
def state_dir(tmp_path):
    return tmp_path / "state"


def held_by(script, state_dir) -> subprocess.Popen:
    process = script(HOLD, str(state_dir))
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_one_is_refused_with_pid_and_time(script, state_dir):
    other = held_by(script, state_dir)
    with pytest.raises(LocalError, match=rf"already runs .*pid {other.pid}, since 20\d\d-.* UTC"), StateLock(state_dir):
        pass


def test_what_a_crash_left_is_no_obstacle(script, state_dir):
    other = held_by(script, state_dir)
    other.kill()
    other.wait()
    with StateLock(state_dir):
        assert json.loads((state_dir / "up.lock").read_text())["pid"] == os.getpid()
    with StateLock(state_dir):
        pass


def test_a_broken_note_is_no_obstacle(script, state_dir):
    held_by(script, state_dir)
    (state_dir / "up.lock").write_text("[")
    with pytest.raises(LocalError, match="pid is not known"), StateLock(state_dir):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match=r"local\.state_dir"), StateLock(tmp_path / "file"):
        pass


def test_the_secret_stays_and_is_private(state_dir):
    with StateLock(state_dir):
        secret = webhook_secret(state_dir)
        assert webhook_secret(state_dir) == secret
    assert secret.startswith("whsec_")
    assert len(secret) > 40
    (file,) = [path for path in state_dir.iterdir() if "secret" in path.name]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700


def test_a_secret_that_others_can_read_is_refused(state_dir):
    with StateLock(state_dir):
        webhook_secret(state_dir)
        (state_dir / "webhook.secret").chmod(0o644)
        with pytest.raises(LocalError, match="read by others"):
            webhook_secret(state_dir)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_each_directory_made_is_this_users_alone(state_dir):
    with StateLock(state_dir / "deep" / "demo"):
        made = (state_dir, state_dir / "deep", state_dir / "deep" / "demo")
        assert [mode(path) for path in made] == [0o700] * 3


def test_a_servers_directory_is_closed_to_others_and_what_is_above_it_left_alone(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "valkey").mkdir(mode=0o755)
    valkey_program(tmp_path / "valkey", port=1)
    private_dir(tmp_path / "log")
    assert [mode(tmp_path / name) for name in ("", "valkey", "log")] == [0o755, 0o700, 0o700]
