"""How the other processes are: asked by HTTP for what they serve anyway, `/healthz` and `/metrics`."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_MAX_BYTES = 4 * 1024 * 1024
_KEPT_S = 5.0
_LATE_S = 10.0


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process: `state` is ready, waiting (live, `reasons` say for what) or down."""

    name: str
    state: str
    reasons: list[str]
    memory_mb: float = 0.0
    version: str = ""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One source of items: how many it brought since its process began, and seconds since it last answered."""

    name: str
    documents: int
    silent_s: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the page Health shows of the processes. `lag` are records that wait to be scored, by partition.

    `late` are the receivers that are told late, and by how many seconds.
    """

    processes: list[Process]
    sources: list[Source]
    source_states: dict[str, int]
    lag: dict[str, int]
    behind_s: float | None
    outbox: dict[str, float]
    late: dict[str, float]
    models: list[dict[str, str]]


class _Answer(msgspec.Struct):
    live: bool = True
    ready: bool = True
    reasons: list[str] = []


_Samples = dict[str, list[tuple[dict[str, str], float]]]
_answer = msgspec.json.Decoder(_Answer)


class Processes:
    """Asks the processes of `urls` (name → where it serves), at most every 5 seconds whoever looks on."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = dict(urls)
        self._lock = threading.Lock()
        self._kept: tuple[float, Report] | None = None

    def report(self) -> Report:
        """Return how they are; while one visitor waits for processes that hang, others get the report before."""
        kept = self._kept
        if kept is not None and (time.monotonic() - kept[0] <= _KEPT_S or self._lock.locked()):
            return kept[1]
        with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > _KEPT_S:
                self._kept = time.monotonic(), self._ask()
            return self._kept[1]

    def _ask(self) -> Report:
        with (
            httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            ThreadPoolExecutor(8) as pool,
        ):
            answers = list(pool.map(lambda pair: _process(client, *pair), self._urls.items()))
        samples: _Samples = {}
        for _, found in answers:
            for name, values in found.items():
                samples.setdefault(name, []).extend(values)
        now_s = time.time()
        due = [(labels.get("receiver", ""), late_s) for labels, late_s in samples.get(_DUE, ())]
        last = {labels.get("source", ""): at for labels, at in samples.get(f"{_IN}last_success_timestamp_seconds", ())}
        return Report(
            processes=[process for process, _ in answers],
            sources=[
                Source(
                    name=labels.get("source", ""),
                    documents=int(count),
                    silent_s=max(0.0, now_s - last[labels["source"]]) if last.get(labels.get("source", "")) else None,
                )
                for labels, count in sorted(samples.get(f"{_IN}documents_total", ()), key=lambda each: -each[1])
            ],
            source_states={
                labels.get("state", ""): int(count) for labels, count in samples.get(f"{_IN}sources", ()) if count
            },
            lag={labels.get("partition", ""): int(n) for labels, n in samples.get("newsquake_stream_lag_records", ())},
            behind_s=_one(samples, "newsquake_alerts_behind_seconds"),
            outbox={
                key: value
                for key, name in _OUTBOX.items()
                if (value := _one(samples, f"newsquake_alerts_{name}")) is not None
            }
            | ({"oldest_due_s": max(late_s for _, late_s in due)} if due else {}),
            late={name: late_s for name, late_s in sorted(due, key=lambda each: each[1]) if late_s > _LATE_S},
            models=[labels for labels, _ in samples.get("newsquake_stream_model_info", ())],
        )


_IN = "newsquake_ingest_"
_DUE = "newsquake_alerts_oldest_due_seconds"
_OUTBOX = {
    "waiting": "outbox_depth",
    "given_up": "dead_deliveries",
    "redis_errors": "redis_errors_total",
}


def _one(samples: _Samples, name: str) -> float | None:
    found = samples.get(name)
    return found[0][1] if found else None


def _process(client: httpx.Client, name: str, url: str) -> tuple[Process, _Samples]:
    try:
        health = _answer.decode(_get(client, f"{url.rstrip('/')}/healthz"))
        samples = _samples(_get(client, f"{url.rstrip('/')}/metrics").decode("utf-8", "replace"))
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError, ValueError) as exc:
        log.debug("%s at %s: %s", name, url, exc)
        return Process(name=name, state="down", reasons=["it does not answer"]), {}
    memory = _one(samples, "process_resident_memory_bytes") or 0.0
    build = samples.get("newsquake_build_info", [({}, 0.0)])[0][0]
    state = "ready" if health.ready else "waiting" if health.live else "down"
    reasons = [reason[:300] for reason in health.reasons[:10]]
    found = Process(
        name=name, state=state, reasons=reasons, memory_mb=round(memory / 1e6, 1), version=build.get("version", "")
    )
    return found, samples


def _get(client: httpx.Client, url: str) -> bytes:
    """Return a body that is not too long; 503 is an answer too."""
    with client.stream("GET", url) as response:
        if response.status_code not in (200, 503):
            raise ValueError(f"status {response.status_code}")
        body = b""
        for part in response.iter_bytes():
            body += part
            if len(body) > _MAX_BYTES:
                raise ValueError("the answer is too long")
        return body


def _samples(text: str) -> _Samples:
    found: _Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            ours = sample.name.startswith("newsquake_") or sample.name == "process_resident_memory_bytes"
            if ours and math.isfinite(sample.value):  # what has no value yet is NaN
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found
