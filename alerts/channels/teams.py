"""Microsoft Teams: an adaptive card, posted to a workflow. Texts from outside are text runs, which know no Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from alerts.channels.channel import HttpChannel, Request, as_json
from alerts.channels.content import SIGNS, Content, Part, content_of, fitted
from alerts.notification import Notification
from alerts.receivers import TeamsReceiver

_LIMIT = 26_000  # of 28 kB
_COLOURS = {"critical": "attention", "warning": "warning", "resolved": "good", "info": "accent"}


class TeamsChannel(HttpChannel):
    """Posts an adaptive card."""

    def __init__(self, settings: TeamsReceiver) -> None:
        super().__init__(settings, settings.url)

    def requests(self, told: Notification, now: datetime) -> Sequence[Request]:
        """Return the message that holds the card."""
        return [Request(fitted(content_of(told), _message, _LIMIT))]


def _message(content: Content) -> bytes:
    head = _run(f"{SIGNS[content.mood]} {content.title}", size="large", weight="bolder", color=_COLOURS[content.mood])
    body = [_block(head)]
    for part in content.parts:
        body += _part(part)
    body += [_block(_run(f"• {line}")) for line in content.lines]
    body += [_block(_run(note, isSubtle=True, size="small")) for note in (content.more, content.why) if note]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
        "actions": [{"type": "Action.OpenUrl", "title": label, "url": url} for label, url in content.actions],
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return as_json({"type": "message", "attachments": [{"contentType": kind, "contentUrl": None, "content": card}]})


def _part(part: Part) -> list[dict[str, Any]]:
    blocks = [_block(_run(part.sentence))]
    blocks += [_block(_run(f"{label}: ", weight="bolder"), _run(value)) for label, value in part.facts]
    blocks += [_block(_run(line.replace(" ", "\u00a0"), fontType="monospace")) for line in part.bars]
    for story in part.stories:
        opens = {"selectAction": {"type": "Action.OpenUrl", "url": story.url}} if story.url else {}
        blocks.append(_block(_run("• "), _run(story.title, **opens), _run(f" ({story.source})", isSubtle=True)))
    if part.unlisted:
        blocks.append(_block(_run(f"and {part.unlisted} more")))
    return blocks


def _block(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": list(runs)}


def _run(text: str, **how: Any) -> dict[str, Any]:
    return {"type": "TextRun", "text": text, **how}
