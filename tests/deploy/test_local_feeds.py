"""Whether feeds are reachable, asked of real servers on loopback."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.local.feeds import any_feed_reached, check_feeds

NOBODY = ("nobody", "http://127.0.0.1:1/feed")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/silent":
            self.server.ended.wait(60)
        self.server.asked.append(self.path)
        status = {"/good": 200, "/moved": 302}.get(self.path, 404)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/good")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.ended, server.asked = threading.Event(), []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def url(server):
    return f"http://127.0.0.1:{server.server_port}"


def reached(feeds, timeout_s=30.0):
    return asyncio.run(any_feed_reached(feeds, user_agent="test", timeout_s=timeout_s))


def test_one_that_answers_is_enough_and_is_not_held_up_by_the_silent(url):
    silent = [(f"silent-{n}", f"{url}/silent") for n in range(3)]
    assert reached([*silent, NOBODY, ("good", f"{url}/good")], timeout_s=200)


def test_a_redirect_is_an_answer_and_is_not_followed(server, url):
    assert reached([("moved", f"{url}/moved")])
    assert server.asked == ["/moved"]


@pytest.mark.parametrize("path", ["/gone", "/silent"])
def test_errors_and_silence_are_not_answers(url, path):
    assert not reached([("bad", f"{server}{path}"), NOBODY], timeout_s=0.3)


@pytest.mark.parametrize("url", ["", "no address", "ftp://x/", "http://", "http://[::1", "http://127.0.0.1:99999/"])
def test_a_wrong_address_is_no_crash(url):
    assert not reached([("wrong", url)])


def test_no_feeds_is_none_reached():
    assert not reached([])


def test_each_feed_has_its_reason(url):
    feeds = [("good", f"{url}/good"), ("gone", f"{url}/gone"), ("silent", f"{url}/silent"), NOBODY]
    checks = asyncio.run(check_feeds(feeds, user_agent="test", timeout_s=0.5))
    problems = {check.name: check.problem for check in checks}
    assert problems["good"] is None
    assert problems["gone"] == "HTTP 404"
    assert "no answer within" in problems["silent"]
    assert "ConnectError" in problems["nobody"]
