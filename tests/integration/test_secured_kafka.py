"""A broker that wants TLS and a password: every client of ours reaches it, and none without them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from prometheus_client import CollectorRegistry

from deploy.health import Starting
from deploy.kafka_client import client_options
from deploy.local.jars import default_cache_dir, ensure_jars
from deploy.local.kafka import kafka_program
from deploy.local.ports import free_ports
from deploy.local.probe import kafka_problem
from deploy.local.servers import LocalValkey, Server
from deploy.settings import KafkaSettings, Settings
from deploy.topics import TopicsError, ensure_topics
from deploy.worker import run_worker
from ingest.document import Document
from ingest.publish import Publisher
from tests.soak.instant_worker import InstantScorer

PASSWORD = "not a real secret"  # one of the tests' own


class SecuredKafka(Server):
    """A broker whose clients come by SASL_SSL alone."""

    def __init__(self, folder: Path) -> None:
        port, controller_port = free_ports(2)
        program = kafka_program(folder, ensure_jars(default_cache_dir()), port=port, controller_port=controller_port)
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
        java_reads = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
        (folder / "server.pem").write_bytes(java_reads + chain)
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        config = folder / "server.properties"
        config.write_text(
            config.read_text()
            .replace("PLAINTEXT://127.0.0.1", "SASL_SSL://127.0.0.1")
            .replace("map=PLAINTEXT:PLAINTEXT", "map=SASL_SSL:SASL_SSL")
            + f"""
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
  username="newsquake" password="{PASSWORD}" user_newsquake="{PASSWORD}";
ssl.keystore.type=PEM
ssl.keystore.location={folder / "server.pem"}
ssl.truststore.type=PEM
ssl.truststore.location={folder / "ca.pem"}
ssl.client.auth=none
"""
        )
        self.settings = KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{port}",
            partitions=2,
            security_protocol="SASL_SSL",
            sasl_mechanism="PLAIN",
            sasl_username="newsquake",
            sasl_password=PASSWORD,
            ssl_ca_file=folder / "ca.pem",
        )
        self.bootstrap = f"127.0.0.1:{port}"
        super().__init__(
            program, folder / "kafka.log", lambda: kafka_problem(self.bootstrap, client_options(self.settings))
        )


async def test_a_document_goes_all_its_way_over_tls_and_sasl(
    tmp_path: Path, make_valkey: Callable[[], LocalValkey]
) -> None:
    with SecuredKafka(tmp_path / "secured") as kafka, make_valkey() as valkey:
        await asyncio.to_thread(ensure_topics, kafka.bootstrap, kafka.settings)
        wrong = kafka.settings.model_copy(update={"sasl_username": "nobody"})
        with pytest.raises(TopicsError, match="not reachable"):
            await asyncio.to_thread(ensure_topics, kafka.bootstrap, wrong)

        now = datetime.now(UTC)
        document = Document(
            id="a", story="a", source="t", publisher="p", title="Kept private", published_at=now, seen_at=now
        )
        publisher = Publisher(kafka.bootstrap, "documents", kafka_options=client_options(kafka.settings))
        await asyncio.to_thread(publisher.connect)
        assert await asyncio.to_thread(publisher.publish, [document]) == []
        await asyncio.to_thread(publisher.close)

        registry, stop = CollectorRegistry(), asyncio.Event()
        config = Settings().model_copy(update={"kafka": kafka.settings})
        worker = asyncio.create_task(
            run_worker(config, kafka.bootstrap, valkey.url, InstantScorer, registry, Starting("test"), stop)
        )
        labels = {"outcome": "scored"}
        while registry.get_sample_value("newsquake_stream_records_total", labels) != 1:
            assert not worker.done(), await worker
            await asyncio.sleep(0.1)
        stop.set()
        await worker
