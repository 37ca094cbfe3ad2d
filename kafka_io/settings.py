"""Settings of the clients that read and write Kafka."""

from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]
"""The name of a log level, in any case."""


class ProducerSettings(BaseSettings):
    """Read from the environment variables `TAPEWIRE_...`, and `KAFKA_BOOTSTRAP_SERVERS`."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    bootstrap_servers: str = Field(
        default="localhost:9092",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "bootstrap_servers"),
    )
    """The addresses of Kafka's brokers: `host:port`, separated by commas."""

    topic_prefix: str = ""
    """The prefix of every topic's name; several systems can share a cluster by it."""

    source: str = "/producers"
    """The CloudEvents source of the events that this process writes."""

    tenant: str | None = None
    """The tenant of the events; None if the system has no tenants."""

    log_level: LogLevel = "INFO"
    """The least severe lines that a worker logs: DEBUG, INFO, WARNING or ERROR."""

    ahead_s: float = Field(default=86_400.0, ge=0, le=1e12)
    """How far ahead of its time in the log the time of a command may be; 1e12 allows any time."""

    buffer_events_max: int = Field(default=10_000, ge=1)
    """The most events that wait for Kafka: a burst of some seconds, and a few megabytes."""

    patience_s: float = Field(default=30.0, gt=0)
    """How long a send waits for Kafka, in seconds, before it raises `Unsent`."""

    linger_ms: int = Field(default=5, ge=0)
    """How long a batch waits for more events, in milliseconds. 5 ms fill one unnoticed."""
