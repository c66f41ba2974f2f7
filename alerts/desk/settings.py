"""Settings of the desk."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path

from pydantic import BaseModel, Field, field_validator, model_validator


class ProcessSettings(BaseModel, frozen=True, extra="forbid"):
    """A process whose `/metrics` and `/healthz` the page Health shows."""

    name: str = Field(default="", max_length=64, description="What the page calls it.")
    url: str = Field(
        default="", pattern=r"^https?://[^\s/@?#]+/?$", description="Where it serves, such as `http://stream-1:9410`."
    )


class DeskSettings(BaseModel, frozen=True, extra="forbid"):
    """`newsquake desk`: the analysts' page and its JSON API."""

    host: str = Field(
        default="127.0.0.1", description="Address of the page. Beyond this machine put a proxy with TLS before it."
    )
    port: int = Field(default=9470, ge=0, le=65535, description="Port of the page; 0 takes a free one.")
    url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s]+$",
        description="Where analysts reach the page, for the links in messages. Unset: `http://host:port`.",
    )
    session_h: float = Field(
        default=12, gt=0, le=168, description="Hours without use after which one must sign in again."
    )
    logins_a_minute: int = Field(
        default=10,
        ge=1,
        description="Attempts to sign in, wrong bearer tokens too, that one address may make in a minute.",
    )
    proxy_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]+$",
        description="Header in which a proxy that has signed people in names them, such as `X-Forwarded-User`. "
        "It is believed from `trusted_proxies` alone.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="Addresses or networks of proxies: theirs are `proxy_header`, `X-Forwarded-For` and "
        "`X-Forwarded-Proto`.",
    )
    proxy_analysts: tuple[str, ...] = Field(
        default=(),
        description="Who of those that the proxy names may act; the others may read. `*` stands for all.",
    )
    viewers: int = Field(default=500, ge=1, description="Pages that are kept up to date at the same time, at most.")
    viewers_each: int = Field(
        default=30, ge=1, description="Of those, pages of one person at most; a page that nobody sees is none."
    )
    ranking: bool = Field(
        default=True,
        description="Whether each analyst's list of alerts is ordered by what they opened, acknowledged and dismissed, "
        "the critical ones first. Nothing is hidden, and the newest first is one choice away.",
    )
    ranking_after: int = Field(
        default=20, ge=1, le=500, description="Alerts that an analyst must have done something about before it is."
    )
    prices: Path | None = Field(
        default=None,
        description="Folder of price series, `<ticker>.csv` with the columns `timestamp` and `price`, which an alert's "
        "chart shows beside the counts.",
    )
    processes: tuple[ProcessSettings, ...] = Field(
        default=(), description="Processes that the page Health asks. Unset: those of this machine, by `http`."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f"{re.sub(r'[^0-9a-fA-F:./]', '?', network)} is no address or network") from None
        return value

    @model_validator(mode="after")
    def _header_has_proxies(self) -> DeskSettings:
        if self.proxy_header and not self.trusted_proxies:
            raise ValueError("proxy_header needs trusted_proxies: else everybody could say who they are")
        return self
