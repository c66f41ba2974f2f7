"""The command `newsquake`. Each subcommand is a module of `deploy.commands`, imported only when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import version

import click

from deploy.settings import SettingsError

COMMANDS = {
    "up": "Run everything on this machine, in this terminal.",
    "topics": "Make the Kafka topics that are missing.",
    "doctor": "Say what is reachable, what is wrong and how to mend it.",
    "ingest": "Read the sources and publish their items to Kafka.",
    "stream": "Score items from Kafka; any number of workers.",
    "alerts": "Watch the windows, raise alerts and deliver them.",
    "alert": "See alerts; acknowledge, resolve and reopen them; write notes on them.",
    "silence": "Keep alerts from being told, for a time.",
    "desk": "Serve the analysts' page, and make tokens for it.",
    "listen": "Receive alerts: verify their signatures and print them.",
    "receivers": "Show the receivers of alerts, and try one.",
    "deliveries": "Show what waits for receivers, and send again what was given up.",
    "rules": "Check the file of rules, and say what holds for a series.",
    "detect": "Score a series of counts from a file.",
    "backtest": "Put a history through scoring and detectors, and report its alerts.",
    "score": "Score texts from a file or standard input.",
    "explain": "Say which words a prediction rests on.",
    "train": "Fine-tune the model on labelled sets.",
    "pretrain": "Continue an encoder on texts without labels.",
    "fetch-encoder": "Bring an encoder from the Hugging Face hub.",
    "evaluate": "Judge the model on labelled sets and write a report.",
    "drift": "Say whether texts or scores have moved away from a reference.",
    "label": "Take corrections from analysts as labels to train on.",
    "promote": "Put a retrained model in the place of the present one, unless it is worse.",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"deploy.commands.{module}"), module)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("newsquake"), prog_name="newsquake")
def cli() -> None:
    """Monitor financial sentiment and warn when negative opinion surges, with the evidence.

    Settings come from newsquake.toml (or the file that NEWSQUAKE_CONFIG names) and NEWSQUAKE_* variables.
    """


def main() -> None:
    """Entry point: errors that a user can mend are one clear message and exit code 2."""
    # Read when torch is loaded: threads that spin while they wait take the cores from everything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        cli()
    except SettingsError as exc:
        click.echo(f"newsquake: {exc}", err=True)
        sys.exit(2)
