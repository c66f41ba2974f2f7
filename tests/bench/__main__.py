"""`make bench`: the stream against what it could reach and what a user would write. See README.md beside this file."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from deploy.local.servers import LocalKafka, LocalValkey
from deploy.settings import KafkaSettings
from deploy.topics import ensure_topics
from tests.bench import feed


class Bench:
    """Servers for one run; each measurement gets topics and a consumer group of its own."""

    def __init__(self, kafka: LocalKafka, valkey: LocalValkey) -> None:
        self.bootstrap, self.redis_url = kafka.bootstrap, valkey.url

    def _environment(self, name: str) -> dict[str, str]:
        return os.environ | {
            "NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "NEWSQUAKE_KAFKA__DOCUMENTS_TOPIC": f"{name}-documents",
            "NEWSQUAKE_KAFKA__SCORED_TOPIC": f"{name}-scored",
            "NEWSQUAKE_KAFKA__DEAD_TOPIC": f"{name}-dead",
            "NEWSQUAKE_REDIS__URL": self.redis_url,
            "NEWSQUAKE_STREAM__GROUP": name,
        }

    def topics(self, name: str) -> None:
        """Make the topics of a measurement."""
        settings = KafkaSettings(
            documents_topic=f"{name}-documents", scored_topic=f"{name}-scored", dead_topic=f"{name}-dead"
        )
        ensure_topics(self.bootstrap, settings)

    def start(self, kind: str, count: int, name: str = "none") -> subprocess.Popen[str]:
        """Start the process of a measurement."""
        command = [sys.executable, "-m", "tests.bench.worker", kind, str(count)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self._environment(name))

    def filled(self, name: str, count: int) -> None:
        """Make topics and fill `documents`."""
        self.topics(name)
        feed.publish(self.bootstrap, f"{name}-documents", feed.documents(count, name=name))

    def latency_ms(self, rate: float, seconds: float) -> dict[str, float]:
        """Publish at `rate` items a second; time from `documents` to `scored`, the first fifth left out as warm-up."""
        name, count = "latency", int(rate * seconds)
        self.topics(name)
        worker = self.start("scored", count, name)
        time.sleep(20)  # the model loads
        publisher = threading.Thread(
            target=feed.publish,
            args=(self.bootstrap, f"{name}-documents", feed.documents(count, name=name), rate),
        )
        publisher.start()
        publisher.join()
        result(worker)
        waits = asyncio.run(_waits_ms(self.bootstrap, name, count))[count // 5 :]
        return {f"p{q}": round(float(np.percentile(waits, q)), 1) for q in (50, 95, 99)}


async def _waits_ms(bootstrap: str, name: str, count: int) -> list[float]:
    from aiokafka import AIOKafkaConsumer

    times: dict[str, dict[tuple[int, int], int]] = {"documents": {}, "scored": {}}
    for kind, found in times.items():
        consumer = AIOKafkaConsumer(
            f"{name}-{kind}", bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None
        )
        await consumer.start()
        try:
            while len(found) < count:
                for place, records in (await consumer.getmany(timeout_ms=1_000)).items():
                    for record in records:
                        offset = json.loads(record.value)["offset"] if kind == "scored" else record.offset
                        found.setdefault((place.partition, offset), record.timestamp)
        finally:
            await consumer.stop()
    published = sorted(times["documents"].items(), key=lambda entry: entry[1])
    return [times["scored"][place] - at for place, at in published]


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what a measurement printed.

    Raises:
        RuntimeError: it failed.
    """
    out, _ = process.communicate(timeout=900)
    if process.returncode:
        raise RuntimeError(f"a measurement failed: {process.args}")
    measured: dict[str, Any] = json.loads(out.splitlines()[-1])
    return measured


def main() -> None:
    """Run all rows, print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000, help="items without the model (default %(default)s)")
    parser.add_argument("--scored", type=int, default=15_000, help="items with the model (default %(default)s)")
    parser.add_argument("--slow", type=int, default=1_500, help="items for the pipeline (default %(default)s)")
    parser.add_argument("--memory", type=int, default=500_000, help="items for the memory row (default %(default)s)")
    options = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    console = Console(stderr=True)

    with tempfile.TemporaryDirectory(prefix="newsquake-bench-") as folder:
        root = Path(folder)
        with LocalKafka(root / "kafka") as kafka, LocalValkey(root / "valkey") as valkey:
            bench = Bench(kafka, valkey)

            def measure(title: str, kind: str, count: int, name: str = "none") -> None:
                console.print(f"[dim]{title}: {count:,} items[/]")
                rows[title] = result(bench.start(kind, count, name))

            bench.filled("fast", options.items)
            measure("bare Faust loop", "bare", options.items, "fast")
            bench.filled("instant", options.items)
            measure("stream, no model", "instant", options.items, "instant")
            measure("model alone", "model", options.scored)
            bench.filled("model", options.scored)
            measure("stream, model", "scored", options.scored, "model")
            measure("pipeline alone, batch 8", "pipeline", options.slow)
            measure("pipeline alone, its default", "pipeline1", options.slow)
            bench.filled("loop", options.slow)
            measure("aiokafka + pipeline", "loop", options.slow, "loop")
            console.print("[dim]latency at half load[/]")
            latency = bench.latency_ms(rows["stream, model"]["items_s"] / 2, 30)
            if options.memory:
                bench.filled("memory", options.memory)
                measure("memory", "instant", options.memory, "memory")

    table = Table(title="newsquake bench", title_justify="left")
    for column in ("row", "items/s", "CPU µs/item", "memory"):
        table.add_column(column, justify="left" if column == "row" else "right")
    for title, row in rows.items():
        memory = ", ".join(f"{key[6:-3]} {value} MB" for key, value in row.items() if key.endswith("_mb"))
        table.add_row(title, f"{row['items_s']:,}", str(row.get("cpu_us", "")), memory)
    Console().print(table)
    rate = {title: row["items_s"] for title, row in rows.items()}
    summary = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "rows": rows,
        "latency_ms_at_half_load": latency,
        "no_model_to_bare": round(rate["stream, no model"] / rate["bare Faust loop"], 2),
        "model_to_model_alone": round(rate["stream, model"] / rate["model alone"], 2),
        "to_pipeline_batch_8": round(rate["stream, model"] / rate["pipeline alone, batch 8"], 1),
        "to_aiokafka_loop": round(rate["stream, model"] / rate["aiokafka + pipeline"], 1),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
