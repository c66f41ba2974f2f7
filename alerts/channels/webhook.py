"""Standard Webhooks: the alert as JSON, signed with each of the receiver's secrets, the newest first.

After the "Standard Webhooks" specification 1.0.0 (github.com/standard-webhooks/standard-webhooks).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from alerts.channels.channel import AT_ONCE, HttpChannel, Request
from alerts.message import body_of
from alerts.notification import Notification
from alerts.receivers import WebhookReceiver, check_secret


class WebhookChannel(HttpChannel):
    """Posts `alerts.message`'s body; receivers know a repeated message by its `webhook-id`."""

    digests = 60  # all of them fit into a body
    at_once = AT_ONCE

    def __init__(self, settings: WebhookReceiver) -> None:
        super().__init__(settings, settings.url)
        self._signers = [check_secret(secret.get_secret_value()) for secret in settings.secrets]

    def requests(self, told: Notification, now: datetime) -> Sequence[Request]:
        """Return the signed message."""
        body = body_of(told)
        headers = {
            "webhook-id": told.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signer.sign(told.id, now, body.decode()) for signer in self._signers),
        }
        return [Request(body, headers)]
