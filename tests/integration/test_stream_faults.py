"""What the stream survives: servers that go away or forget, models that hang or fail."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.local.ports import free_ports
from ingest.document import Document, document_id
from ingest.publish import Publisher
from stream import dead_letter

pytestmark = [
    pytest.mark.integration,
    # kafka-python leaves the sockets of refused connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


class Running:
    """A system with one worker and alerting, and what was published to it."""

    def __init__(self, make_system: Callable[..., Any], traps: Path) -> None:
        self.traps = traps
        self.system = make_system(
            {
                "INSTANT_TRAPS": str(traps),
                "NEWSQUAKE_STREAM__SESSION_TIMEOUT_S": "6",
                "NEWSQUAKE_STREAM__STALL_S": "10",
                "NEWSQUAKE_STREAM__MAX_BATCH": "64",
                "NEWSQUAKE_STREAM__RETRY_MAX_S": "0.5",
            },
            partitions=3,
        )
        self.published = 0
        self.ports = free_ports(2)
        self.system.start_worker("stream", port=self.ports[0])
        self.system.start("alerts", "alerts", "--port", str(self.ports[1]))

    def publish(self, count: int, texts: Sequence[str] = ()) -> None:
        """Publish `count` documents, seen just now, the first of them with these titles."""
        now = datetime.now(UTC)
        publisher = Publisher(self.system.kafka.bootstrap, self.system.topics.documents_topic, timeout_s=20)
        titles = [*texts, *(f"Firm {self.published + n} says more" for n in range(count - len(texts)))]
        publisher.publish(
            [
                Document(
                    id=document_id("p", str(self.published + n)), story=f"s-{(self.published + n) * 2 // 3}",
                    source="test", publisher="p", title=title, companies=("AAPL",),
                    published_at=now - timedelta(seconds=n % 600), seen_at=now,
                )
                for n, title in enumerate(titles)
            ]
        )  # fmt: skip
        publisher.close()
        self.published += count

    def finish(self, dead: int = 0) -> None:
        """Wait until all is done; check that nothing was lost or doubled."""
        self.system.wait(lambda: self.system.unfinished(self.published), 90)
        assert len(self.system.scored()) == self.published - dead
        self.system.wait(self.differs, 30)

    def differs(self) -> str | None:
        """Say that the windows are not the fold of `scored` (they may still be folded again)."""
        return None if self.system.windows() == self.system.fold() else "windows differ from the fold of scored"

    def health(self, which: int) -> dict[str, Any]:
        """What /healthz of the worker (0) or of alerting (1) says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[which]}/healthz", timeout=5) as answer:
                return json.load(answer)  # type: ignore[no-any-return]  # JSON may be anything
        except urllib.error.HTTPError as exc:
            with exc:
                return json.load(exc)  # type: ignore[no-any-return]  # JSON may be anything
        except OSError as exc:
            return {"ready": False, "reasons": [repr(exc)]}

    def until_ready(self, which: int) -> None:
        """Wait until it says that it is ready."""
        self.system.wait(lambda: None if (told := self.health(which))["ready"] else str(told["reasons"]), 60)


@pytest.fixture(scope="module")
def running(make_system: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The system that the tests of this module share; each leaves it whole."""
    yield Running(make_system, tmp_path_factory.mktemp("traps"))


def test_redis_and_kafka_away_for_five_seconds(running: Running) -> None:
    running.publish(500)
    running.finish()
    for server in (running.system.valkey, running.system.kafka):
        running.publish(1_000)
        server.kill()
        running.system.pause(5)
        server.start()
        running.publish(200)
    running.finish()


@pytest.mark.parametrize("more", [300, 0])
def test_windows_are_folded_again_after_redis_was_wiped(running: Running, more: int) -> None:
    """With items that follow, and without any."""
    running.publish(300)
    running.finish()
    running.until_ready(1)
    worker = running.system.supervisor.pid("stream")
    os.kill(worker, signal.SIGSTOP)  # so that there is time to look
    try:
        with running.system.redis() as client:
            client.flushall()
        running.system.wait(lambda: "still ready" if running.health(1)["ready"] else None, 20)
    finally:
        os.kill(worker, signal.SIGCONT)
    if more:
        running.publish(more)
    running.system.wait(running.differs, 60)
    running.finish()
    running.until_ready(1)
    with running.system.redis() as client:
        assert not [key for key in client.scan_iter("*:progress") if client.hexists(key, "rebuilding")]


def test_windows_are_folded_again_after_redis_came_back_with_an_old_copy(running: Running, tmp_path: Path) -> None:
    running.publish(300)
    running.finish()
    valkey = running.system.valkey
    data = Path(running.system.folder / "valkey")
    valkey.kill()
    shutil.copytree(data, tmp_path / "old")
    valkey.start()
    running.publish(400)
    running.finish()
    whole = running.system.windows()
    valkey.kill()
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "old", data)
    valkey.start()
    assert sum(running.system.windows().values()) < sum(whole.values())
    running.publish(50)
    running.finish()


@pytest.mark.parametrize("trap", ["hang", "block"])
def test_a_worker_that_hangs_is_ended_and_another_goes_on(running: Running, trap: str) -> None:
    """`hang`: scoring never returns. `block`: neither does anything else on the event loop."""
    ended = len(re.findall(r"stream ended by itself .*\(status 75\)", running.system.console()))
    (running.traps / trap).touch()
    running.publish(300, [f"TRAP-{trap}"])
    running.finish()
    assert len(re.findall(r"stream ended by itself .*\(status 75\)", running.system.console())) > ended
    log = running.system.log("stream")
    assert "stalled, restarting this worker" in log
    assert "instant_worker.py" in log.partition("stalled, restarting this worker")[2]  # where it hung


def test_a_broken_model_stops_the_worker_and_nothing_is_acked(running: Running) -> None:
    running.publish(10)
    running.finish()
    before = running.system.windows()
    (running.traps / "broken").touch()
    running.publish(200)
    stops = r"stream ended by itself .*\(status 1\)"
    running.system.wait(lambda: None if len(re.findall(stops, running.system.console())) >= 2 else "runs", 60)
    assert running.system.unfinished() is not None
    assert running.system.windows() == before
    assert not running.system.read(running.system.topics.dead_topic)
    (running.traps / "broken").unlink()
    running.finish()


def test_a_poisonous_text_is_dead_and_all_others_are_scored(running: Running) -> None:
    """The last test of this module: it leaves dead letters."""
    running.publish(300, ["A POISON text", "Another POISON"])
    running.finish(dead=2)
    letters = [dead_letter.decode(record.value) for record in running.system.read(running.system.topics.dead_topic)]
    places = {(letter.partition, letter.offset) for letter in letters}
    assert len(places) == 2
    assert all("the model failed on this text: ValueError('poison')" in letter.reason for letter in letters)
    running.until_ready(0)
