"""`newsquake up` as a user runs it, with real Kafka and Valkey. newsquake's own processes are small stand-ins here."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
import uuid

import psutil
import pytest
import redis
from kafka import KafkaAdminClient

from alerts.desk.auth import Tokens
from deploy.local.ports import free_ports, is_free

pytestmark = pytest.mark.integration

STAND_IN = textwrap.dedent("""
    import http.server, os, signal, sys
    kind, port = sys.argv[1], int(os.environ.get("NEWSQUAKE_HTTP__" + sys.argv[1].upper() + "_PORT", 0))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("kafka is", os.environ["NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS"])
    print("redis is", os.environ["NEWSQUAKE_REDIS__URL"])
    print("secret given:", "NEWSQUAKE_LISTEN_SECRET" in os.environ)
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
        def log_message(self, *_): pass
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
""")

UP = textwrap.dedent("""
    import sys
    from deploy.local import plan
    plan.newsquake_command = lambda *arguments: [sys.executable, "-c", STAND_IN, *arguments]
    from deploy.commands.up import up
    up()
""")


@pytest.fixture
def settings(tmp_path):
    names = ("LOCAL__KAFKA", "LOCAL__KAFKA_CONTROLLER", "LOCAL__REDIS", "HTTP__INGEST", "HTTP__ALERTS", "HTTP__LISTEN")
    names += ("HTTP__DESK", "DESK_")
    *ports, stream = free_ports(len(names) + 1)
    env = {f"NEWSQUAKE_{name}_PORT": str(port) for name, port in zip(names, ports, strict=True)}
    return env | {"NEWSQUAKE_HTTP__STREAM_PORT": str(stream), "NEWSQUAKE_LOCAL__STATE_DIR": str(tmp_path / "state")}


@pytest.fixture
def elsewhere(kafka_bootstrap, redis_url):
    """Settings that name servers which run already, with topics that no other test uses."""
    topics = {
        f"NEWSQUAKE_KAFKA__{name}_TOPIC": f"{uuid.uuid4().hex}.{name}" for name in ("DOCUMENTS", "SCORED", "DEAD")
    }
    return topics | {"NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS": kafka_bootstrap, "NEWSQUAKE_REDIS__URL": redis_url}


class Up:
    """A running `newsquake up`: its lines so far, its children."""

    def __init__(self, cwd, env, *arguments):
        source = f"STAND_IN = {STAND_IN!r}\n{UP}"
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", source, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env={**os.environ, "COLUMNS": "200", **env},
        )
        self.output = ""

    def read_until(self, pattern):
        while not re.search(pattern, self.output):
            line = self.process.stdout.readline()
            assert line, f"it ended without {pattern!r}:\n{self.output}"
            self.output += line
        return self

    def children(self):
        return {child.pid for child in psutil.Process(self.process.pid).children(recursive=True)}

    def end(self, signum=signal.SIGTERM):
        self.process.send_signal(signum)
        self.output += self.process.stdout.read()
        return self.process.wait(60)


@pytest.fixture
def run_up(tmp_path):
    started = []

    def run(env, *arguments):
        up = Up(tmp_path, env, *arguments)
        started.append(up)
        return up

    yield run
    for up in started:
        if up.process.poll() is None:
            up.process.kill()
        up.process.communicate()


def alive(pids):
    return {pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE}


def wait_until_gone(pids):
    deadline = time.monotonic() + 60
    while alive(pids):
        assert time.monotonic() < deadline, f"left behind: {alive(pids)}"
        time.sleep(0.05)


def test_up_starts_all_serves_is_killed_comes_back_and_ends_in_order(run_up, settings, tmp_path):
    bootstrap = f"127.0.0.1:{settings['NEWSQUAKE_LOCAL__KAFKA_PORT']}"
    url = f"redis://127.0.0.1:{settings['NEWSQUAKE_LOCAL__REDIS_PORT']}/0"

    first = run_up(settings).read_until("all is up")
    for name in ("kafka", "valkey", "ingest", "stream", "alerts", "desk", "listen"):
        assert re.search(rf"│ {name} +│ \d+ ", first.output), f"{name} is not in the table"
    assert f"kafka is {bootstrap}" in first.output
    assert "secret given: True" in first.output
    assert "INFO" not in first.output, "the servers' chatter stays in their log files"
    assert (tmp_path / "state" / "log" / "kafka.log").stat().st_size > 1_000
    secret = (tmp_path / "state" / "webhook.secret").read_text().strip()
    assert secret not in first.output
    assert not any(secret in part for pid in first.children() for part in psutil.Process(pid).cmdline())
    assert "nqd_" not in first.output, "a token stays in no log"
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    topics = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}
    admin.close()
    assert {name: topics[name] for name in ("documents", "scored", "documents.dead")} == {
        "documents": 8,
        "scored": 8,
        "documents.dead": 1,
    }
    client = redis.Redis.from_url(url)
    client.set("kept", "over a crash")
    assert client.config_get("appendonly")["appendonly"] == "yes"
    client.close()

    second = run_up(settings)
    assert second.process.wait(60) == 1
    assert f"already runs with the state directory {tmp_path / 'state'} (pid {first.process.pid}" in (
        second.process.stdout.read()
    )

    time.sleep(1.5)  # the append-only file is written to disk once a second
    children = first.children()
    assert len(children) == 7
    first.process.kill()
    wait_until_gone(children)

    third = run_up(settings).read_until("all is up")
    client = redis.Redis.from_url(url)
    assert client.get("kept") == b"over a crash"
    assert Tokens(client).list() == []
    client.close()
    children = third.children()
    assert third.end(signal.SIGINT) == 0
    assert alive(children) == set()
    ended = re.findall(r" up +(\w+) ended ", third.output)
    assert ended == ["ingest", "stream", "alerts", "desk", "listen", "valkey", "kafka"]


def test_servers_named_by_settings_are_used(run_up, settings, elsewhere):
    env = {**settings, **elsewhere}
    first = next(port for port in iter(lambda: free_ports(1)[0], 0) if is_free(port + 1))  # the second takes the next
    env |= {"NEWSQUAKE_LOCAL__STREAM_WORKERS": "2", "NEWSQUAKE_HTTP__STREAM_PORT": str(first)}
    up = run_up(env).read_until("all is up")
    assert f"kafka is {elsewhere['NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS']}" in up.output
    assert len(up.children()) == 6
    assert "stream-2" in up.output
    assert up.end() == 0


def test_other_partitions_than_the_settings_say_end_it_clearly(run_up, settings, elsewhere):
    env = {**settings, **elsewhere}
    run_up(env).read_until("all is up").end()
    wrong = run_up({**env, "NEWSQUAKE_KAFKA__PARTITIONS": "3"})
    assert wrong.process.wait(60) == 1
    assert "has 8 partitions, kafka.partitions says 3" in wrong.process.stdout.read()


def test_a_taken_port_is_named(run_up, settings):
    with LocalValkeyOn(settings) as pid:
        up = run_up(settings)
        assert up.process.wait(60) == 1
        output = up.process.stdout.read()
    assert f"Port {settings['NEWSQUAKE_LOCAL__REDIS_PORT']} is taken by" in output
    assert f"pid {pid}" in output
    assert "set local.redis_port" in output


class LocalValkeyOn:
    """Something that listens on the port meant for Valkey."""

    def __init__(self, settings):
        self.port = settings["NEWSQUAKE_LOCAL__REDIS_PORT"]

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", self.port],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/").close()
                return self.process.pid
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
