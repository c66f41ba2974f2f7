"""Feishu and Lark: custom bots. A `post` is made of text and link elements, in which no mark-up is read."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from alerts.channels.channel import Answer, HttpChannel, Request, Result, as_json, meaning_of_status
from alerts.channels.content import SIGNS, Content, content_of, fitted
from alerts.notification import Notification
from alerts.receivers import FeishuReceiver

_LIMIT = 18_000  # of 20 kB
_TOO_FAST = (11232, 99991400)


class FeishuChannel(HttpChannel):
    """Posts a message, signed when the bot has a secret."""

    reads_answer = True

    def __init__(self, settings: FeishuReceiver) -> None:
        super().__init__(settings, settings.url)
        self._secret = settings.secret

    def requests(self, told: Notification, now: datetime) -> Sequence[Request]:
        """Return the message; its signature is of the time and the secret alone, as Feishu has it."""
        signed: dict[str, Any] = {}
        if self._secret is not None:
            timestamp = str(int(now.timestamp()))
            key = f"{timestamp}\n{self._secret.get_secret_value()}".encode()
            signed = {"timestamp": timestamp, "sign": base64.b64encode(hmac.digest(key, b"", hashlib.sha256)).decode()}
        return [Request(fitted(content_of(told), lambda content: as_json(signed | _message(content)), _LIMIT))]

    def meaning(self, answer: Answer, now: datetime) -> Result:
        """Return what an answer means: errors come with status 200 and a code."""
        result = meaning_of_status(answer, now)
        code = answer.field("code")
        if code is None:
            code = answer.field("StatusCode")
        if code in _TOO_FAST:
            return Result("limited", f"Feishu answered {code}: not so fast", result.retry_after_s)
        if result.outcome == "delivered" and code != 0:
            return Result("failed", f"Feishu answered code {ascii(code)[:20]}")
        return result


def _message(content: Content) -> dict[str, Any]:
    lines: list[list[dict[str, str]]] = []
    for part in content.parts:
        lines.append([_text(part.sentence)])
        lines += [[_text(f"{label}: {value}")] for label, value in part.facts]
        lines += [[_text(bar)] for bar in part.bars]
        for story in part.stories:
            title = {"tag": "a", "text": story.title, "href": story.url} if story.url else _text(story.title)
            lines.append([_text("• "), title, _text(f" ({story.source})")])
        if part.unlisted:
            lines.append([_text(f"and {part.unlisted} more")])
    lines += [[_text(f"• {line}")] for line in content.lines]
    lines += [[{"tag": "a", "text": label, "href": url}] for label, url in content.actions]
    lines += [[_text(note)] for note in (content.more, content.why) if note]
    post = {"title": f"{SIGNS[content.mood]} {content.title}", "content": lines}
    return {"msg_type": "post", "content": {"post": {"en_us": post}}}


def _text(text: str) -> dict[str, str]:
    return {"tag": "text", "text": text}
