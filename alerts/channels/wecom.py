"""WeCom: group robots, Markdown of at most 4,096 bytes. It has no signature: the key in the URL is the secret.

After WeCom's "Group robots: configuration" and "Global error codes" (developer.work.weixin.qq.com/document).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from alerts.channels.channel import Answer, HttpChannel, Request, Result, as_json
from alerts.channels.codes import Codes, meaning_of_code
from alerts.channels.content import content_of, fitted
from alerts.channels.markdown import markdown
from alerts.notification import Notification
from alerts.receivers import WeComReceiver

_LIMIT = 4_096
_CODES = Codes(
    service="WeCom",
    fields=("errcode",),
    limited={45009: 60.0, 45033: 60.0},
    refused={
        40008: "messages of this type are not taken",
        40033: r"the message has \u escapes",
        40058: "a field is wrong or too long",
        44004: "the message is empty",
        45002: "the message is too long",
    },
    mended={93000: "the key in its URL is not that of a robot, or the robot is gone"},
)


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
        return meaning_of_code(answer, now, _CODES)
