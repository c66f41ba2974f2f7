"""The receiver prints alerts that are signed, once, and nothing that steers a terminal."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from alerts.alert import Alert, Also, Child, message_body
from alerts.listen import Receiver, plain


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def receiver(secret: str, out: io.StringIO) -> Iterator[str]:
    server = Receiver("127.0.0.1", 0, secret, out)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def _headers(secret: str, body: bytes, *, ident: str = "msg_1", age_s: int = 0) -> dict[str, str]:
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    return {
        "webhook-id": ident,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(ident, at, body.decode()),
    }


def test_a_theme_among_what_else_surges_reads_as_stories(
    receiver: str, secret: str, out: io.StringIO, alert: Alert
) -> None:
    figures = msgspec.structs.replace(alert.figures, window_min=1_440, observed=4, others=0, expected=0.0123)
    also = Also(series="theme=Lumen Harbour", name="Lumen Harbour", figures=figures)
    body = message_body("alert.firing", msgspec.structs.replace(alert, also=(also,)))
    assert httpx.post(receiver, content=body, headers=_headers(secret, body)).status_code == 204
    assert "  also Lumen Harbour: 4 negative stories in 24 h, 0.012 expected\n" in out.getvalue()


def test_parts_and_the_share_expected_to_be_false_are_told(
    receiver: str, secret: str, out: io.StringIO, alert: Alert
) -> None:
    child = Child(series="topic=Legal", name="Legal\x1b[31m", contribution=0.4, observed=40, expected=8.25, surged=True)
    changed = msgspec.structs.replace(
        alert, children=(child,), explains=31, parent="market", group="b" * 32, expected_false_share=0.021
    )
    body = message_body("alert.firing", changed)
    assert httpx.post(receiver, content=body, headers=_headers(secret, body)).status_code == 204
    assert out.getvalue().splitlines()[2:6] == [
        "  beyond what the market explains, which has an alert of its own",
        "  of it Legal[31m: 40% of what is too much (40 negative, 8.2 expected)",
        "  31 of its parts surge with it, and raise no alerts of their own",
        "  2.1% of alerts like this are expected to be false",
    ]


def test_an_alert_reads_well_and_is_printed_once(receiver: str, secret: str, out: io.StringIO, alert: Alert) -> None:
    body = message_body("alert.firing", alert)
    for _ in range(2):
        assert httpx.post(receiver, content=body, headers=_headers(secret, body)).status_code == 204
    lines = out.getvalue().splitlines()
    assert lines[:7] == [
        "▲ CRITICAL  SIVB  2023-03-09 18:04 UTC",
        "  SIVB: 14 negative of 15 items",
        "  • Bank shares plunge",
        "    Daily · 2023-03-09 18:04 UTC · 97% negative",
        "    https://example.org/1",
        "  • Bank shares plunge",
        "    Weekly · 2023-03-09 18:04 UTC · 97% negative",
    ]
    assert out.getvalue().count("CRITICAL") == 1


def test_resolved_is_one_short_entry(receiver: str, secret: str, out: io.StringIO, alert: Alert) -> None:
    done = msgspec.structs.replace(alert, status="resolved", resolved_at=alert.started_at, summary="SIVB: normal again")
    body = message_body("alert.resolved", done)
    httpx.post(receiver, content=body, headers=_headers(secret, body)).raise_for_status()
    assert out.getvalue().split("\n")[:2] == ["✓ RESOLVED  SIVB  2023-03-09 18:04 UTC", "  SIVB: normal again"]


def test_what_is_not_rightly_signed_is_refused(receiver: str, secret: str, out: io.StringIO, alert: Alert) -> None:
    body = message_body("alert.firing", alert)
    right = _headers(secret, body)
    other = "whsec_" + "b" * 43 + "="
    wrong = [
        {},
        _headers(other, body),
        _headers(secret, body, age_s=600),
        right | {"webhook-signature": "v1"},
        right | {"webhook-signature": "v1,###"},
        right | {"webhook-timestamp": "nan"},
        right | {"webhook-id": "msg_2"},
    ]
    for headers in wrong:
        assert httpx.post(receiver, content=body, headers=headers).status_code == 401
    assert httpx.post(receiver, content=body + b" ", headers=right).status_code == 401
    assert httpx.post(receiver, content=b"\xff" + body, headers=right).status_code == 401
    assert httpx.post(receiver, content=b"{}", headers=_headers(secret, b"{}")).status_code == 400
    assert httpx.post(receiver, content=b"x" * 70_000, headers=right).status_code == 413
    assert httpx.get(receiver).status_code == 405
    assert httpx.get(receiver + "healthz").status_code == 200
    assert out.getvalue() == ""


def test_hostile_headlines_stay_text(receiver: str, secret: str, out: io.StringIO, alert: Alert) -> None:
    nasty = "[red]Sale[/red] \x1b]0;owned\x07\x1b[2J\u202egnp.exe\r\n✓ RESOLVED  SIVB"
    story = msgspec.structs.replace(alert.stories[0], title=nasty, publisher=nasty, url="javascript:alert(1)")
    body = message_body("alert.firing", msgspec.structs.replace(alert, name=nasty, summary=nasty, stories=(story,)))
    httpx.post(receiver, content=body, headers=_headers(secret, body)).raise_for_status()
    shown = out.getvalue()
    assert not set(shown) & set("\x1b\x07\r\u202e")
    assert "[red]Sale[/red]" in shown
    assert not any(line.startswith("✓") for line in shown.splitlines())
    assert "javascript" not in shown


@given(st.text())
def test_plain_text_is_one_printable_line(text: str) -> None:
    shown = plain(text)
    assert shown == "" or shown.isprintable()
    assert len(shown.splitlines()) <= 1
