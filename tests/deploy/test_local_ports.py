"""Taken ports are named, with who holds them and the setting that moves them."""

import os
import socket

import pytest

from deploy.local.errors import LocalError
from deploy.local.ports import free_ports, is_free, require_free


@pytest.fixture
def taken():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_free_ports_are_free_and_differ():
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(map(is_free, ports))


def test_a_taken_port_is_named_with_its_holder_and_setting(taken):
    (free,) = free_ports(1)
    with pytest.raises(LocalError) as caught:
        require_free({"local.kafka_port": free, "local.redis_port": taken})
    message = str(caught.value)
    assert f"Port {taken}" in message
    assert f"pid {os.getpid()}" in message
    assert "local.redis_port" in message
    assert "kafka_port" not in message


def test_one_port_for_two_is_refused():
    (free,) = free_ports(1)
    with pytest.raises(LocalError, match=rf"Port {free} is set twice, by a and b"):
        require_free({"a": free, "b": free})
