"""Feishu and Lark: custom bots. A `post` is made of text and link elements, in which no mark-up is read.

After Feishu's "Custom bot usage guide" and "Rate limits" (open.feishu.cn/document).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from alerts.channels.channel import Answer, HttpChannel, Request, Result, as_json
from alerts.channels.codes import Codes, meaning_of_code
from alerts.channels.content import SIGNS, Content, content_of, fitted
from alerts.notification import Notification
from alerts.receivers import FeishuReceiver

_LIMIT = 18_000  # of 20 kB
_BAD_REQUEST = 9499
_CODES = Codes(
    service="Feishu",
    fields=("code", "StatusCode"),
    # 11232 also comes on the hour and at half past, when all the world sends; 99991400 under status 400 or 429.
    limited={11232: 0.0, 99991400: 0.0},
    mended={
        19001: "its URL is not that of a bot",
        19007: "the bot is switched off",
        19021: "the signature is wrong, or the clock by more than an hour",
        19022: "this machine's address is not on the bot's list",
        19024: "the message has none of the bot's keywords",
    },
)
_TOO_MANY = re.compile("too many|frequen", re.IGNORECASE)
_MENTION = re.compile(r"<(?=\s*/?\s*at\b)", re.IGNORECASE)


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
        """Return what an answer means: errors come with a code, 9499 for a bad message and for too many alike."""
        result = meaning_of_code(answer, now, _CODES)
        if answer.field("code") != _BAD_REQUEST:
            return result
        if _TOO_MANY.search(str(answer.field("msg"))):
            return Result("limited", f"Feishu answered code {_BAD_REQUEST}: not so fast", result.retry_after_s)
        return Result("refused", f"Feishu answered code {_BAD_REQUEST}: the message is malformed or too large")


def _message(content: Content) -> dict[str, Any]:
    lines: list[list[dict[str, str]]] = []
    for part in content.parts:
        lines.append([_text(part.sentence)])
        lines += [[_text(f"{label}: {value}")] for label, value in part.facts]
        lines += [[_text(bar)] for bar in part.bars]
        for story in part.stories:
            title = _text(story.title) | ({"tag": "a", "href": story.url} if story.url else {})
            lines.append([_text("• "), title, _text(f" ({story.source})")])
        if part.unlisted:
            lines.append([_text(f"and {part.unlisted} more")])
    lines += [[_text(f"• {line}")] for line in content.lines]
    lines += [[{"tag": "a", "text": label, "href": url}] for label, url in content.actions]
    lines += [[_text(note)] for note in (content.more, content.why) if note]
    post = {"title": _text(f"{SIGNS[content.mood]} {content.title}")["text"], "content": lines}
    return {"msg_type": "post", "content": {"post": {"en_us": post}}}


def _text(text: str) -> dict[str, str]:
    # In messages of type `text` a tag <at> calls people: should one be read here as well, it is none.
    return {"tag": "text", "text": _MENTION.sub("<\u200b", text)}
