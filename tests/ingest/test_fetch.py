import gzip
import socket
import zlib
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from ingest import fetch
from ingest.fetch import Fetcher, FetchError


@pytest.fixture
def fetcher() -> Fetcher:
    return Fetcher(user_agent="newsquake test", timeout_s=1.0, max_bytes=10_000, max_redirects=3)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body)[2:-4]),
        ("identity", bytes),
    ],
)
def test_decompresses(feed_server: Any, answer: Any, fetcher: Fetcher, encoding: str, pack: Any) -> None:
    feed_server.answers = [answer(body=pack(b"hello " * 100), headers={"Content-Encoding": encoding})]
    assert fetcher.get(feed_server.url).body == b"hello " * 100
    assert feed_server.requests[0][2]["user-agent"] == "newsquake test"


@pytest.mark.parametrize(
    ("body", "headers", "outcome"),
    [
        (b"x" * 10_001, {}, "too_large"),
        (gzip.compress(b"\0" * 50_000_000), {"Content-Encoding": "gzip"}, "too_large"),
        (gzip.compress(gzip.compress(b"\0" * 1_000)), {"Content-Encoding": "gzip, gzip"}, "error"),
        (gzip.compress(b"small") + b"x" * 50_000_000, {"Content-Encoding": "gzip"}, "too_large"),
        (b"not gzip", {"Content-Encoding": "gzip"}, "error"),
        (gzip.compress(b"cut short" * 100)[:-20], {"Content-Encoding": "gzip"}, "error"),
        (b"?", {"Content-Encoding": "br"}, "error"),
    ],
)
def test_hostile_bodies(
    feed_server: Any, answer: Any, fetcher: Fetcher, body: bytes, headers: dict[str, str], outcome: str
) -> None:
    feed_server.answers = [answer(body=body, headers=headers)]
    with pytest.raises(FetchError) as caught:
        fetcher.get(feed_server.url)
    assert caught.value.outcome == outcome


def test_a_dripping_server_is_left_after_the_time_limit(feed_server: Any, answer: Any, fetcher: Fetcher) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not feed_server.closed.wait(0.05):
            handler.wfile.write(b"x")  # each read succeeds, the whole never ends
            handler.wfile.flush()

    feed_server.answers = [answer(raw=drip)]
    with pytest.raises(FetchError) as caught:
        fetcher.get(feed_server.url)
    assert caught.value.outcome == "timeout"


def test_redirects_are_followed_and_relative_ones_resolved(feed_server: Any, answer: Any, fetcher: Fetcher) -> None:
    feed_server.answers = [
        answer(301, headers={"Location": "/moved"}),
        answer(302, headers={"Location": f"{feed_server.url}/again"}),
        answer(body=b"here"),
    ]
    got = fetcher.get(f"{feed_server.url}/start")
    assert (got.body, got.url) == (b"here", f"{feed_server.url}/again")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.com/x", "javascript:alert(1)", "http://["])
def test_redirects_lead_to_the_web_only(feed_server: Any, answer: Any, fetcher: Fetcher, target: str) -> None:
    feed_server.answers = [answer(302, headers={"Location": target}), answer(body=b"never")]
    with pytest.raises(FetchError):
        fetcher.get(feed_server.url)
    assert len(feed_server.requests) == 1


def test_a_circle_of_redirects_ends(feed_server: Any, answer: Any, fetcher: Fetcher) -> None:
    feed_server.answers = [answer(302, headers={"Location": "/"}) for _ in range(10)]
    with pytest.raises(FetchError, match="more than 3 redirects"):
        fetcher.get(feed_server.url)
    assert len(feed_server.requests) == 4


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Name → the addresses of its look-ups, the last one for ever. 127.0.0.1 counts as public here."""
    known: dict[str, list[str]] = {}
    real, real_public = socket.getaddrinfo, fetch._is_public

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        answers = known.get(name)
        if answers is None:
            return real(host, port, *args, **kwargs)
        address = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(fetch, "_is_public", lambda address: address == "127.0.0.1" or real_public(address))
    return known


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest", "http://[::ffff:10.0.0.1]/", "http://inside.example/", "http://feed.example/"],
)
def test_no_redirect_from_a_public_host_into_a_private_network(
    feed_server: Any, answer: Any, fetcher: Fetcher, names: dict[str, list[str]], target: str
) -> None:
    names["inside.example"] = ["10.0.0.1"]
    names["feed.example"] = ["127.0.0.1", "10.0.0.1"]  # the same name, and another address the second time
    feed_server.answers = [answer(302, headers={"Location": target})]
    port = feed_server.url.rpartition(":")[2]
    with pytest.raises(FetchError, match="private network"):
        fetcher.get(f"http://feed.example:{port}/")
    assert len(feed_server.requests) == 1


def test_a_redirect_is_fetched_from_the_address_that_was_checked(
    feed_server: Any, answer: Any, fetcher: Fetcher, names: dict[str, list[str]]
) -> None:
    names["moved.example"] = ["127.0.0.1", "10.0.0.1"]
    target = f"http://moved.example:{feed_server.url.rpartition(':')[2]}/feed"
    feed_server.answers = [answer(302, headers={"Location": target}), answer(body=b"here")]
    got = fetcher.get(feed_server.url)
    assert (got.body, got.url) == (b"here", target)
    assert feed_server.requests[1][2]["host"] == target.split("/")[2]


def test_a_private_source_may_redirect_within_its_network(feed_server: Any, answer: Any, fetcher: Fetcher) -> None:
    target = feed_server.url.replace("127.0.0.1", "127.0.0.2") + "/"
    feed_server.answers = [answer(302, headers={"Location": target})]
    with pytest.raises(FetchError, match=r"127\.0\.0\.2.*could not be fetched"):  # asked; nobody there
        fetcher.get(feed_server.url)


def test_a_proxy_is_asked_and_private_targets_are_refused_there_too(
    feed_server: Any, answer: Any, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", feed_server.url)
    feed_server.answers = [
        answer(302, headers={"Location": "http://elsewhere.invalid/feed"}),
        answer(302, headers={"Location": "http://169.254.169.254/latest"}),
    ]
    with pytest.raises(FetchError, match="private network"):
        fetcher.get("http://news.invalid/feed")
    asked = [path for _, path, _ in feed_server.requests]
    assert asked == ["http://news.invalid/feed", "http://elsewhere.invalid/feed"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    feed_server.answers = [answer(body=b"straight")]
    assert fetcher.get(f"{feed_server.url}/x").body == b"straight"
    assert feed_server.requests[-1][1] == "/x"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("2002:808:808::1", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("::", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b:1::808:808", False),
        ("2002:7f00:1::1", False),
        ("2001:0:808:808::1", False),
        ("fc00::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert fetch._is_public(address) is public


def test_nobody_there(fetcher: Fetcher) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        with pytest.raises(FetchError) as caught:
            fetcher.get(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert caught.value.outcome == "error"
