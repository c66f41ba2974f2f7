"""The broker's jars: fetched once by pure Python, checked against a lock file before each use.

`kafka.lock` holds one `sha256 group:artifact:version` a line, for the broker and all it needs. The jars come from Maven
Central, or from the mirror that the setting names, and stay in the user's cache, so a later start needs no network.
A jar that does not match the lock is never put on a class path.

`python -m deploy.local.jars` resolves the coordinates below again and prints a new lock: the way to move to another
version of Kafka. Nothing else ever resolves.
"""

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from deploy.local.errors import LocalError

ENDPOINTS = ("org.apache.kafka:kafka_2.13:4.4.0", "org.slf4j:slf4j-simple:1.7.36")

_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64}) (?P<group>[\w.-]+):(?P<artifact>[\w.-]+):(?P<version>[\w.-]+)")
_DOWNLOADS_AT_ONCE = 4
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Jar:
    """One locked jar: its Maven coordinates and the SHA-256 of its bytes."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name, as in a Maven repository."""
        return f"{self.artifact}-{self.version}.jar"


def read_lock(text: str | None = None) -> tuple[Jar, ...]:
    """The jars of a lock file; without `text`, of the one that ships with newsquake.

    Raises:
        LocalError: a line is not `sha256 group:artifact:version`, or there is none.
    """
    if text is None:
        text = (files("deploy.local") / "kafka.lock").read_text("utf-8")
    jars = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not (match := _LINE.fullmatch(line.strip())):
            raise LocalError(
                f"kafka.lock, line {number}: not 'sha256 group:artifact:version'. Install newsquake again."
            )
        jars.append(Jar(**match.groupdict()))
    if not jars:
        raise LocalError("kafka.lock names no jar. Install newsquake again.")
    return tuple(jars)


def default_cache_dir() -> Path:
    """`newsquake/kafka` in the user's cache directory (`XDG_CACHE_HOME`, or `~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "newsquake" / "kafka"


def missing_jars(cache_dir: Path, jars: tuple[Jar, ...]) -> tuple[Jar, ...]:
    """Those of `jars` that the cache lacks."""
    return tuple(jar for jar in jars if not (cache_dir / jar.name).is_file())


def ensure_jars(
    cache_dir: Path,
    jars: tuple[Jar, ...] | None = None,
    *,
    repository: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Path, ...]:
    """The paths of all jars, each just checked against the lock; what is missing is fetched first.

    Args:
        cache_dir: where the jars stay.
        jars: what to have; by default the lock that ships with newsquake.
        repository: base URL of a Maven repository to fetch from instead of Maven Central.
        progress: takes a line for the user after each file fetched.

    Raises:
        LocalError: a file cannot be fetched, or a file's SHA-256 is not the locked one.
    """
    jars = jars or read_lock()
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        missing = missing_jars(cache_dir, jars)
        if missing:
            _fetch(cache_dir, missing, repository, progress)
        for jar in jars:
            _check(cache_dir / jar.name, jar)
    except OSError as exc:
        raise LocalError(f"Cannot keep Kafka's jars in {cache_dir}: {exc}.") from exc
    return tuple(cache_dir / jar.name for jar in jars)


def _check(path: Path, jar: Jar) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != jar.sha256:
        raise LocalError(
            f"{path} is not the file that newsquake was released with (SHA-256 {found}, locked: {jar.sha256}). "
            f"It was damaged or swapped. Delete it and start again; if that does not help, the repository it comes "
            f"from serves another file: do not use it."
        )


def _fetch(cache_dir: Path, missing: tuple[Jar, ...], repository: str | None, progress: Callable[[str], None]) -> None:
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as exc:
        raise LocalError("Kafka on this machine needs the extra 'local': pip install 'newsquake[local]'.") from exc
    done, lock = 0, threading.Lock()
    # Beside the cache, so that a checked file moves into it in one step and a half-written one never lies there.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache_dir) as scratch:
        context = MavenContext(
            repo_cache=Path(scratch),
            local_repos=[],
            remote_repos={"mirror": repository.rstrip("/")} if repository else None,
            timeout=_TIMEOUT_S,
        )
        resolver = PythonResolver()

        def fetch(jar: Jar) -> None:
            nonlocal done
            artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
            try:
                path = resolver.download(artifact)
            except Exception as exc:  # jgo and requests raise many kinds; each means "not fetched"
                raise LocalError(
                    f"Cannot fetch {jar.group}:{jar.artifact}:{jar.version}: {exc}. Kafka's jars (45 MB) are needed "
                    f"once; connect to the network or set local.jar_repository to a Maven mirror, or name a Kafka "
                    f"that already runs in kafka.bootstrap_servers."
                ) from exc
            if path is None:
                raise LocalError(f"Cannot fetch {jar.name}: the repository does not have it.")
            _check(path, jar)
            path.replace(cache_dir / jar.name)
            with lock:
                done += 1
                progress(f"Kafka's jars, fetched once: {done} of {len(missing)}")

        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            futures = [pool.submit(fetch, jar) for jar in missing]
            try:
                for future in futures:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)


def resolve_lock() -> str:
    """A new lock file's text for `ENDPOINTS`: the transitive closure, resolved over the network."""
    import jgo

    lines = []
    for artifact in jgo.resolve("+".join(ENDPOINTS)):
        digest = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
        lines.append(f"{digest} {artifact.groupId}:{artifact.artifactId}:{artifact.version}")
    return "\n".join(sorted(lines, key=lambda line: line.split(" ")[1])) + "\n"


if __name__ == "__main__":
    print(resolve_lock(), end="")  # noqa: T201
