"""Microsoft Teams: an adaptive card, posted to a workflow. Texts from outside are text runs, which know no Markdown.

After Microsoft's "Create an Incoming Webhook", "Sending messages to connectors and webhooks", "Microsoft Teams"
(connector reference), "Text formatting in cards" (learn.microsoft.com) and the schema of Adaptive Cards 1.4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from alerts.channels.channel import Answer, HttpChannel, Request, Result, as_json, meaning_of_status
from alerts.channels.content import SIGNS, Content, Part, content_of, fitted
from alerts.notification import Notification
from alerts.receivers import TeamsReceiver

_LIMIT = 26_000  # of 28 kB
_TOO_LARGE = 413
_BEHIND = re.compile(rb"endpoint returned HTTP error (\d{3})")
_COLOURS = {"critical": "attention", "warning": "warning", "resolved": "good", "info": "accent"}


class TeamsChannel(HttpChannel):
    """Posts an adaptive card."""

    reads_answer = True

    def __init__(self, settings: TeamsReceiver) -> None:
        super().__init__(settings, settings.url)

    def requests(self, told: Notification, now: datetime) -> Sequence[Request]:
        """Return the message that holds the card."""
        return [Request(fitted(content_of(told), _message, _LIMIT))]

    def meaning(self, answer: Answer, now: datetime) -> Result:
        """Return what an answer means: a connector may answer 200 and write what Teams behind it said.

        A workflow answers 202 before it has done anything: what fails in it stands in its history alone.
        """
        if 200 <= answer.status < 300 and (behind := _BEHIND.search(answer.body)):
            answer = Answer(int(behind[1]), answer.retry_after, b"")
        result = meaning_of_status(answer, now)
        if answer.status == _TOO_LARGE:
            return Result("refused", f"Teams answered {_TOO_LARGE}: the message is too large")
        return result


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
    # Cards write {{DATE(...)}} and {{TIME(...)}} out as dates: no two braces stand side by side, however many come.
    return {"type": "TextRun", "text": re.sub(r"\{(?=\{)", "{\u200b", text), **how}
