"""How a Kafka client of this system reaches the cluster, and how patient it is."""

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
