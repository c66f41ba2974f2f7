"""One measured process of the bench: `python -m tests.bench.worker KIND COUNT`; prints one line of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import CollectorRegistry

from deploy import settings
from deploy.health import Starting
from deploy.worker import run_worker
from tests.soak.instant_worker import InstantScorer

ENCODER_BATCH = 8


def _value(registry: CollectorRegistry) -> float:
    labels = {"outcome": "scored"}
    return registry.get_sample_value("newsquake_stream_records_total", labels) or 0.0


async def _stream(kind: str, count: int) -> dict[str, Any]:
    """Run the real worker until `count` items are written; the clock starts with the first."""
    config = settings.load()
    bootstrap, redis_url = settings.require(config)
    registry, stop, state = CollectorRegistry(), asyncio.Event(), Starting("bench")

    def load() -> Any:
        if kind == "instant":
            return InstantScorer()
        from model.scorer import Scorer

        return Scorer.load(config.model)

    task = asyncio.create_task(run_worker(config, bootstrap, redis_url, load, registry, state, stop))
    process = psutil.Process()
    first = first_count = cpu = 0.0
    memory: dict[str, int] = {}
    while (done := _value(registry)) < count:
        await asyncio.sleep(0.05)
        if task.done():
            await task
        if done and not first:
            first, first_count, cpu = time.perf_counter(), done, sum(process.cpu_times()[:2])
        if done >= 10_000 and "after_10k_mb" not in memory:
            memory["after_10k_mb"] = process.memory_info().rss // 2**20
    seconds = time.perf_counter() - first
    used = sum(process.cpu_times()[:2]) - cpu
    memory[f"after_{count // 1000}k_mb"] = process.memory_info().rss // 2**20
    stop.set()
    await task
    rate = (count - first_count) / seconds
    return {"items_s": round(rate), "cpu_us": round(used / (count - first_count) * 1e6), **memory}


async def _bare(count: int) -> dict[str, Any]:
    """A Faust loop with the worker's settings that does nothing with its events."""
    from stream.app import faust_app

    config = settings.load()
    bootstrap, _ = settings.require(config)
    times: list[float] = []
    done, seen = asyncio.Event(), 0
    with tempfile.TemporaryDirectory() as data_dir:
        app, documents = faust_app(config.stream, bootstrap, config.kafka.documents_topic, Path(data_dir))

        @app.agent(documents, name="bare")
        async def read(stream: Any) -> None:
            nonlocal seen
            async for _ in stream.events():
                seen += 1
                if seen in (1, count):
                    times.append(time.perf_counter())
                    if seen == count:
                        done.set()

        await app.start()
        await done.wait()
        await app.stop()
    return {"items_s": round((count - 1) / (times[1] - times[0]))}


def _pipeline() -> Any:
    from transformers import AutoTokenizer, BertForSequenceClassification, logging, pipeline

    from model.encoder import encoder_folder

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = str(encoder_folder(None))
    network = BertForSequenceClassification.from_pretrained(folder, num_labels=3)
    return pipeline("text-classification", model=network, tokenizer=AutoTokenizer.from_pretrained(folder), device=-1)


def _texts(count: int) -> list[str]:
    from tests.bench.feed import texts

    return texts(count)


def _alone(kind: str, count: int) -> dict[str, Any]:
    batch, texts = 512, _texts(count)
    if kind == "model":
        from model.scorer import Scorer

        scorer = Scorer.load(settings.load().model)
        scorer.score(texts[:64])
        started = time.perf_counter()
        for at in range(0, count, batch):
            scorer.score(texts[at : at + batch])
    else:
        classify = _pipeline()
        size = ENCODER_BATCH if kind == "pipeline" else 1
        classify(texts[:16], batch_size=size)
        started = time.perf_counter()
        classify(texts, batch_size=size)
    return {"items_s": round(count / (time.perf_counter() - started))}


async def _loop(count: int) -> dict[str, Any]:
    """What a user would write first: aiokafka in, the pipeline, aiokafka out."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    config = settings.load()
    bootstrap, _ = settings.require(config)
    classify = _pipeline()
    consumer = AIOKafkaConsumer(
        config.kafka.documents_topic, bootstrap_servers=bootstrap, group_id="plain", auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await consumer.start()
    await producer.start()
    seen, started = 0, time.perf_counter()
    async for record in consumer:
        document = json.loads(record.value)
        result = classify(document["title"])[0]
        await producer.send(config.kafka.scored_topic, json.dumps({**document, **result}).encode(), key=record.key)
        seen += 1
        if seen == count:
            break
    await producer.flush()
    seconds = time.perf_counter() - started
    await consumer.stop()
    await producer.stop()
    return {"items_s": round(count / seconds)}


def main() -> None:
    kind, count = sys.argv[1], int(sys.argv[2])
    if kind in ("instant", "scored"):
        result = asyncio.run(_stream(kind, count))
    elif kind == "bare":
        result = asyncio.run(_bare(count))
    elif kind == "loop":
        result = asyncio.run(_loop(count))
    else:
        result = _alone(kind, count)
    print(json.dumps(result), flush=True)
    os._exit(0)  # the measurement is over; nothing is left to close


if __name__ == "__main__":
    main()
