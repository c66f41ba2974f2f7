"""`newsquake listen`: prints alerts for analysts."""

from __future__ import annotations

import signal
import sys
import threading

import click

from deploy import log, settings


@click.command()
@click.option("--host", help="Address to listen on instead of http.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on instead of http.listen_port.")
@click.option(
    "--secret",
    envvar="NEWSQUAKE_LISTEN_SECRET",
    help="Signing secret, `whsec_...`. Better given as NEWSQUAKE_LISTEN_SECRET: others on this machine see options.",
)
def listen(host: str | None, port: int | None, secret: str | None) -> None:
    """Receive alerts, verify their signatures and print them."""
    from alerts.listen import Receiver

    if not secret:
        raise click.UsageError("a signing secret is needed: set NEWSQUAKE_LISTEN_SECRET to that of the webhook")
    config = settings.load()
    log.setup(config.log.level)
    host, port = host or config.http.host, config.http.listen_port if port is None else port
    try:
        receiver = Receiver(host, port, secret, sys.stdout)
    except ValueError as exc:
        raise click.UsageError(f"the signing secret {exc}") from exc
    except OSError as exc:
        raise click.ClickException(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
    for signum in (signal.SIGINT, signal.SIGTERM):  # shutdown() waits for the loop that runs in this thread
        signal.signal(signum, lambda *_: threading.Thread(target=receiver.shutdown).start())
    with receiver:
        click.echo(f"newsquake listens for alerts on http://{host}:{receiver.server_port}/", err=True)
        receiver.serve_forever()
