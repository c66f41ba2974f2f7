"""A message in the Markdown of services that know no escape: texts from outside have full-width twins of its signs."""

from __future__ import annotations

from alerts.channels.content import SIGNS, Content, Part
from alerts.channels.text import fullwidth


def markdown(content: Content) -> str:
    """Return the message: headings, bold labels, lists and links alone."""
    blocks = [f"### {SIGNS[content.mood]} {fullwidth(content.title)}"]
    for part in content.parts:
        blocks += _part(part)
    blocks += [f"- {fullwidth(line)}" for line in content.lines]
    if content.actions:
        blocks.append(" | ".join(f"[{label}]({url})" for label, url in content.actions))
    blocks += [fullwidth(note) for note in (content.more, content.why) if note]
    return "\n\n".join(blocks)


def _part(part: Part) -> list[str]:
    blocks = [fullwidth(part.sentence)]
    blocks.append("\n".join(f"- **{label}**: {fullwidth(value)}" for label, value in part.facts))
    blocks.append("\n\n".join(part.bars))
    stories = []
    for story in part.stories:
        title = f"[{fullwidth(story.title)}]({story.url})" if story.url else fullwidth(story.title)
        stories.append(f"- {title} ({fullwidth(story.source)})")
    if part.unlisted:
        stories.append(f"- and {part.unlisted} more")
    return [*blocks, "\n".join(stories)] if stories else blocks
