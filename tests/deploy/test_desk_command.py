"""`newsquake desk` as a process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import redis


def test_a_port_that_is_taken_is_named_with_its_setting_and_no_address_is_told(
    store: redis.Redis, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", "from deploy.cli import main; main()", "desk"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, setting in ((["--port", "0"], "http.desk_port"), (["--port", port], "desk.port")):
            env = os.environ | {"NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "NEWSQUAKE_HTTP__DESK_PORT": port}
            done = subprocess.run(
                command + words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 1
            assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
            assert setting in done.stderr
            assert "Address already in use" in done.stderr
            assert "the desk is at" not in done.stdout + done.stderr
