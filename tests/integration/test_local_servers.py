"""The real servers that newsquake starts keep what they acknowledged over SIGKILL, and come back on the same port."""

import psutil
import pytest
import redis
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic

pytestmark = pytest.mark.integration


def test_kafka_keeps_acknowledged_records_over_sigkill(make_kafka):
    kafka = make_kafka()
    kafka.start()
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic("t", num_partitions=1, replication_factor=1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", compression_type="lz4")
    for number in range(100):
        producer.send("t", str(number).encode())
    producer.flush()
    producer.close()

    bootstrap, pid = kafka.bootstrap, kafka.pid
    kafka.kill()
    assert not psutil.pid_exists(pid)
    kafka.start()

    assert kafka.bootstrap == bootstrap
    consumer = KafkaConsumer(
        "t", bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id="g", consumer_timeout_ms=20_000
    )
    values = [next(consumer).value for _ in range(100)]
    consumer.close()
    assert values == [str(number).encode() for number in range(100)]


def test_kafka_makes_no_topic_by_itself(kafka_bootstrap):
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap, max_block_ms=1_000)
    with pytest.raises(Exception, match=r"(?i)metadata|unknown"):
        producer.send("misspelt", b"x").get(5)
    producer.close()
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    assert "misspelt" not in admin.list_topics()
    admin.close()


def test_valkey_always_keeps_acknowledged_writes_over_sigkill(make_valkey):
    valkey = make_valkey(appendfsync="always")
    valkey.start()
    client = redis.Redis.from_url(valkey.url)
    for number in range(100):
        client.set(f"k{number}", number)
    client.close()
    url = valkey.url
    valkey.kill()
    valkey.start()
    assert valkey.url == url
    client = redis.Redis.from_url(valkey.url)
    assert client.dbsize() == 100
    assert client.config_get("appendfsync")["appendfsync"] == "always"
    client.close()


def test_servers_listen_on_loopback_only(kafka_bootstrap, redis_url):
    ports = {int(kafka_bootstrap.rsplit(":", 1)[1]), int(redis_url.rsplit(":", 1)[1].split("/")[0])}
    listening = [c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    addresses = {address.ip.removeprefix("::ffff:") for address in listening if address.port in ports}
    assert addresses == {"127.0.0.1"}
