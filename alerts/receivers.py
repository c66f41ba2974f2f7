"""Settings of the receivers of alerts, one class a format: `[[alerts.receivers]]` with `type`.

A secret is given as text, as `{ file = "path" }` or as `{ env = "NEWSQUAKE_..." }`, and is read once, at the start.
"""

from __future__ import annotations

import os
import re
import ssl
from base64 import b64decode
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, IPvAnyNetwork, SecretStr, model_validator
from standardwebhooks.webhooks import Webhook

_MAX_SECRET_BYTES = 64 * 1024
_ENV_PREFIX = "NEWSQUAKE_"


def _secret(value: Any) -> Any:
    """The text that `{ file = ... }` or `{ env = ... }` names; anything else as it is. No message repeats a secret."""
    if not isinstance(value, dict):
        return value
    if set(value) == {"file"} and isinstance(value["file"], str):
        try:
            with Path(value["file"]).open("rb") as file:
                raw = file.read(_MAX_SECRET_BYTES + 1)
            text = raw.decode().strip()
        except OSError as exc:
            raise ValueError(f"the file of the secret cannot be read: {exc.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError("the file of the secret is not UTF-8 text") from None
        if not text or len(raw) > _MAX_SECRET_BYTES:
            raise ValueError(f"the file of the secret is empty or larger than {_MAX_SECRET_BYTES} bytes")
        return text
    if set(value) == {"env"} and str(value["env"]).startswith(_ENV_PREFIX):
        text = os.environ.get(value["env"], "")
        if not text:
            raise ValueError("the variable of the secret is not set or empty")
        return text
    raise ValueError('a secret is text, { file = "path" } or { env = "NEWSQUAKE_..." }')


def _is_http(value: SecretStr) -> SecretStr:
    raw = value.get_secret_value()
    try:
        url = httpx.URL(raw)  # by which it will be called
        good = url.scheme in ("http", "https") and url.host and urlsplit(raw).port != 0
    except (httpx.InvalidURL, ValueError):
        good = False
    if not good or any(char.isspace() for char in raw):
        raise ValueError("must be an http:// or https:// URL with a host, and its port, if any, from 1 to 65535")
    return value


def check_secret(secret: str) -> Webhook:
    """Return the signer that belongs to a secret of Standard Webhooks.

    Raises:
        ValueError: it is not `whsec_` and the base64 of 24 to 64 bytes; the message does not repeat it.
    """
    problem = "must be `whsec_` and the base64 of 24-64 bytes"
    if not secret.startswith("whsec_"):
        raise ValueError(problem)
    try:
        size = len(b64decode(secret.removeprefix("whsec_"), validate=True))
    except ValueError:
        raise ValueError(problem) from None
    if not 24 <= size <= 64:
        raise ValueError(problem)
    return Webhook(secret)


def _is_signing_secret(value: SecretStr) -> SecretStr:
    check_secret(value.get_secret_value())
    return value


def _is_address(value: str) -> str:
    try:
        address = Address(addr_spec=value)
    except Exception as exc:  # the parser of the standard library fails in many ways
        raise ValueError("must be an e-mail address, `name@example.com`") from exc
    if not (address.username and address.domain) or any(char.isspace() or not char.isprintable() for char in value):
        raise ValueError("must be an e-mail address, `name@example.com`")
    return value


def _is_routing_key(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[0-9A-Za-z]{32}", value.get_secret_value()):
        raise ValueError("must be the 32 letters and digits of an Events API v2 integration")
    return value


def _has_certificates(value: Path) -> Path:
    try:
        ssl.create_default_context(cafile=value)
    except OSError as exc:  # a file without certificates is an SSLError, which is one
        raise ValueError(f"cannot be used as a file of certificates: {exc.strerror or exc}") from exc
    return value


Secret = Annotated[SecretStr, BeforeValidator(_secret), Field(min_length=1)]
SecretUrl = Annotated[Secret, AfterValidator(_is_http)]
SigningSecret = Annotated[Secret, AfterValidator(_is_signing_secret)]
MailAddress = Annotated[str, Field(max_length=254), AfterValidator(_is_address)]

_URL = "Kept secret: it may hold a token."


class BaseReceiver(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """What every receiver has."""

    name: str = Field(
        pattern=r"^[\w.-]{1,64}$",
        description="By which rules, routes and the outbox speak of it: letters, digits, `.`, `-`, `_`. One that is "
        "renamed is a new receiver: what waited for it is given up.",
    )
    allow_networks: tuple[IPvAnyNetwork, ...] = Field(
        default=(),
        description="Networks that may be connected to though they are not public, such as `10.0.0.0/8`; any other "
        "address that is private, of this machine or a cloud's metadata is refused.",
    )
    ca_file: Annotated[Path, AfterValidator(_has_certificates)] | None = Field(
        default=None, description="Certificates to trust (PEM), where it has one of your own. Unset: public ones."
    )
    per_minute: int = Field(
        default=60,
        ge=1,
        le=10_000,
        description="Messages a minute, at most. When more wait, the last of the minute lists them all (a digest).",
    )


class WebhookReceiver(BaseReceiver, frozen=True):
    """Standard Webhooks: JSON, signed."""

    type: Literal["webhook"] = Field(default="webhook", description="The format.")
    url: SecretUrl = Field(description=f"Where messages are posted, http or https. {_URL}")
    secrets: tuple[SigningSecret, ...] = Field(
        min_length=1,
        max_length=5,
        description="Signing secrets, each `whsec_` and the base64 of 24-64 bytes. While one is replaced give both, "
        "the new one first: every message is signed with each.",
    )
    per_minute: int = Field(default=600, ge=1, le=10_000, description="Messages a minute, at most; then a digest.")


class SlackReceiver(BaseReceiver, frozen=True):
    """A Slack incoming webhook, or what speaks like one."""

    type: Literal["slack"] = Field(default="slack", description="The format.")
    url: SecretUrl = Field(description=f"The incoming webhook's URL. {_URL}")
    per_minute: int = Field(
        default=50, ge=1, le=10_000, description="Messages a minute, at most; then a digest. Slack takes one a second."
    )


class TeamsReceiver(BaseReceiver, frozen=True):
    """A Microsoft Teams channel, by a workflow that posts adaptive cards."""

    type: Literal["teams"] = Field(default="teams", description="The format.")
    url: SecretUrl = Field(description=f"The workflow's URL. {_URL}")


class PagerDutyReceiver(BaseReceiver, frozen=True):
    """PagerDuty, by its Events API v2. Beyond `per_minute` messages wait: an incident needs each of its events."""

    type: Literal["pagerduty"] = Field(default="pagerduty", description="The format.")
    routing_key: Annotated[Secret, AfterValidator(_is_routing_key)] = Field(
        description="Integration key of the service, 32 letters and digits."
    )
    url: SecretUrl = Field(
        default=SecretStr("https://events.pagerduty.com/v2/enqueue"),
        description="Where events go; `https://events.eu.pagerduty.com/v2/enqueue` in the EU.",
    )


class AlertmanagerReceiver(BaseReceiver, frozen=True):
    """A Prometheus Alertmanager, by its API v2."""

    type: Literal["alertmanager"] = Field(default="alertmanager", description="The format.")
    url: SecretUrl = Field(description="Where it is, such as `http://alertmanager:9093`, without `/api/v2/alerts`.")
    username: str = Field(default="", description="User, where it asks for one.")
    password: Secret | None = Field(default=None, description="Password of that user.")
    labels: dict[Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")], str] = Field(
        default={}, description='Labels added to every alert, such as `team = "risk"`.'
    )
    per_minute: int = Field(default=600, ge=1, le=10_000, description="Requests a minute, at most; then all in one.")


class FeishuReceiver(BaseReceiver, frozen=True):
    """A custom bot in Feishu or Lark."""

    type: Literal["feishu"] = Field(default="feishu", description="The format.")
    url: SecretUrl = Field(description=f"The bot's webhook. {_URL}")
    secret: Secret | None = Field(default=None, description="Its signing secret, when signatures are on.")


class DingTalkReceiver(BaseReceiver, frozen=True):
    """A custom robot in DingTalk."""

    type: Literal["dingtalk"] = Field(default="dingtalk", description="The format.")
    url: SecretUrl = Field(description=f"The robot's webhook, with its `access_token`. {_URL}")
    secret: Secret | None = Field(default=None, description="Its signing secret (`SEC...`), when signatures are on.")
    per_minute: int = Field(
        default=18, ge=1, le=10_000, description="Messages a minute, at most; then a digest. DingTalk takes 20."
    )


class WeComReceiver(BaseReceiver, frozen=True):
    """A group robot in WeCom, which signs nothing: the key in its URL is the secret."""

    type: Literal["wecom"] = Field(default="wecom", description="The format.")
    url: SecretUrl = Field(description=f"The robot's webhook, with its `key`. {_URL}")
    per_minute: int = Field(
        default=18, ge=1, le=10_000, description="Messages a minute, at most; then a digest. WeCom takes 20."
    )


class EmailReceiver(BaseReceiver, frozen=True):
    """Mail by SMTP, plain text and HTML."""

    type: Literal["email"] = Field(default="email", description="The format.")
    host: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,253}$", description="The mail server.")
    port: int = Field(default=587, ge=1, le=65535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="`starttls`, `tls` from the first byte (port 465), or `none`."
    )
    username: str = Field(default="", description="User, where the server asks for one.")
    password: Secret | None = Field(default=None, description="Password of that user.")
    sender: MailAddress = Field(description="Address it comes from.")
    to: tuple[MailAddress, ...] = Field(min_length=1, max_length=50, description="Addresses it goes to.")
    per_minute: int = Field(default=20, ge=1, le=10_000, description="Mails a minute, at most; then a digest.")

    @model_validator(mode="after")
    def _password_is_guarded(self) -> EmailReceiver:
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password belong together")
        if self.username and self.security == "none":
            raise ValueError("a password is not sent without TLS: set security to starttls or tls")
        return self


Receiver = Annotated[
    WebhookReceiver
    | SlackReceiver
    | TeamsReceiver
    | PagerDutyReceiver
    | AlertmanagerReceiver
    | FeishuReceiver
    | DingTalkReceiver
    | WeComReceiver
    | EmailReceiver,
    Field(discriminator="type"),
]
