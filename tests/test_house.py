"""The house: who may import whom, what the wheel carries, what the repository must not hold."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "ingest": set(),
    "model": set(),
    "alerts": set(),
    "stream": {"ingest", "model", "alerts"},
    "deploy": {"ingest", "model", "alerts", "stream"},
}


def imports(path: Path) -> set[str]:
    """Top-level names that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    modules = list((ROOT / room).rglob("*.py"))
    assert modules
    strangers = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules
        for name in imports(path) & (MAY_IMPORT.keys() | {"tests"}) - {room} - MAY_IMPORT[room]
    }
    assert not strangers


def test_importing_a_room_reads_nothing_and_stays_quiet(tmp_path: Path) -> None:
    heavy = "import sys, deploy.cli; print(sorted({'torch', 'transformers', 'faust', 'pandas'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert not list(tmp_path.iterdir())


def test_the_wheel_carries_code_and_data_of_all_rooms_and_no_tests(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files", *MAY_IMPORT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.splitlines()) <= names
    assert {"model/weights/small/weights.safetensors", "alerts/windows.lua", "ingest/feeds.toml"} <= names
    assert not {name for name in names if name.startswith("tests/")}


def test_the_lock_names_no_index_and_hashes_everything() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pinned = [line for line in lock.splitlines() if line and line[0].isalnum()]
    assert pinned
    assert all("==" in line for line in pinned)
    assert lock.count("--hash=sha256:") >= len(pinned)


def test_shipped_weights_are_small() -> None:
    size = (ROOT / "model/weights/small/weights.safetensors").stat().st_size
    assert size <= 12 * 1024 * 1024
