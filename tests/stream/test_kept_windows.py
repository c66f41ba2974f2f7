"""What is kept of the windows is read as the windows are, and never when it is of something else or cut short."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from alerts.settings import WindowsSettings
from alerts.windows import Count, WindowItem
from stream import kept_windows
from stream.kept_windows import TABLES, KeptWindows, Made, made_of
from stream.settings import StreamSettings

MADE = Made(first=10, last=20, ends=[850.5, 1_210.25], outcomes={"counted": 3})
COUNTS: dict[int, dict[Count, int]] = {
    10: {("market", 9, "neutral"): 2, ("market", 10, "copy"): 1},
    14: {("market", 14, "negative"): 1},
    20: {("market", 20, "positive"): 70_000},
}
ITEM = WindowItem(
    offset=5, id="1", story="s", published_at=840.1, seen_at=841.3, sentiment="negative", negative=0.1 + 0.2, topic="T",
    companies=("A", "B"), publisher="p", source="s", title="A bank falls — 50 %", url="https://example.org/",
)  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "kept.sqlite", isolation_level=None)) as found:
        found.executescript(TABLES)
        yield found


def _kept(base: sqlite3.Connection, of: str = "these") -> KeptWindows:
    kept = KeptWindows(base, of)
    kept.begin()
    kept.add((minute, counts, [ITEM] if minute == 14 else []) for minute, counts in COUNTS.items())
    return kept


def test_it_is_read_as_the_windows_are(base: sqlite3.Connection) -> None:
    _kept(base).finish(MADE)
    kept = KeptWindows(base, "these")
    assert kept.made() == MADE
    assert list(kept.places()) == [10, 14, 20]
    assert kept.counts([10, 13, 14]) == [COUNTS[10], {}, COUNTS[14]]
    assert [list(each) for each in kept.counts([10])] == [list(COUNTS[10])]
    assert list(kept.all()) == list(COUNTS.values())
    assert kept.listed([10, 14, 20]) == [[], [ITEM], []]
    assert kept.items(range(30)) == [ITEM]
    assert kept.counts([]) == kept.listed([]) == []
    kept.move_clock(1_300.5)
    assert [each.clock_ms for each in kept.progress()] == [1_300_500]
    assert kept.now() == 1_300.5


def test_what_was_cut_short_or_made_of_something_else_is_not_there(base: sqlite3.Connection) -> None:
    kept = _kept(base)
    assert kept.made() is None
    kept.finish(MADE)
    assert KeptWindows(base, "others").made() is None
    assert kept.made() == MADE
    kept.begin()
    assert kept.made() is None
    assert kept.places() == {}


def test_items_scores_partitions_settings_and_code_make_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    windows, stream = WindowsSettings(), StreamSettings()
    digests = [
        made_of("items", "scores", 8, windows, stream),
        made_of("other items", "scores", 8, windows, stream),
        made_of("items", "other scores", 8, windows, stream),
        made_of("items", "scores", 3, windows, stream),
        made_of("items", "scores", 8, WindowsSettings(late_after_s=60), stream),
    ]
    assert made_of("items", "scores", 8, windows, stream) == digests[0]
    monkeypatch.setattr(kept_windows, "_CODE", {"alerts": ("windows.lua",)})
    digests.append(made_of("items", "scores", 8, windows, stream))
    assert len(set(digests)) == len(digests)
