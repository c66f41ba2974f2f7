"""Mail by SMTP: plain text and HTML, in one thread an alert.

After RFC 5321 (SMTP), RFC 5322 (messages, their ids and `References`) and RFC 3834 (mail that no person wrote).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from functools import cache
from typing import Self

import aiosmtplib
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape

from alerts.addresses import RefusedError, checked_addresses
from alerts.channels.channel import Result, connect_s, tls_of
from alerts.channels.content import SIGNS, content_of
from alerts.channels.masks import password_mask
from alerts.notification import Notification
from alerts.receivers import EmailReceiver

TIMEOUT_S = 30.0
_GOODBYE_S = 2.0
_LEFT = 1_000


class EmailChannel:
    """Sends one mail a notification; its `Message-ID` is the same whenever it is sent again.

    Addresses that the server refuses for now (greylisting, a full box) are tried again, without those that have it.
    """

    digests = 500
    at_once = 1

    def __init__(self, settings: EmailReceiver) -> None:
        self.name, self.per_minute = settings.name, settings.per_minute
        self.shown = f"{settings.host}:{settings.port}"
        self._settings = settings
        self._tls = tls_of(settings.ca_file)
        secret = settings.password.get_secret_value() if settings.password else ""
        self._mask = password_mask(settings.username, secret)
        self._left: dict[str, tuple[str, ...]] = {}  # notification → addresses that do not have it yet

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[Self]:
        """Give this channel for many attempts, each by a connection of its own."""
        yield self

    async def send(self, told: Notification, now: datetime) -> Result:
        """Hand the mail to the server, within `TIMEOUT_S`."""
        to = self._left.pop(told.id, self._settings.to)
        try:
            refused = await self._send(self.mail(told, now), to)
        except RefusedError as exc:
            result = Result("failed", str(exc))
        except TimeoutError:
            result = Result("failed", f"no answer within {TIMEOUT_S:.0f} s")
        except aiosmtplib.SMTPAuthenticationError:
            result = Result("failed", "the mail server does not take the user and password")
        except (aiosmtplib.SMTPException, OSError, ValueError) as exc:
            result = Result("failed", f"{type(exc).__name__}: {self._mask.sub('(its password)', str(exc))}"[:200])
        else:
            to = tuple(address for address, code in refused.items() if 400 <= code < 500)
            said = f"{len(refused)} of {len(self._settings.to)} addresses were refused by the server"
            if not to:
                return Result("delivered", said if refused else "")
            result = Result("failed", f"{said}, {len(to)} for now", part=True)
        if to != self._settings.to:
            self._left[told.id] = to
            if len(self._left) > _LEFT:
                del self._left[next(iter(self._left))]
        return result

    async def _send(self, mail: EmailMessage, to: Sequence[str]) -> dict[str, int]:
        """Send the mail; return which addresses were refused, with the server's code. One at least has it by now."""
        client: aiosmtplib.SMTP | None = None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                client = await self._client()
                await client.connect()
                if self._settings.password is not None:
                    await client.login(self._settings.username, self._settings.password.get_secret_value())
                try:
                    found, _ = await client.send_message(mail, recipients=list(to))
                    refused = {address: response.code for address, response in found.items()}
                except aiosmtplib.SMTPRecipientsRefused as exc:
                    if tuple(to) == self._settings.to:
                        raise
                    refused = {each.recipient: each.code for each in exc.recipients}
        finally:
            if client is not None:
                transport = client.transport
                with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                    await client.quit(timeout=_GOODBYE_S)  # whatever comes of it: what the server took it has
                client.close()
                if isinstance(transport, asyncio.WriteTransport):
                    transport.abort()  # by TLS it would wait for the server to close, too
        return refused

    async def _client(self) -> aiosmtplib.SMTP:
        given = self._settings
        addresses = await checked_addresses(given.host, given.port, given.allow_networks)
        return aiosmtplib.SMTP(
            hostname=given.host,  # by which the certificate is checked; the connection is made here
            sock=await _connected(addresses, given.port),
            use_tls=given.security == "tls",
            start_tls=given.security == "starttls",
            tls_context=self._tls if given.security != "none" else None,
            timeout=TIMEOUT_S,
        )

    def mail(self, told: Notification, now: datetime) -> EmailMessage:
        """Return the mail, dated `now` (UTC)."""
        content = content_of(told)
        domain = self._settings.sender.rpartition("@")[2]
        mail = EmailMessage(policy=SMTP_POLICY)
        mail["Subject"] = content.title
        mail["From"] = self._settings.sender
        mail["To"] = ", ".join(self._settings.to)
        mail["Date"] = format_datetime(now)
        mail["Message-ID"] = f"<{told.id}@{domain}>"
        if told.event != "alert.digest":  # mail programs show what refers to one message as one thread
            mail["References"] = f"<{told.alerts[0].id}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Newsquake-Event"] = told.event
        text, html = _templates()
        mail.set_content(text.render(content=content), cte="base64")
        mail.add_alternative(html.render(content=content, sign=SIGNS[content.mood]), subtype="html", cte="base64")
        return mail


@cache
def _templates() -> tuple[Template, Template]:
    found = Environment(
        loader=PackageLoader("alerts", "channels"),
        autoescape=select_autoescape(["html.j2"]),  # the plain text stays plain
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return found.get_template("mail.txt.j2"), found.get_template("mail.html.j2")


async def _connected(addresses: Sequence[str], port: int) -> socket.socket:
    """Return a connection to the first of the addresses that takes one in its share of `TIMEOUT_S`."""
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(connect_s(TIMEOUT_S, addresses)):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except OSError:  # a TimeoutError too
            sock.close()
            if address == addresses[-1]:
                raise
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise OSError("the name has no address")
