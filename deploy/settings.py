"""All settings, read once: `newsquake.toml`, then `NEWSQUAKE_*` variables, which win.

A variable names its section and field: `NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS`. Secrets are `SecretStr`: they never print.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource
from redis.connection import parse_url

from alerts.desk.settings import DeskSettings
from alerts.settings import AlertsSettings
from ingest.settings import IngestSettings
from model.settings import DriftSettings, ModelSettings
from stream.settings import StreamSettings

DEFAULT_FILE = "newsquake.toml"
_PREFIX = "NEWSQUAKE_"
FILE_VARIABLE = "NEWSQUAKE_CONFIG"


class SettingsError(ValueError):
    """A setting is missing or wrong; the message says which, where, and what it must be."""


class KafkaSettings(BaseModel, frozen=True, extra="forbid"):
    """Where Kafka is and what the topics are called."""

    bootstrap_servers: str | None = Field(
        default=None,
        description="Brokers, `host:port`, comma-separated. Unset: `newsquake up` starts one of its own.",
    )
    documents_topic: str = Field(default="documents", description="Topic of the items as they come in.")
    scored_topic: str = Field(default="scored", description="Topic of the scored items.")
    dead_topic: str = Field(default="documents.dead", description="Topic of the records that could not be read.")
    alerts_topic: str = Field(
        default="alerts", description="Topic of the alerts, each with its life; compacted: the last of each is kept."
    )
    feedback_topic: str = Field(
        default="feedback", description="Topic of what analysts say; compacted: the last word of each on a thing stays."
    )
    partitions: int = Field(
        default=8, ge=1, le=1_000, description="Partitions of `documents` and `scored`: at most so many workers."
    )
    retention_days: int = Field(
        default=14, ge=1, description="Days that new topics keep records; windows can be rebuilt as far back as this."
    )
    replication_factor: int = Field(default=1, ge=1, description="Copies of each topic; 3 on a cluster.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How brokers are spoken to: `SSL` for TLS, `SASL_...` with a user."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="How the user is proven."
    )
    sasl_username: str | None = Field(default=None, description="User, for `SASL_...`.")
    sasl_password: SecretStr | None = Field(default=None, description="Password of that user.")
    ssl_ca_file: Path | None = Field(
        default=None, description="Certificates to trust (PEM). Unset: those of the system."
    )
    ssl_cert_file: Path | None = Field(default=None, description="Certificate of this client (PEM), where asked for.")
    ssl_key_file: Path | None = Field(default=None, description="Its key (PEM). Unset: in the file of the certificate.")

    @model_validator(mode="after")
    def _user_is_complete(self) -> KafkaSettings:
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError("security_protocol SASL_... needs sasl_username and sasl_password")
        return self


class RedisSettings(BaseModel, frozen=True, extra="forbid"):
    """Where Redis (or Valkey) is."""

    url: SecretStr | None = Field(
        default=None,
        description="`redis://[user:password@]host:port/db`, `rediss://` or `unix://`. Unset: `newsquake up` starts a "
        "Valkey.",
    )

    @field_validator("url")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                parse_url(value.get_secret_value())
            except ValueError:  # its message may hold the password
                raise ValueError("must be a redis://, rediss:// or unix:// URL") from None
        return value


class LocalSettings(BaseModel, frozen=True, extra="forbid"):
    """`newsquake up`: everything on one machine."""

    state_dir: Path = Field(default=Path(".newsquake"), description="Data, logs and secrets of the local servers.")
    kafka_port: int = Field(default=19092, ge=1, le=65535, description="Port of the local Kafka.")
    kafka_controller_port: int = Field(default=19093, ge=1, le=65535, description="Port of its KRaft controller.")
    redis_port: int = Field(default=16379, ge=1, le=65535, description="Port of the local Valkey.")
    redis_fsync: str = Field(
        default="everysec", pattern="^(always|everysec)$", description="When Valkey's append-only file is synced."
    )
    stream_workers: int = Field(default=1, ge=1, le=64, description="Stream workers to start.")
    jar_cache: Path | None = Field(
        default=None, description="Where Kafka's jars are kept. Unset: the user's cache folder."
    )
    jar_repository: str | None = Field(
        default=None, description="URL of a Maven repository to fetch Kafka's jars from. Unset: Maven Central."
    )


class HttpSettings(BaseModel, frozen=True, extra="forbid"):
    """Where each process serves `/metrics` and `/healthz`."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; `0.0.0.0` for all.")
    ingest_port: int = Field(default=9401, ge=0, le=65535, description="Port of `newsquake ingest`.")
    alerts_port: int = Field(default=9402, ge=0, le=65535, description="Port of `newsquake alerts`.")
    desk_port: int = Field(default=9403, ge=0, le=65535, description="Port of `newsquake desk`, beside its page.")
    stream_port: int = Field(
        default=9410, ge=0, le=65535, description="Port of the first `newsquake stream`; `up` counts on from here."
    )
    listen_port: int = Field(default=9480, ge=0, le=65535, description="Port of `newsquake listen` under `up`.")


class LogSettings(BaseModel, frozen=True, extra="forbid"):
    """Log lines on standard error."""

    level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR."
    )


class Settings(BaseSettings):
    """Every setting of newsquake, a section a room."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        toml_file=DEFAULT_FILE,
    )

    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    ingest: IngestSettings = IngestSettings()
    model: ModelSettings = ModelSettings()
    drift: DriftSettings = DriftSettings()
    stream: StreamSettings = StreamSettings()
    alerts: AlertsSettings = AlertsSettings()
    desk: DeskSettings = DeskSettings()
    http: HttpSettings = HttpSettings()
    local: LocalSettings = LocalSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables win over the file."""
        return env_settings, TomlConfigSettingsSource(settings_cls, _file())


def _file() -> Path:
    return Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))


def load() -> Settings:
    """Read the settings.

    Raises:
        SettingsError: the file cannot be read or a value is wrong; no value is printed, since it may be a secret.
    """
    file = _file()
    if FILE_VARIABLE in os.environ and not file.is_file():
        raise SettingsError(f"{FILE_VARIABLE} names {file}, and there is no such file")
    if lost := [line for name in sorted(os.environ) if (line := _misnamed(name))]:
        raise SettingsError("these variables set nothing:\n" + "\n".join(lost))
    try:
        return Settings()
    except ValidationError as exc:
        lines = [f"  {_name(error['loc'])}: {_said(error)}" for error in exc.errors(include_input=False)]
        raise SettingsError(
            "these settings are wrong (in "
            + str(file)
            + " or NEWSQUAKE_* variables; see docs/settings.md):\n"
            + "\n".join(lines)
        ) from exc
    except (OSError, ValueError) as exc:  # tomllib's errors and pydantic-settings' own are ValueErrors
        raise SettingsError(f"{file}: {exc}") from exc


def _misnamed(variable: str) -> str:
    """Say what is wrong with the name of a variable that looks like a setting and is none; empty where nothing is.

    Others that begin so may be a user's own: `{ env = … }` takes any name.
    """
    section, parted, _ = variable.removeprefix(_PREFIX).lower().partition("__")
    if not variable.startswith(_PREFIX) or section in Settings.model_fields:
        return ""
    if parted:
        near = get_close_matches(section, list(Settings.model_fields), 1)
        return f"  {variable}: there is no section {section}; did you mean {near[0]}?" if near else ""
    for name in Settings.model_fields:
        rest = section.removeprefix(f"{name}_")
        if rest != section and rest in type(Settings.model_fields[name].default).model_fields:
            return f"  {variable}: did you mean {_PREFIX}{name.upper()}__{rest.upper()}?"
    return ""


def _said(error: Any) -> str:
    """What is wrong; of an unknown name, which known one was meant."""
    if error["type"] == "union_tag_not_found":
        return "needs a `type`; see docs/receivers.md"
    if error["type"] != "extra_forbidden":
        return str(error["msg"])
    section: Any = Settings
    for part in error["loc"][:-1]:
        field = section.model_fields.get(part) if hasattr(section, "model_fields") else None
        section = field.annotation if field else None
    near = get_close_matches(str(error["loc"][-1]), list(getattr(section, "model_fields", ())), 1)
    return "is no setting" + (f"; did you mean {near[0]}?" if near else "; see docs/settings.md")


def _name(location: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in location)


def require(settings: Settings) -> tuple[str, str]:
    """Return Kafka's bootstrap servers and Redis's URL, for processes that start neither.

    Raises:
        SettingsError: one of them is not set.
    """
    if settings.kafka.bootstrap_servers is None:
        raise SettingsError("kafka.bootstrap_servers is not set; `newsquake up` starts a Kafka of its own")
    if settings.redis.url is None:
        raise SettingsError("redis.url is not set; `newsquake up` starts a Valkey of its own")
    return settings.kafka.bootstrap_servers, settings.redis.url.get_secret_value()
