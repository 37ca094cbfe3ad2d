"""Where `tapewire` keeps things, and which Kafka it uses."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class InfraSettings(BaseSettings):
    """Read from the environment: `TAPEWIRE_...`, or the name that a field gives."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    bootstrap_servers: str | None = Field(default=None, validation_alias="KAFKA_BOOTSTRAP_SERVERS")
    """A Kafka of your own; where it is set, no broker is started."""

    topic_prefix: str = ""
    """Stands before every topic's name."""

    data_dir: Path = Path(".tapewire")
    """The embedded broker's log, and the logs of all parts."""

    var_limits: str = "balanced=0.04,equal-weight=0.04,growth=0.045,value=0.04"
    """Limits of single portfolios; the default is the demo's own."""
