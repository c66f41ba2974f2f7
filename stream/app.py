"""The stream worker: Faust reads, `MessagePath` does the work, acks come last and in order.

Faust's `take` acks a batch whose handling failed and waits out its window (see `docs/decisions/0002-faust.md`), so the
agent only passes events on; two tasks take what waits:

    agent  -> backlog (bounded: a full one stops the reading)
    scorer -> start to score a batch while those before it are scored and written (at most three in hand)
    writer -> in order: wait for the scores, then windows, `scored`, then the acks
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import faust

from stream.backlog import Backlog
from stream.batch import MessagePath, ScoredBatch
from stream.progress import Progress
from stream.record import Record
from stream.settings import StreamSettings

log = logging.getLogger(__name__)
_FINISH_S = 20.0
_BATCH_GAP_S = 0.05
"""Batches begin at most this often: each costs a call to Redis and to Kafka for every partition in it."""


def faust_app(
    settings: StreamSettings, bootstrap_servers: str, documents_topic: str, data_dir: Path, credentials: Any = None
) -> tuple[faust.App, Any]:
    """Return the Faust app and its documents topic: explicit names, no tables, no web server, raw bytes."""
    app = faust.App(
        settings.group,
        broker=";".join(f"kafka://{server}" for server in bootstrap_servers.split(",")),
        broker_credentials=credentials,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 5,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 * 1024 * 1024,
        stream_buffer_maxsize=8 * settings.max_batch,
        topic_allow_declare=False,
        topic_disable_leader=True,
        datadir=data_dir,
        web_enabled=False,
        value_serializer="raw",
        key_serializer="raw",
        stream_wait_empty=False,
    )
    return app, app.topic(documents_topic, value_serializer="raw", key_serializer="raw")


class StreamWorker:
    """One worker of the consumer group; `run` returns when told to stop and raises when it cannot go on."""

    def __init__(
        self,
        app: faust.App,
        documents: Any,
        path: MessagePath,
        progress: Progress,
        settings: StreamSettings,
    ) -> None:
        self._app = app
        self._path = path
        self._progress = progress
        self._max_batch = settings.max_batch
        self._backlog: Backlog[Any] = Backlog(2 * settings.max_batch)
        self._in_hand = 0  # batches taken and not yet acked
        self._stopping = False
        self._scoring: asyncio.Queue[tuple[list[Any], asyncio.Task[list[ScoredBatch]]]] = asyncio.Queue(1)
        self._scores: set[asyncio.Task[list[ScoredBatch]]] = set()

        @app.agent(documents, name="newsquake.documents", concurrency=1)
        async def read(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._backlog.put(event)

    async def run(self, stop: asyncio.Event) -> None:
        """Read, score and write until `stop` is set.

        Raises:
            Exception: whatever made going on impossible; nothing unfinished was acked, so a restart loses nothing.
        """
        await self._app.start()
        tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("score", self._score()),
                ("write", self._write()),
                ("progress", self._progress.run(self._assigned)),
                ("faust", self._until_faust_stops()),
                ("stop", stop.wait()),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                await ended  # raises what ended it
            if not self._app.should_stop:
                await self._finish()
        finally:
            ending: list[asyncio.Task[Any]] = [*tasks, *self._scores]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            await self._app.stop()

    def _assigned(self) -> set[int]:
        return {tp.partition for tp in self._app.consumer.assignment() if tp.topic == self._progress.topic}

    async def _finish(self) -> None:
        """Write and ack what was taken, so that an orderly stop repeats nothing; a bounded wait."""
        self._stopping = True
        give_up_at = time.monotonic() + _FINISH_S
        while self._in_hand and time.monotonic() < give_up_at:  # noqa: ASYNC110  # two tasks work it down
            await asyncio.sleep(0.02)

    async def _until_faust_stops(self) -> None:
        await self._app.wait_until_stopped()
        raise RuntimeError("Faust has stopped by itself; see its log lines above")

    async def _score(self) -> None:
        next_at = 0.0
        while True:
            # An item on a quiet stream is taken at once; under load, batches get a moment to form.
            await asyncio.sleep(next_at - time.monotonic())
            events = await self._backlog.take(self._max_batch)
            if self._stopping:
                return  # unacked, so the next worker takes them
            self._in_hand += 1
            next_at = time.monotonic() + _BATCH_GAP_S
            records = [
                Record(m.partition, m.offset, int(m.timestamp * 1000), m.key, m.value)
                for m in (event.message for event in events)
            ]
            scores = asyncio.create_task(self._path.score(records), name="score a batch")
            self._scores.add(scores)
            await self._scoring.put((events, scores))

    async def _write(self) -> None:
        while True:
            events, scores = await self._scoring.get()
            batches = await scores
            self._scores.discard(scores)
            await self._path.write(batches)
            for event in events:
                event.ack()
            self._in_hand -= 1
            self._progress.done(batches)
