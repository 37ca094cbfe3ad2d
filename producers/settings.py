"""How producers find Kafka, and how patient they are."""

from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ProducerSettings(BaseSettings):
    """Read from the environment: `TAPEWIRE_...`, or the name that a field gives."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    bootstrap_servers: str = Field(
        default="localhost:9092",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "bootstrap_servers"),
    )
    """Kafka's addresses, `host:port` with commas between."""

    topic_prefix: str = ""
    """Stands before every topic's name, so that several systems can share a cluster."""

    source: str = "/producers"
    """Who writes, as the CloudEvents source."""

    tenant: str | None = None
    """Whose events these are, where several tenants share a cluster."""

    buffer_events_max: int = Field(default=10_000, ge=1)
    """Events that wait for Kafka at most; a burst of some seconds, and a few megabytes."""

    patience_s: float = Field(default=30.0, gt=0)
    """How long a send waits for Kafka before it says how many events are unsent."""

    linger_ms: int = Field(default=5, ge=0)
    """How long Kafka's client waits for company: 5 ms fill a batch and nobody notices them."""


class TrainerSettings(BaseSettings):
    """What a trainer needs beside Kafka; read from the environment, too."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    models_dir: Path = Path("models")
    """Where trained models go: a folder for each type of meter."""

    training_step_pause_s: float = Field(default=0.0, ge=0)
    """Pause between two steps of a training, for those who watch."""


class MarketSettings(BaseSettings):
    """What a market needs beside Kafka; read from the environment, too."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    trades_jar: Path = Path("ta4j-examples-0.18.jar")
    """The package with the trades."""


class OrchestratorSettings(BaseSettings):
    """What an orchestrator needs beside Kafka; read from the environment, too."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    agents: str = ""
    """Agents of one's own, as `package.module:Class`, with commas between."""


class BacktesterSettings(BaseSettings):
    """What a backtester needs beside Kafka; read from the environment, too."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    backtest_step_pause_s: float = Field(default=0.0, ge=0)
    """Pause between two reports of a backtest, for those who watch."""
