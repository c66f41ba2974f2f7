"""newsquake's own processes on real servers, to be killed: what the soak and the integration tests share."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from alerts.buckets import Buckets
from alerts.windows import Count, fold
from deploy.local.errors import LocalError
from deploy.local.output import Stream
from deploy.local.process import Program
from deploy.local.servers import LocalKafka, LocalValkey
from deploy.local.supervisor import Backoff, Child, Supervisor
from deploy.settings import KafkaSettings
from deploy.topics import ensure_topics
from stream import scored
from stream.scored import Scored

INSTANT = Path(__file__).with_name("instant_worker.py")
GROUP = "newsquake-stream"


class System:
    """Kafka, Valkey and supervised newsquake processes in one directory; a context manager for the main thread."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None, partitions: int = 8) -> None:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        self.folder, self.logs = folder, folder / "logs"
        self.kafka = LocalKafka(folder / "kafka")
        self.valkey = LocalValkey(folder / "valkey", appendfsync="always")
        self.topics = KafkaSettings(partitions=partitions)
        (folder / "empty.toml").touch()  # no settings but those given here
        self.env = {
            "NEWSQUAKE_CONFIG": str(folder / "empty.toml"),
            "NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap,
            "NEWSQUAKE_KAFKA__PARTITIONS": str(partitions),
            "NEWSQUAKE_REDIS__URL": self.valkey.url,
            **(env or {}),
        }
        self._log = folder / "console.log"
        self._console = self._log.open("a", buffering=1, encoding="utf-8")
        stream = Stream([], file=self._console)
        # A killed process comes back at once: what is tested is what it comes back to.
        self.supervisor = Supervisor(stream, self.logs, Backoff(0.2, 1.0, 5.0))

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._console.close)
            stack.enter_context(self.kafka)
            stack.enter_context(self.valkey)
            stack.enter_context(self.supervisor)
            ensure_topics(self.kafka.bootstrap, self.topics)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def start(self, name: str, *words: str, instant: bool = False, **env: str) -> None:
        """Keep `newsquake <words>` running as `name`, with a model that answers at once when `instant`."""
        run = [str(INSTANT)] if instant else ["-c", "from deploy.cli import main; main()"]
        self.supervisor.start(Child(Program(name, [sys.executable, *run, *words], env={**self.env, **env}), stop_s=30))

    def start_worker(self, name: str, *, instant: bool = True, port: int = 0, **env: str) -> None:
        """Keep a stream worker running."""
        self.start(name, "stream", "--port", str(port), instant=instant, **env)

    def kill(self, name: str) -> bool:
        """SIGKILL; the supervisor starts it again. False when it was not running."""
        pid = self.supervisor.pid(name)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def wait(self, problem: Callable[[], str | None], timeout_s: float) -> None:
        """Keep all running until `problem()` is None; `LocalError` when `timeout_s` is over, or asked to stop."""
        if not self.supervisor.wait_until(problem, what="the system", timeout_s=timeout_s):
            raise LocalError("asked to stop")

    def pause(self, seconds: float) -> None:
        """Keep all running for a while."""
        until = time.monotonic() + seconds
        self.wait(lambda: None if time.monotonic() >= until else "waiting", seconds + 60)

    def log(self, name: str) -> str:
        """The whole output of a process so far."""
        path = self.logs / f"{name}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def redis(self) -> redis.Redis:
        """A client, to be closed by the caller."""
        return redis.Redis.from_url(self.valkey.url, socket_timeout=10)

    def unfinished(self, least: int = 0) -> str | None:
        """Why the group has not finished `documents` (at least `least` records of it) yet; None when it has."""
        try:
            ends = self._ends(self.topics.documents_topic)
            if sum(ends.values()) < least:
                return f"{sum(ends.values())} of {least} documents are in Kafka"
            admin = KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap, request_timeout_ms=5_000)
            try:
                done = admin.list_group_offsets({GROUP: None})[GROUP]
            finally:
                admin.close()
        except (KafkaError, OSError) as exc:
            return repr(exc)
        lag = {tp.partition: end - (done[tp].offset if tp in done else 0) for tp, end in ends.items()}
        waiting = {partition: count for partition, count in lag.items() if count > 0}
        return f"lag by partition {waiting}" if waiting else None

    def read(self, topic: str) -> list[Any]:
        """All records of a topic, partition by partition, in order."""
        consumer = KafkaConsumer(bootstrap_servers=self.kafka.bootstrap, enable_auto_commit=False)
        try:
            places = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
            consumer.assign(places)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(places)
            found: dict[TopicPartition, list[Any]] = {place: [] for place in places}
            while any(consumer.position(place) < ends[place] for place in places):
                for place, records in consumer.poll(timeout_ms=500).items():
                    found[place] += records
            return [record for place in places for record in found[place]]
        finally:
            consumer.close()

    def scored(self) -> list[Scored]:
        """What `scored` holds, without the repeats of an offset; each partition in offset order."""
        first: dict[tuple[int, int], Scored] = {}
        for record in self.read(self.topics.scored_topic):
            item = scored.decode(record.value)
            assert item.partition == record.partition, "a scored item must lie in its document's partition"
            first.setdefault((item.partition, item.offset), item)
        return [first[place] for place in sorted(first)]

    def windows(self) -> dict[Count, int]:
        """What the windows hold."""
        with self.redis() as client:
            return Buckets(client, self.topics.documents_topic, self.topics.partitions).total()

    def fold(self) -> dict[Count, int]:
        """What the windows must hold by what `scored` holds."""
        return folded(self.scored())

    def console(self) -> str:
        """What the supervisor and all processes said."""
        return self._log.read_text("utf-8", "replace")

    def ended(self) -> dict[str, int]:
        """How often each process ended that nobody had killed."""
        return dict(Counter(re.findall(r"WARNING (\S+) ended by itself after \d+ s \(status", self.console())))

    def _ends(self, topic: str) -> dict[TopicPartition, int]:
        consumer = KafkaConsumer(bootstrap_servers=self.kafka.bootstrap, request_timeout_ms=5_000)
        try:
            return consumer.end_offsets([TopicPartition(topic, n) for n in range(self.topics.partitions)])
        finally:
            consumer.close()


def folded(items: Sequence[Scored]) -> dict[Count, int]:
    """What the windows must hold after these items."""
    return fold((item.partition, scored.window_item(item)) for item in items)


def difference(windows: Mapping[Count, int], expected: Mapping[Count, int]) -> tuple[int, int]:
    """How many counts the windows lack, and how many they have too many."""
    keys = windows.keys() | expected.keys()
    gaps = [windows.get(key, 0) - expected.get(key, 0) for key in keys]
    return -sum(gap for gap in gaps if gap < 0), sum(gap for gap in gaps if gap > 0)
