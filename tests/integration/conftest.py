"""Real servers for tests: a Kafka broker and a Valkey server, on free ports, in temporary directories.

`kafka_bootstrap` and `redis_url` are shared by all tests of a session: use names of your own for topics and keys.
`make_kafka` and `make_valkey` give a test servers of its own, to kill and to start again.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Literal, Protocol

import pytest

with warnings.catch_warnings():
    # On Python 3.11 and 3.12 kafka-python reads its schemas, while it is imported, by a function deprecated there.
    warnings.filterwarnings("ignore", "(read|open)_text is deprecated", DeprecationWarning)
    import kafka as _kafka  # noqa: F401

from deploy.local.servers import LocalKafka, LocalValkey
from tests.alerts.desk.conftest import browser, sign_in  # noqa: F401 - fixtures
from tests.soak.system import System


class MakeValkey(Protocol):
    def __call__(self, *, appendfsync: Literal["everysec", "always"] = "everysec") -> LocalValkey: ...


class MakeSystem(Protocol):
    def __call__(self, env: Mapping[str, str] | None = None, partitions: int = 8) -> System: ...


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a real broker that runs as long as the test session."""
    with LocalKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka.bootstrap


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Valkey server that runs as long as the test session."""
    with LocalValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey.url


@pytest.fixture
def make_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], LocalKafka]]:
    """Makes brokers that are not started yet: `.start()`, `.kill()` (SIGKILL), `.stop()`, `.bootstrap`, `.pid`."""
    with ExitStack() as stack:

        def make() -> LocalKafka:
            kafka = LocalKafka(tmp_path_factory.mktemp("own-kafka"))
            stack.callback(kafka.kill)
            return kafka

        yield make


@pytest.fixture
def make_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeValkey]:
    """Makes Valkey servers that are not started yet: `.start()`, `.kill()` (SIGKILL), `.stop()`, `.url`, `.pid`."""
    with ExitStack() as stack:

        def make(*, appendfsync: Literal["everysec", "always"] = "everysec") -> LocalValkey:
            valkey = LocalValkey(tmp_path_factory.mktemp("own-valkey"), appendfsync=appendfsync)
            stack.callback(valkey.kill)
            return valkey

        yield make


@pytest.fixture(scope="module")
def make_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeSystem]:
    """Makes a Kafka, a Valkey and a supervisor of newsquake processes (`tests.soak.system.System`), started."""
    with ExitStack() as stack:

        def make(env: Mapping[str, str] | None = None, partitions: int = 8) -> System:
            return stack.enter_context(System(tmp_path_factory.mktemp("system"), env, partitions))

        yield make
