"""Slack's incoming webhooks: blocks whose texts are plain or rich text elements, in which no mark-up is read.

After Slack's "Sending messages using incoming webhooks", "Improving error conditions for Incoming Webhooks", "Rate
limits", "Formatting message text", "Unfurling links in messages" and the reference of Block Kit (docs.slack.dev).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from alerts.channels.channel import Answer, HttpChannel, Request, Result, as_json, meaning_of_status
from alerts.channels.content import SIGNS, Content, Part, content_of, fitted
from alerts.notification import Notification
from alerts.receivers import SlackReceiver

_LIMIT = 13_000
"""Bytes of a message. Slack writes of no limit to all blocks together; its API has refused some beyond 13,200."""
_ABOUT_THE_MESSAGE = frozenset(
    {
        "invalid_payload",
        "invalid_blocks",
        "invalid_blocks_format",
        "invalid_attachments",
        "msg_blocks_too_long",
        "msg_too_long",
        "no_text",
    }
)


class SlackChannel(HttpChannel):
    """Posts a message of blocks."""

    reads_answer = True

    def __init__(self, settings: SlackReceiver) -> None:
        super().__init__(settings, settings.url)

    def requests(self, told: Notification, now: datetime) -> Sequence[Request]:
        """Return the message."""
        return [Request(fitted(content_of(told), _message, _LIMIT))]

    def meaning(self, answer: Answer, now: datetime) -> Result:
        """Return what an answer means: it is the word `ok`, or what is wrong; a message that is wrong stays so.

        What only speaks like Slack may answer nothing, or with a JSON object.
        """
        result = meaning_of_status(answer, now)
        says = answer.body.decode("utf-8", "replace").strip()
        wrong = str(answer.field("error")) if answer.field("ok") is False else says
        if result.outcome == "delivered" and (wrong in ("", "ok") or (wrong == says and says.startswith("{"))):
            return result
        if result.outcome not in ("delivered", "failed"):
            return result
        reason = f"Slack answered {answer.status}: {ascii(self.masked(wrong))[:60]}"
        if wrong in _ABOUT_THE_MESSAGE:
            return Result("refused", reason)
        return Result("limited" if wrong == "ratelimited" else "failed", reason, result.retry_after_s)


def _message(content: Content) -> bytes:
    title = f"{SIGNS[content.mood]} {content.title}"
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain(title)}]
    for part in content.parts:
        blocks += _part(part)
    if content.lines:
        blocks.append(_rich([{"type": "rich_text_list", "style": "bullet", "elements": _sections(content.lines)}]))
    if content.actions:
        buttons = [
            {"type": "button", "action_id": f"open_{number}", "text": _plain(label), "url": url}
            for number, (label, url) in enumerate(content.actions)
        ]
        blocks.append({"type": "actions", "elements": buttons})
    notes = [note for note in (content.more, content.why) if note]
    if notes:
        blocks.append({"type": "context", "elements": [_plain(note) for note in notes]})
    # The text of the notification on a phone is the one place where mark-up is read.
    fallback = title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    quiet = {"mrkdwn": False, "link_names": False, "parse": "none", "unfurl_links": False, "unfurl_media": False}
    return as_json({"text": fallback, **quiet, "blocks": blocks})


def _part(part: Part) -> list[dict[str, Any]]:
    elements: list[dict[str, Any]] = [
        {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "\n".join(part.bars)}]}
    ]
    stories = []
    for story in part.stories:
        title = {"type": "link", "url": story.url, "text": story.title} if story.url else _text(story.title)
        stories.append({"type": "rich_text_section", "elements": [title, _text(f" ({story.source})")]})
    if part.unlisted:
        stories += _sections([f"and {part.unlisted} more"])
    if stories:
        elements.append({"type": "rich_text_list", "style": "bullet", "elements": stories})
    fields = [_plain(f"{label}: {value}") for label, value in part.facts]
    return [{"type": "section", "text": _plain(part.sentence), "fields": fields}, _rich(elements)]


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _rich(elements: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "rich_text", "elements": elements}


def _sections(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [{"type": "rich_text_section", "elements": [_text(line)]} for line in lines if line]
