"""Which channel belongs to which settings."""

from __future__ import annotations

from alerts.channels.alertmanager import AlertmanagerChannel
from alerts.channels.channel import Channel
from alerts.channels.dingtalk import DingTalkChannel
from alerts.channels.email import EmailChannel
from alerts.channels.feishu import FeishuChannel
from alerts.channels.pagerduty import PagerDutyChannel
from alerts.channels.slack import SlackChannel
from alerts.channels.teams import TeamsChannel
from alerts.channels.webhook import WebhookChannel
from alerts.channels.wecom import WeComChannel
from alerts.receivers import (
    AlertmanagerReceiver,
    DingTalkReceiver,
    EmailReceiver,
    FeishuReceiver,
    PagerDutyReceiver,
    Receiver,
    SlackReceiver,
    TeamsReceiver,
    WebhookReceiver,
)


def channel_of(settings: Receiver) -> Channel:
    """Return the channel of a receiver."""
    match settings:
        case WebhookReceiver():
            return WebhookChannel(settings)
        case SlackReceiver():
            return SlackChannel(settings)
        case TeamsReceiver():
            return TeamsChannel(settings)
        case PagerDutyReceiver():
            return PagerDutyChannel(settings)
        case AlertmanagerReceiver():
            return AlertmanagerChannel(settings)
        case FeishuReceiver():
            return FeishuChannel(settings)
        case DingTalkReceiver():
            return DingTalkChannel(settings)
        case EmailReceiver():
            return EmailChannel(settings)
        case _:
            return WeComChannel(settings)
