"""Prices beside an alert's chart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis

from alerts.alert import Alert
from alerts.course import Bin, encode_bin
from alerts.desk import prices
from alerts.desk.prices import Prices

_AT = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)


def _write(folder: Path, rows: list[str], company: str = "SIVB") -> None:
    (folder / f"{company}.csv").write_text("timestamp,price\n" + "\n".join(rows), "utf-8")


def _day(found: Prices, series: str = "company=SIVB") -> list[tuple[datetime, float]]:
    return found.between(series, _AT, _AT + timedelta(days=1))


def test_prices_of_the_time_come_in_order_whatever_zone_they_are_written_in(tmp_path: Path) -> None:
    _write(
        tmp_path,
        ["2026-03-09T15:00:00,3", "2026-03-09T14:30:00+02:00,1", "2026-03-09T13:00:00Z,2", "2026-03-11T12:00:00,9"],
    )
    found = Prices(tmp_path)
    assert _day(found) == [(_AT + timedelta(minutes=30 * n), price) for n, price in ((1, 1.0), (2, 2.0), (6, 3.0))]
    assert _day(found, "company=SIVB;topic=Liquidity") == _day(found)
    for series in ("market", "topic=SIVB", "company=JPM", "company=../SIVB", "company=", "theme=SIVB"):
        assert _day(found, series) == []
    assert _day(Prices(None)) == []


def test_many_prices_are_thinned_and_a_file_is_read_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, [f"{(_AT + timedelta(seconds=20 * n)).isoformat()},{n}" for n in range(4_000)])
    real, read = prices._load, []
    monkeypatch.setattr(prices, "_load", lambda path: read.append(path) or real(path))
    found = Prices(tmp_path)
    assert 300 < len(_day(found)) <= 400
    assert _day(found) == _day(found)
    assert len(read) == 1
    _write(tmp_path, ["2026-03-09T13:00:00Z,7"])
    assert _day(found) == [(_AT + timedelta(hours=1), 7.0)]
    for n in range(40):
        _write(tmp_path, ["2026-03-09T13:00:00Z,7"], f"C{n}")
        assert _day(found, f"company=C{n}")
    assert len(found._files) <= 8


_HOUR = "2026-03-09T13:00:00Z"


@pytest.mark.parametrize(
    "row", ["rubbish", _HOUR, f"{_HOUR},nan", f"{_HOUR},inf", "\0,1", ",", "0001-01-01T00:00+14:00,1"]
)
def test_a_file_that_cannot_be_used_is_said_once_with_its_row(
    tmp_path: Path, row: str, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path, ["2026-03-09T13:00:00Z,7", row])
    found = Prices(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert _day(found) in ([], [(_AT + timedelta(hours=1), 7.0)])
        _day(found)
    assert len(caplog.messages) <= 1
    assert all("row 3" in message or "line contains NUL" in message for message in caplog.messages)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "prices"
    folder.mkdir()
    _write(tmp_path, ["2026-03-09T13:00:00Z,7"], "outside")
    (folder / "SIVB.csv").symlink_to(tmp_path / "outside.csv")
    assert _day(Prices(folder)) == []


def test_an_alerts_chart_shows_the_price_and_says_so(
    serve: Callable[..., Any], put: Callable[..., Alert], store: Redis, alert: Alert, tmp_path: Path
) -> None:
    made = put(figures=msgspec.structs.replace(alert.figures, window_min=5))
    minute = int(made.started_at.timestamp() // 60)
    first = minute - minute % 5 - 60
    bins = [Bin(start=first + 5 * n, span_min=5, negatives=n, others=9, expected=1.0, low=0, high=3) for n in range(12)]
    store.hset(f"nq:{{alerts}}:course:{made.id}", mapping={str(n): encode_bin(each) for n, each in enumerate(bins)})
    served = serve(prices=tmp_path)
    page = served.client.get(f"/alerts/{made.id}").text
    assert 'class="course"' in page
    assert 'class="price"' not in page
    rows = [f"{datetime.fromtimestamp(60 * (first + n), UTC).isoformat()},{120.25 - n}" for n in (5, 20, 40)]
    _write(tmp_path, rows)
    page = served.client.get(f"/alerts/{made.id}").text
    assert '<polyline class="price"' in page
    assert ">115.25<" in page  # the highest
    assert ">80.25<" in page  # and the lowest
    assert '<span class="key price"></span>price' in page
