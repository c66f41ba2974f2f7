"""DingTalk: custom robots, Markdown, signed when the robot has a secret.

After DingTalk's "Custom robots: send group messages", "Custom robots: security settings" and "Limits of calls"
(open.dingtalk.com/document).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from alerts.channels.channel import Answer, HttpChannel, Request, Result, as_json
from alerts.channels.codes import Codes, meaning_of_code
from alerts.channels.content import Content, content_of, fitted
from alerts.channels.markdown import markdown
from alerts.channels.text import fullwidth
from alerts.notification import Notification
from alerts.receivers import DingTalkReceiver

_LIMIT = 18_000  # of 20 kB
_PUNISHED_S = 600.0  # a robot that was too fast is not heard for ten minutes
_ADDRESS_BARRED, _ADDRESS_BARRED_S = 1111, 300.0
_CODES = Codes(
    service="DingTalk",
    fields=("errcode",),
    limited={130101: _PUNISHED_S, 410100: _PUNISHED_S},
    refused={
        40035: "a field is missing",
        400105: "messages of this type are not taken",
        430101: "it thinks a link unsafe",
        430102: "it thinks the text unfit",
        430103: "it thinks a picture unfit",
        430104: "it thinks the content unfit",
        460101: "the message is too long",
    },
    mended={
        300001: "there is no such access_token",
        300005: "there is no such access_token",
        310000: "keyword, signature, clock or address are not as the robot's security settings want them",
        400013: "the group is dissolved",
        400101: "there is no such access_token",
        400102: "the robot is switched off",
        400106: "the robot is not in the group",
    },
)


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
        """Return what an answer means: errors come with status 200 and a code, a barred address with a `status`."""
        if answer.field("status") == _ADDRESS_BARRED and answer.field("errcode") is None:
            return Result("limited", "DingTalk bars this machine's address: too many calls", _ADDRESS_BARRED_S)
        return meaning_of_code(answer, now, _CODES)


def _message(content: Content) -> bytes:
    text = {"title": fullwidth(content.title), "text": markdown(content)}
    return as_json({"msgtype": "markdown", "markdown": text, "at": {"isAtAll": False}})
