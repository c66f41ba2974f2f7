"""Parts of pages that all viewers share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from redis import Redis

from alerts.alert import Alert
from alerts.desk.shared import Shared
from alerts.evidence import duration
from alerts.now import Row, Table
from alerts.rolling import WINDOWS_MIN


def test_many_who_ask_at_once_get_what_was_made_once() -> None:
    shared, made, got = Shared(), [], []

    def make() -> str:
        made.append(1)
        return "<b>part</b>"

    threads = [threading.Thread(target=lambda: got.append(shared.get("a", make))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert got == ["<b>part</b>"] * 20
    shared.get("b", make)
    assert len(made) == 2


def test_a_part_is_made_anew_after_a_while_and_few_are_kept() -> None:
    now = [0.0]
    shared, made = Shared(lambda: now[0]), []

    def make() -> str:
        made.append(1)
        return ""

    shared.get("a", make)
    now[0] = 6
    shared.get("a", make)
    assert len(made) == 2
    for number in range(100):
        shared.get(number, make)
    shared.get("a", make)
    assert len(made) == 103


def _shown(store: Redis, window_min: int) -> None:
    row = Row(
        series="company=SIVB", name="SIVB", kind="company", state="normal", window_min=window_min, observed=3,
        others=17, expected=3.1, low=0, high=7, z=0.1, strength=0.1, share=0.15, items_min=0.3, usual_min=0.3,
        bin_min=60, negatives=[1, 2], totals=[3, 4],
    )  # fmt: skip
    made = Table(minute=29_000_000, written_at=time.time(), series=1, warming_up="", missing=0, rows=[row])
    store.set("nq:{alerts}:now", msgspec.msgpack.encode(made))


@pytest.mark.parametrize("window_min", [*WINDOWS_MIN, 37])  # that of themes may shrink to any
def test_pages_name_every_window(
    window_min: int, served: Any, put: Callable[..., Alert], store: Redis, alert: Alert
) -> None:
    _shown(store, window_min)
    figures = msgspec.structs.replace(alert.figures, window_min=window_min)
    made = put(figures=figures, peak=figures)
    for page in ("/", "/alerts", f"/alerts/{made.id}"):
        answer = served.client.get(page)
        assert answer.status_code == 200
        assert f"in {duration(window_min)}" in answer.text


def test_a_new_alert_is_linked_on_the_page_at_once(served: Any, put: Callable[..., Alert], store: Redis) -> None:
    _shown(store, 60)
    assert "/alerts/" not in served.client.get("/").text.partition("<main")[2]
    alert = put()
    assert f"/alerts/{alert.id}" in served.client.get("/").text
