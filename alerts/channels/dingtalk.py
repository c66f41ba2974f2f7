"""DingTalk: custom robots, Markdown, signed when the robot has a secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from alerts.channels.channel import Answer, HttpChannel, Request, Result, as_json, meaning_of_status
from alerts.channels.content import Content, content_of, fitted
from alerts.channels.markdown import markdown
from alerts.channels.text import fullwidth
from alerts.notification import Notification
from alerts.receivers import DingTalkReceiver

_LIMIT = 18_000  # of 20 kB
_TOO_FAST = (130101, 410100)
_TOO_FAST_S = 600.0  # a robot that was too fast is not heard for ten minutes


class DingTalkChannel(HttpChannel):
    """Posts Markdown; the signature of the time goes into the query."""

    reads_answer = True

    def __init__(self, settings: DingTalkReceiver) -> None:
        super().__init__(settings, settings.url)
        self._secret = settings.secret

    def requests(self, told: Notification, now: datetime) -> Sequence[Request]:
        """Return the message; nobody is called by it (`at`)."""
        query = {}
        if self._secret is not None:
            secret = self._secret.get_secret_value()
            timestamp = str(int(now.timestamp() * 1_000))
            digest = hmac.digest(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256)
            query = {"timestamp": timestamp, "sign": base64.b64encode(digest).decode()}
        return [Request(fitted(content_of(told), _message, _LIMIT), query=query)]

    def meaning(self, answer: Answer, now: datetime) -> Result:
        """Return what an answer means: errors come with status 200 and a code."""
        result = meaning_of_status(answer, now)
        code = answer.field("errcode")
        if code in _TOO_FAST:
            return Result("limited", f"DingTalk answered {code}: not so fast", _TOO_FAST_S)
        if result.outcome == "delivered" and code != 0:
            return Result("failed", f"DingTalk answered code {ascii(code)[:20]}")
        return result


def _message(content: Content) -> bytes:
    text = {"title": fullwidth(content.title), "text": markdown(content)}
    return as_json({"msgtype": "markdown", "markdown": text, "at": {"isAtAll": False}})
