"""`newsquake explain`: which words a prediction rests on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, TYPE_CHECKING, Literal

import click

from deploy import settings

if TYPE_CHECKING:
    from rich.text import Text

    from model.explain import Explainer, Explanation, Head, Method

_CHUNK = 16  # texts explained at a time
_SHOWN = 0.2  # of the heaviest word's weight, from which a word is marked


@click.command()
@click.argument("texts", nargs=-1)
@click.option("--topic", is_flag=True, help="Explain the topic instead of the sentiment.")
@click.option("--label", help="Explain this label instead of the one that the text got.")
@click.option(
    "--method",
    type=click.Choice(["hide-and-show", "integrated-gradients"]),
    default="hide-and-show",
    show_default=True,
    help="hide-and-show scores the text without each word and with it alone; integrated-gradients is slower.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON a text.")
@click.option("--html", type=click.File("w", "utf-8", lazy=True), help="Write a page of HTML to this file.")
def explain(
    texts: tuple[str, ...],
    topic: bool,
    label: str | None,
    method: Method,
    as_json: bool,
    html: IO[str] | None,
) -> None:
    """Say which words of each TEXT weighed for its sentiment or topic; `-` reads a text a line from standard input.

    A weight of 1 says that the word doubles the odds of the label, -1 that it halves them.
    """
    if not texts and sys.stdin.isatty():
        raise click.UsageError("a TEXT is needed, or - for standard input")
    if as_json and html is not None:
        raise click.UsageError("--json and --html exclude each other")
    config = settings.load()

    from model.errors import ModelError
    from model.explain import Explainer

    try:
        explainer = Explainer.load(config.model)
        found = _explained(explainer, _texts(texts), "topic" if topic else "sentiment", label, method)
        if html is not None:
            from model.explain_page import page

            html.writelines(page(found, "topic" if topic else "sentiment", method, explainer.scorer.version))
        elif as_json:
            for explanation in found:
                click.echo(_as_json(explanation, method, explainer.scorer.version))
        else:
            _print(found)
    except ModelError as exc:
        click.echo(f"newsquake: {exc}", err=True)
        sys.exit(2)


def _texts(arguments: tuple[str, ...]) -> Iterator[str]:
    from model.score_file import read_lines

    for argument in arguments or ("-",):
        if argument == "-":
            yield from read_lines(click.get_binary_stream("stdin"))
        else:
            yield argument


def _explained(
    explainer: Explainer, texts: Iterator[str], head: Head, label: str | None, method: Method
) -> Iterator[Explanation]:
    while chunk := list(islice(texts, _CHUNK)):
        yield from explainer.explain(chunk, head=head, label=label, method=method)


def _as_json(explanation: Explanation, method: Method, model: str) -> str:
    record = {
        "text": explanation.text,
        "label": explanation.label,
        "probability": round(explanation.probability, 6),
        "probabilities": {
            name: round(p, 6) for name, p in zip(explanation.labels, explanation.probabilities, strict=True)
        },
        "words": [
            {"word": word.text, "start": word.start, "stop": word.stop, "weight": round(word.weight, 4)}
            for word in explanation.words
        ],
        "words_left_out": explanation.left_out,
        "method": method,
        "model": model,
    }
    return json.dumps(record, ensure_ascii=False)


def _print(explanations: Iterable[Explanation]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for explanation in explanations:
        ranked = sorted(zip(explanation.probabilities, explanation.labels, strict=True), reverse=True)[:3]
        line = Text()
        for p, name in ranked:
            line.append(f"{_shown(name)} {p:.2f}  ", "bold" if name == explanation.label else "dim")
        console.print(line)
        console.print(_marked(explanation, colours=console.is_terminal))
        if explanation.left_out:
            console.print(f"  (the last {explanation.left_out} words were not looked at)", style="dim")
        console.print()


def _marked(explanation: Explanation, *, colours: bool) -> Text:
    """The text with its words coloured by weight, or, without colours, with the weights behind the words."""
    from rich.text import Text

    largest = max((abs(word.weight) for word in explanation.words), default=0.0)
    text, at = Text("  "), 0
    for word in explanation.words:
        text.append(_shown(explanation.text[at : word.start]))
        strength = word.weight / largest if largest else 0.0
        text.append(_shown(word.text), _style(strength))
        if abs(strength) >= _SHOWN:
            text.append(f"[{word.weight:+.1f}]", "dim" if colours else "")
        at = word.stop
    return text.append(_shown(explanation.text[at:]))


def _style(strength: float) -> str:
    colour: Literal["dark_orange3", "blue"] = "dark_orange3" if strength > 0 else "blue"
    if abs(strength) >= 0.6:
        return f"bold white on {colour}"
    return f"bold {colour}" if abs(strength) >= _SHOWN else ""


def _shown(text: str) -> str:
    """The text without anything that steers a terminal; blanks at its ends stay."""
    return "".join(char for char in text if char == " " or char.isprintable())
