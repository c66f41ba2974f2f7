"""Settings of ingest: which sources run, and how each behaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+\S*$", max_length=2_048)]
WebsocketUrl = Annotated[str, StringConstraints(pattern=r"^wss?://[^\s/]+\S*$", max_length=2_048)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]

_MARKET_WORDS = (
    "bank run, bankruptcy, bear market, bond market, bull market, central bank, credit rating, dividend, earnings, "
    "federal reserve, FOMC, guidance cut, hedge fund, inflation, interest rates, IPO, layoffs, market crash, "
    "nasdaq, NYSE, profit warning, recession, S&P 500, SEC filing, sell-off, short seller, stock market, stocks, "
    "treasury yields, Wall Street"
)


class Feed(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """One RSS, Atom or RDF feed."""

    name: str = Field(
        default=..., pattern=r"^[a-z0-9][a-z0-9-]{0,59}$", description="Short name; the source is called rss:<name>."
    )
    url: HttpUrl = Field(default=..., repr=False, description="Address of the feed (http or https).")
    publisher: str = Field(
        default=...,
        min_length=1,
        max_length=256,
        description="Who publishes it; feeds of one publisher share item ids.",
    )


class RssSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """Polling of feeds."""

    enabled: bool = Field(default=True, description="Poll the feeds.")
    feeds_file: Path | None = Field(
        default=None, description="TOML file with [[feeds]] tables (name, url, publisher); unset: the list shipped."
    )
    feeds: tuple[Feed, ...] = Field(default=(), description="Feeds given here instead of a file.")
    poll_s: float = Field(default=60.0, gt=0, description="Seconds between two polls of a feed, give or take a tenth.")
    fetch_timeout_s: float = Field(
        default=20.0, gt=0, description="Longest time one fetch may take, redirects included."
    )
    max_bytes: int = Field(default=5_000_000, ge=1_000, description="Largest feed read, after decompression.")
    max_entries: int = Field(default=2_000, ge=1, description="Most entries read of one feed; the rest is counted.")
    max_redirects: int = Field(default=5, ge=0, le=20, description="Most redirects followed in one fetch.")
    host_gap_s: float = Field(default=1.0, ge=0, description="Least seconds between two requests to one host.")
    max_backoff_s: float = Field(default=1_800.0, gt=0, description="Longest wait after repeated errors of a feed.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> RssSettings:
        names = [feed.name for feed in self.feeds]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"feeds share the names {sorted(twice)}: each needs its own, its position is stored by it")
        return self


class BlueskySettings(BaseModel, frozen=True, extra="forbid"):
    """Bluesky posts by the Jetstream websocket."""

    enabled: bool = Field(default=False, description="Read Bluesky posts.")
    url: WebsocketUrl = Field(
        default="wss://jetstream2.us-east.bsky.network/subscribe", description="Address of the Jetstream server."
    )
    words: tuple[Words, ...] = Field(
        default=tuple(_MARKET_WORDS.split(", ")),
        description="A post with one of these words or phrases is taken, in any case; one with a cashtag always is.",
    )
    languages: tuple[str, ...] = Field(
        default=("en",), description="Languages taken (the post's own claim); empty: all. A post without any is taken."
    )
    overlap_s: float = Field(
        default=5.0, ge=0, description="How far before the last post to resume, so that reordered posts are not lost."
    )
    idle_timeout_s: float = Field(default=60.0, gt=0, description="Reconnect when nothing came for so long.")
    max_message_bytes: int = Field(default=1_000_000, ge=1_000, description="Largest message accepted.")
    max_backoff_s: float = Field(default=300.0, gt=0, description="Longest wait before a reconnect.")


class ReplayColumns(BaseModel, frozen=True, extra="forbid"):
    """Which column (CSV, Parquet) or key (JSONL) holds what. An empty name means that there is none."""

    time: str = Field(default="published_at", description="When it was published: ISO 8601, or Unix seconds or ms.")
    seen: str = Field(default="", description="When it was first had; without one, when it was published.")
    title: str = Field(default="title", description="Title; without one, the start of the text.")
    text: str = Field(default="text", description="Text.")
    id: str = Field(default="id", description="The publisher's id of the item; without one, a hash of the row.")
    url: str = Field(default="url", description="Where to read it.")
    publisher: str = Field(default="publisher", description="Who says it; without one, the option `publisher`.")
    language: str = Field(default="", description="Language tag.")
    ticker: str = Field(default="", description="Ticker symbols of the companies meant, separated by commas or spaces.")


class ReplaySettings(BaseModel, frozen=True, extra="forbid"):
    """History from a file, as if it happened now."""

    file: Path | None = Field(default=None, description="File to replay (.csv, .jsonl, .parquet; .gz); unset: none.")
    format: Literal["auto", "csv", "jsonl", "parquet"] = Field(
        default="auto", description="Format of the file; auto: by its name."
    )
    columns: ReplayColumns = Field(default=ReplayColumns(), description="Names of the columns.")
    publisher: str = Field(
        default="replay", min_length=1, max_length=256, description="Publisher of rows that name none."
    )
    speed: float = Field(
        default=0.0, ge=0, description="1: as fast as it happened; 60: an hour in a minute; 0: as fast as it goes."
    )
    name: str = Field(
        default="replay", pattern=r"^[a-z0-9][a-z0-9:-]{0,59}$", description="Name of the source; its position's key."
    )


class IngestSettings(BaseModel, frozen=True, extra="forbid"):
    """Everything `newsquake ingest` can be told, beside the addresses of Kafka and Redis."""

    rss: RssSettings = Field(default=RssSettings(), description="RSS, Atom and RDF feeds.")
    bluesky: BlueskySettings = Field(default=BlueskySettings(), description="Bluesky posts.")
    replay: ReplaySettings = Field(default=ReplaySettings(), description="Replay of a file.")
    user_agent: str = Field(
        default="newsquake/0.1 (financial sentiment monitor)",
        min_length=1,
        max_length=200,
        pattern=r"^[ -~]+$",
        description="How fetches present themselves. Add a contact address: sec.gov refuses agents without one.",
    )
    publish_timeout_s: float = Field(
        default=60.0, gt=0, description="How long Kafka may take to acknowledge a batch before it is sent again."
    )
    max_backoff_s: float = Field(
        default=30.0,
        gt=0,
        description="Longest wait between two tries while Kafka or Redis is away, or a source fails.",
    )
