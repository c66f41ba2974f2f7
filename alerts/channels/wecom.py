"""WeCom: group robots, Markdown of at most 4,096 bytes. It has no signature: the key in the URL is the secret."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from alerts.channels.channel import Answer, HttpChannel, Request, Result, as_json, meaning_of_status
from alerts.channels.content import content_of, fitted
from alerts.channels.markdown import markdown
from alerts.notification import Notification
from alerts.receivers import WeComReceiver

_LIMIT = 4_096
_TOO_FAST = 45009
_TOO_FAST_S = 60.0


class WeComChannel(HttpChannel):
    """Posts Markdown."""

    reads_answer = True

    def __init__(self, settings: WeComReceiver) -> None:
        super().__init__(settings, settings.url)

    def requests(self, told: Notification, now: datetime) -> Sequence[Request]:
        """Return the message."""
        text = fitted(content_of(told), lambda content: markdown(content).encode(), _LIMIT).decode()
        return [Request(as_json({"msgtype": "markdown", "markdown": {"content": text}}))]

    def meaning(self, answer: Answer, now: datetime) -> Result:
        """Return what an answer means: errors come with status 200 and a code."""
        result = meaning_of_status(answer, now)
        code = answer.field("errcode")
        if code == _TOO_FAST:
            return Result("limited", f"WeCom answered {code}: not so fast", _TOO_FAST_S)
        if result.outcome == "delivered" and code != 0:
            return Result("failed", f"WeCom answered code {ascii(code)[:20]}")
        return result
