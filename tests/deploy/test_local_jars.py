"""Jars come over real HTTP, once, and only those of the lock get on a class path."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.local.errors import LocalError
from deploy.local.jars import ENDPOINTS, Jar, ensure_jars, read_lock

CONTENT = b"PK not really a jar"


@pytest.fixture
def jar():
    return Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def mirror(tmp_path):
    """A Maven repository on loopback: its directory, its URL, and the paths asked for."""
    root, asked = tmp_path / "repository", []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            asked.append(self.path)

    folder = root / "org" / "example" / "thing" / "1.0"
    folder.mkdir(parents=True)
    (folder / "thing-1.0.jar").write_bytes(CONTENT)
    (folder / "thing-1.0.jar.sha1").write_text(hashlib.sha1(CONTENT).hexdigest())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetched_once_then_without_network(tmp_path, jar, mirror):
    _, url, asked = mirror
    said = []
    (path,) = ensure_jars(tmp_path / "cache", (jar,), repository=url, progress=said.append)
    assert path.read_bytes() == CONTENT
    assert said == ["Kafka's jars, fetched once: 1 of 1"]
    asked.clear()
    assert ensure_jars(tmp_path / "cache", (jar,), repository="http://127.0.0.1:1") == (path,)
    assert asked == []


def test_a_mirror_that_serves_another_file_is_refused(tmp_path, jar, mirror):
    folder, url, _ = mirror
    (folder / "thing-1.0.jar").write_bytes(b"evil")
    (folder / "thing-1.0.jar.sha1").write_text(hashlib.sha1(b"evil").hexdigest())
    with pytest.raises(LocalError, match="is not the file that newsquake was released with"):
        ensure_jars(tmp_path / "cache", (jar,), repository=url)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_jar_changed_in_the_cache_is_refused(tmp_path, jar, mirror):
    _, url, _ = mirror
    (path,) = ensure_jars(tmp_path / "cache", (jar,), repository=url)
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(LocalError, match="Delete it and start again"):
        ensure_jars(tmp_path / "cache", (jar,), repository=url)
    path.unlink()
    assert ensure_jars(tmp_path / "cache", (jar,), repository=url) == (path,)


def test_no_network_says_what_to_do(tmp_path, jar):
    with pytest.raises(LocalError, match=r"org\.example:thing:1\.0.*kafka\.bootstrap_servers"):
        ensure_jars(tmp_path / "cache", (jar,), repository="http://127.0.0.1:1")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("text", ["", "# only words\n", "abc org:a:1", f"{'0' * 64} org:a", f"{'0' * 64} ../x:a:1"])
def test_a_broken_lock_is_refused(text):
    with pytest.raises(LocalError, match=r"kafka\.lock"):
        read_lock(text)


def test_the_lock_that_ships_holds_the_versions_named():
    locked = {f"{jar.group}:{jar.artifact}:{jar.version}" for jar in read_lock()}
    assert locked.issuperset(ENDPOINTS)
    assert len({jar.name for jar in read_lock()}) == len(read_lock()), "one file a jar"
