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


async def test_no_redirect_from_a_public_host_into_a_private_network() -> None:
    with pytest.raises(FetchError, match="private network"):
        await fetch._checked_redirect("http://8.8.8.8/feed", "http://169.254.169.254/latest/meta-data")
    assert await fetch._checked_redirect("http://10.0.0.1/feed", "http://10.0.0.2/feed") == "http://10.0.0.2/feed"


def test_nobody_there(fetcher: Fetcher) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        with pytest.raises(FetchError) as caught:
            fetcher.get(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert caught.value.outcome == "error"
