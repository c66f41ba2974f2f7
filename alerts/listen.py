"""A small receiver of alerts: verifies the signature, leaves out repeats, prints what an analyst wants to read."""

from __future__ import annotations

import logging
import re
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TextIO

from rich.console import Console
from rich.text import Text
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from alerts.alert import Alert, AlertError, Also, By, Child, Event, Message
from alerts.evidence import duration
from alerts.message import GroupMessage, decode_message
from alerts.receivers import check_secret
from alerts.series import THEME, kind, label
from alerts.small_server import InTime, SmallServer

log = logging.getLogger(__name__)

_MAX_BYTES = 64 * 1024
_REMEMBERED = 10_000


class Receiver(SmallServer, HTTPServer):
    """Takes POSTs on any path. Answers 204 when the alert was printed (now or before), 401 to a wrong signature.

    Raises:
        ValueError: `secret` is not one of Standard Webhooks.
        OSError: the port is taken.
    """

    def __init__(self, host: str, port: int, secret: str, out: TextIO) -> None:
        self._signer: Webhook = check_secret(secret)
        self._console = Console(file=out, highlight=False, soft_wrap=True)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)

    def take(self, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        """Verify and print one message; return the HTTP status and, for a refusal, its reason."""
        try:
            self._signer.verify(body, headers, json_parse=False)
        except (WebhookVerificationError, ValueError) as exc:  # ValueError: a header that is no base64 or not two parts
            log.warning("a message was refused: %s", exc)
            return 401, "the signature or its time is not right"
        try:
            message = decode_message(body)
        except AlertError as exc:
            log.warning("a signed message was refused: %s", plain(str(exc)))
            return 400, "not an alert of newsquake"
        with self._lock:
            if headers["webhook-id"] in self._seen:
                log.info("%s came again", headers["webhook-id"])
                return 204, ""
            self._console.print(render(message))
            self._seen[headers["webhook-id"]] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return 204, ""


class _Handler(InTime, BaseHTTPRequestHandler):
    server: Receiver
    server_version, sys_version = "newsquake", ""

    def do_POST(self) -> None:
        try:
            length = int(self.headers.get("content-length", ""))
        except ValueError:
            return self._answer(411, "a content-length is needed")
        if not 0 <= length <= _MAX_BYTES:
            return self._answer(413, f"at most {_MAX_BYTES} bytes")
        body = self.rfile.read(length)
        self._answer(*self.server.take(body, {name.lower(): value for name, value in self.headers.items()}))
        return None

    def do_GET(self) -> None:
        if self.path.partition("?")[0] == "/healthz":
            self._answer(200, "listening")
        else:
            self._answer(405, "newsquake listens here for alerts by POST")

    def _answer(self, status: int, text: str) -> None:
        raw = text.encode() + b"\n" if text else b""
        self.send_response(status)
        if status != 204:
            self.send_header("content-type", "text/plain; charset=utf-8")
            self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        log.debug("%s", plain(format % args))


def plain(text: str) -> str:
    r"""Return one line of text without anything that steers a terminal or hides: controls, escapes, direction marks.

    >>> plain("Profit\x1b[31m up\u202e\nbig")
    'Profit[31m up big'
    """
    kept = (" " if char.isspace() else char for char in text if char.isspace() or unicodedata.category(char)[0] != "C")
    return " ".join("".join(kept).split())


def render(message: Message | GroupMessage) -> Text:
    """Return the message as an analyst reads it. Every text in it came from outside and is made plain."""
    if isinstance(message, Message):
        return _alert(message.type, message.data, message.by)
    text = Text()
    for alert in message.data.alerts:
        event: Event = "alert.resolved" if alert.status == "resolved" else _EVENTS.get(message.type, "alert.firing")
        text.append_text(_alert(event, alert, message.data.by.get(alert.id)))
    for held in message.data.held:
        who = f" by {plain(held.by)}" if held.by else ""
        text.append(f"  · {_time(held.at)}  {plain(held.event)}{who}: {plain(held.summary)}\n", style="dim")
    if left_out := message.data.more_alerts + message.data.more_held:
        text.append(f"  and {left_out} more\n", style="dim")
    return text


_EVENTS: dict[str, Event] = {
    "group.escalated": "alert.escalated",
    "group.acknowledged": "alert.acknowledged",
    "group.repeated": "alert.repeated",
}


def _alert(event: Event, alert: Alert, by: By | None = None) -> Text:
    text = Text()
    if event == "alert.resolved":
        text.append("✓ RESOLVED", style="bold green")
    elif event == "alert.acknowledged":
        text.append("● ACKNOWLEDGED", style="bold blue")
    else:
        critical = alert.severity == "critical"
        word = {"alert.escalated": "ESCALATED, ", "alert.repeated": "STILL "}.get(event, "")
        text.append(f"▲ {word}{alert.severity.upper()}", style="bold white on red" if critical else "bold yellow")
    text.append(f"  {plain(alert.name)}", style="bold")
    text.append(f"  {_time(alert.resolved_at or alert.started_at)}\n")
    text.append(f"  {plain(alert.summary)}\n")
    if by is not None:
        word = {"alert.resolved": "resolved", "alert.acknowledged": "acknowledged"}.get(event, "no longer acknowledged")
        word = by.did if by.did == "reopened" else word
        why = f": {plain(by.reason)}" if by.reason else ""
        text.append(f"  {word} by {plain(by.actor)} at {by.at:%H:%M} UTC{why}\n")
    if event in ("alert.firing", "alert.escalated"):
        _append_reasons(text, alert)
    return text


def _append_reasons(text: Text, alert: Alert) -> None:
    if alert.parent:
        text.append(
            f"  beyond what {plain(label(alert.parent))} explains, which has an alert of its own\n", style="dim"
        )
    for also in alert.also:
        text.append(f"  also {plain(also.name)}: {_brief(also)}\n", style="dim")
    for child in alert.children:
        text.append(f"  of it {plain(child.name)}: {_part(child)}\n", style="dim")
    if alert.explains:
        text.append(f"  {alert.explains} of its parts surge with it, and raise no alerts of their own\n", style="dim")
    if alert.expected_false_share is not None:
        text.append(f"  {alert.expected_false_share:.1%} of alerts like this are expected to be false\n", style="dim")
    for story in alert.stories:
        words = [word for word in (plain(word) for word, _ in story.words) if word]
        text.append("  • ").append_text(_marked(plain(story.title), words)).append("\n")
        text.append(
            f"    {plain(story.publisher)} · {_time(story.published_at)} · {story.negative:.0%} negative"
            f"{': ' if words else ''}{', '.join(words)}\n",
            "dim",
        )
        if story.url.startswith(("https://", "http://")):
            text.append(f"    {plain(story.url)}\n", style="blue")


def _marked(title: str, words: Sequence[str]) -> Text:
    """The title with the words that weighed most marked; the heaviest, which stands first, most of all."""
    text = Text(title)
    for number, word in enumerate(words):
        style = "bold red" if number == 0 else "red"
        text.highlight_regex(rf"(?<!\w){re.escape(word)}(?!\w)", style)
    return text


def _brief(also: Also) -> str:
    seen = also.figures
    if kind(also.series) == THEME:  # how many other items have its words is not known
        return f"{seen.observed} negative stories in {seen.window_min // 60} h, {seen.expected:.2g} expected"
    total = seen.observed + seen.others
    return f"{seen.observed} negative of {total} items in {duration(seen.window_min)}, {seen.expected:.1f} expected"


def _part(child: Child) -> str:
    seen = f"{child.observed} negative, {child.expected:.1f} expected"
    return f"{child.contribution:.0%} of what is too much ({seen})"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} {at.tzname() or ''}".rstrip()


def serve(host: str, port: int, secret: str, out: TextIO) -> None:
    """Print the alerts that are posted to `host`:`port` and signed with `secret` to `out`, until interrupted."""
    with Receiver(host, port, secret, out) as receiver:
        receiver.serve_forever()
