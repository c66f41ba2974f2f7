"""Settings of the stream worker."""

from __future__ import annotations

from pydantic import BaseModel, Field


class StreamSettings(BaseModel, frozen=True, extra="forbid"):
    """How a worker reads, batches and watches over itself."""

    group: str = Field(
        default="newsquake-stream",
        min_length=1,
        description="Kafka consumer group; workers of one group share the partitions.",
    )
    max_batch: int = Field(default=512, ge=1, le=10_000, description="Most records scored and written together.")
    session_timeout_s: float = Field(
        default=10.0,
        ge=6,  # brokers refuse less (group.min.session.timeout.ms)
        description="A worker that is silent for this long loses its partitions to the others.",
    )
    stall_s: float = Field(
        default=120.0,
        ge=5,
        description="A partition with records waiting and no progress for this long restarts the worker.",
    )
    retry_max_s: float = Field(
        default=10.0, gt=0, description="Longest pause between tries while Redis or Kafka is away."
    )
    dead_value_bytes: int = Field(
        default=65_536,
        ge=0,
        le=262_144,  # in base64 it must fit into a batch of the producer
        description="Bytes of an unreadable record kept in its dead letter; the rest is cut.",
    )
    future_s: float = Field(
        default=3_600.0, ge=0, description="A record whose `seen_at` is further ahead of this clock is refused."
    )
