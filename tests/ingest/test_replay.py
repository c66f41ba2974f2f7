import csv
import gzip
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.document import Document, decode, encode
from ingest.metrics import IngestMetrics
from ingest.settings import ReplaySettings
from ingest.sources import Fetched, SourceGoneError, SourceSettingsError
from ingest.sources.replay import ReplaySource, RowError, parse_time

COLUMNS = {"time": "at", "title": "", "text": "words", "id": "n", "publisher": "who", "ticker": "symbol"}
T0 = datetime(2023, 3, 10, 12, tzinfo=UTC)


def rows(count: int) -> list[dict[str, str]]:
    return [
        {
            "at": (T0 + timedelta(seconds=10 * n)).isoformat(),
            "words": f"News, number {n} on $C",
            "n": str(n),
            "who": "me",
            "symbol": "SIVB",
        }
        for n in range(count)
    ]


def write(path: Path, table: list[dict[str, str]]) -> Path:
    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(table), path)
        return path
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as out:
        if ".csv" in path.name:
            writer = csv.DictWriter(out, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
        else:
            out.writelines(json.dumps(row) + "\n" for row in table)
    return path


@pytest.fixture
def replay(metrics: IngestMetrics) -> Callable[..., ReplaySource]:
    def make(path: Path, columns: dict[str, str] = COLUMNS, **options: Any) -> ReplaySource:
        clock = options.pop("clock", None)
        settings = ReplaySettings.model_validate({"file": path, "columns": columns} | options)
        return ReplaySource(settings, path, metrics, *([clock] if clock else []))

    return make


def all_of(source: ReplaySource, position: object = None) -> list[Document]:
    documents = [d for fetched in source.run(position, threading.Event()) for d in fetched.documents]
    for document in documents:
        assert decode(encode(document)) == document
    return documents


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_every_format_gives_the_same_documents(tmp_path: Path, replay: Any, name: str) -> None:
    documents = all_of(replay(write(tmp_path / name, rows(5_000))))
    assert [d.title for d in documents] == [f"News, number {n} on $C" for n in range(5_000)]
    assert documents[7].published_at == documents[7].seen_at == T0 + timedelta(seconds=70)
    assert documents[7].companies == ("C", "SIVB")
    assert documents[7].publisher == "me"
    assert documents[7].id == all_of(replay(write(tmp_path / "other.csv", rows(8))))[7].id


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl", "a.parquet"])
def test_a_restart_anywhere_neither_loses_nor_repeats(tmp_path: Path, replay: Any, name: str) -> None:
    path = write(tmp_path / name, rows(7_000))
    whole = all_of(replay(path))
    batches = list(replay(path).run(None, threading.Event()))
    assert len(batches) > 3
    for number, batch in enumerate(batches):
        before = [d for fetched in batches[: number + 1] for d in fetched.documents]
        assert before + all_of(replay(path), json.loads(json.dumps(batch.position))) == whole


@pytest.mark.parametrize("junk", [5, "x", {"rows": -1}, {"file": 1, "rows": "x"}, {"file": "another", "rows": 3}])
def test_a_position_of_another_file_or_shape_starts_at_the_first_row(tmp_path: Path, replay: Any, junk: object) -> None:
    assert len(all_of(replay(write(tmp_path / "a.csv", rows(10))), junk)) == 10


def test_bad_rows_are_counted_logged_by_number_and_left_out(
    tmp_path: Path, replay: Any, counted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    good = [json.dumps(row) for row in rows(3)]
    bad = [
        "not json",
        "[1]",
        "[" * 100_000,
        json.dumps({"words": "no time"}),
        json.dumps({"at": "yesterday", "words": "w"}),
        '{"at": NaN, "words": "w"}',
        json.dumps({"at": 1e300, "words": "w"}),
        json.dumps({"at": True, "words": "w"}),
        json.dumps({"at": "2023-01-01", "words": "https://t.co/only"}),
        json.dumps({"at": "2023-01-01", "words": {"a": 1}}),
        json.dumps({"at": "0001-01-01T00:00:00+14:00", "words": "w"}),
        "x" * 1_500_000,
    ]
    path.write_bytes("\n".join([good[0], *bad, good[1]]).encode() + b'\n{"at": "\xff"}\n\n' + good[2].encode())
    documents = all_of(replay(path))
    assert [d.title for d in documents] == [f"News, number {n} on $C" for n in range(3)]
    assert counted("newsquake_ingest_dropped_total", source="replay") == len(bad) + 1
    assert "row 2 of" in caplog.text
    assert f"row {len(bad) + 3} of" in caplog.text


def test_bad_csv_rows(tmp_path: Path, replay: Any, counted: Any) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"\xef\xbb\xbfat,words,n\n"
        b"2023-01-01,good one,1\n"
        b"2023-01-01,too,many,fields\n"
        b"2023-01-01\n"
        b'2023-01-01,"two\nlines",2\n'
        b"2023-01-01,nul \x00 byte,3\n"
        b"2023-01-01," + b"x" * 300_000 + b",4\n"
        b"2023-01-01,bad \xff utf-8,5\n"
    )
    titles = [d.title for d in all_of(replay(path))]
    assert titles == ["good one", "two lines", "nul byte", "bad \ufffd utf-8"]
    assert counted("newsquake_ingest_dropped_total", reason="bad_row") == 3


def test_many_bad_rows_are_logged_a_few_times_only(
    tmp_path: Path, replay: Any, counted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("junk\n" * 1_000)
    assert all_of(replay(path)) == []
    assert counted("newsquake_ingest_dropped_total", reason="bad_row") == 1_000
    assert 10 < len(caplog.records) < 40


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, replay: Any) -> None:
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(write(tmp_path / "whole.csv.gz", rows(6_000)).read_bytes()[:-2_000])
    (tmp_path / "no.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "no.csv.gz").write_bytes(b"not gzip")
    for path in (tmp_path / "missing.csv", cut, tmp_path / "no.parquet", tmp_path / "no.csv.gz", tmp_path):
        with pytest.raises(SourceGoneError, match=path.name):
            all_of(replay(path))
    with pytest.raises(SourceSettingsError, match="'time'"):
        all_of(replay(write(tmp_path / "a.csv", rows(1)), {"time": "time"}))
    with pytest.raises(SourceSettingsError, match="no file"):
        all_of(replay(tmp_path / "missing.csv"))


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = 100.0
        self.event = threading.Event()
        self.event.wait = self.wait  # type: ignore[method-assign]  # time passes by waiting

    def __call__(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return False


@pytest.mark.parametrize("speed", [1.0, 60.0, 5_000.0])
def test_the_gap_is_the_event_gap_over_the_speed_and_delays_do_not_add_up(
    tmp_path: Path, replay: Any, speed: float
) -> None:
    clock = Clock()
    source = replay(write(tmp_path / "a.csv", rows(50)), speed=speed, clock=clock)
    batches: list[tuple[float, Fetched]] = []
    for fetched in source.run(None, clock.event):
        batches.append((clock.now, fetched))
        clock.now += 0.004  # publishing takes a while
    assert sum(len(fetched.documents) for _, fetched in batches) == 50
    for at, fetched in batches:
        for document in fetched.documents:
            due = 100.0 + (document.seen_at - T0).total_seconds() / speed
            assert due - 1e-6 <= at <= due + 0.009


def test_stop_ends_a_long_wait_with_everything_due_handed_over(tmp_path: Path, replay: Any) -> None:
    table = rows(3)
    table[2]["at"] = "2033-01-01"
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    batches = list(replay(write(tmp_path / "a.csv", table), speed=10_000.0).run(None, stop))
    assert [d.title for b in batches for d in b.documents] == ["News, number 0 on $C", "News, number 1 on $C"]
    assert batches[-1].position["rows"] == 2


@pytest.mark.parametrize(
    "value",
    [
        "2023-03-10T12:00:00Z",
        "2023-03-10T13:00:00+01:00",
        "2023-03-10 12:00",
        1678449600,
        "1678449600",
        1678449600000,
        T0,
    ],
)
def test_times(value: object) -> None:
    assert parse_time(value) == T0


@pytest.mark.parametrize("value", [None, "", "soon", float("nan"), 1e30, True, [], "99999-01-01"])
def test_what_is_no_time(value: object) -> None:
    with pytest.raises(RowError):
        parse_time(value)


def test_seen_may_have_its_own_column(tmp_path: Path, replay: Any) -> None:
    table = [row | {"had": "2023-03-10T18:00:00Z"} for row in rows(1)]
    document = all_of(replay(write(tmp_path / "a.csv", table), COLUMNS | {"seen": "had"}))[0]
    assert document.seen_at - document.published_at == timedelta(hours=6)


def test_a_file_replayed_before_says_how_to_replay_it_again(
    tmp_path: Path, replay: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source = replay(write(tmp_path / "old.csv", rows(3)))
    caplog.set_level("INFO")
    (fetched,) = source.run(None, threading.Event())
    assert "another name" not in caplog.text
    assert list(source.run(fetched.position, threading.Event())) == []
    assert "give ingest.replay.name another name" in caplog.text
