"""Settings of the `tapewire` command."""

from pathlib import Path

from pydantic import Field

from kafka_io.settings import Settings, TopicPrefix


class InfraSettings(Settings):
    """Read from the environment variables `TAPEWIRE_...`, and `KAFKA_BOOTSTRAP_SERVERS`."""

    bootstrap_servers: str | None = Field(default=None, validation_alias="KAFKA_BOOTSTRAP_SERVERS")
    """The addresses of your Kafka; if it is set, no broker is started."""

    topic_prefix: TopicPrefix = ""
    """The prefix of every topic's name."""

    data_dir: Path = Path(".tapewire")
    """The folder of the embedded broker's data and all log files."""

    partition_bytes_max: int = Field(default=32 << 20, ge=1 << 20, le=1 << 40)
    """The most bytes of a partition that the embedded broker keeps; the oldest go first."""

    management_port: int | None = Field(default=None, ge=0, le=65535)
    """The management port of the first edge, or the next free one; 0 takes any for each. Unset,
    edges have none."""

    metrics_port: int = Field(default=0, ge=0, le=65535)
    """The first port of the metrics of processors, workers and the supervisor, of which each has
    one; 0 takes any free ports. The file `prometheus.json` in the data directory has them all."""

    fork_parts: bool = True
    """Whether `tapewire up` forks its parts from one process that has imported what they share.
    Else, and where the system is not Linux, each is a program, which takes more memory and time."""

    maven_url: str | None = None
    """The Maven repository that has the jars of the embedded broker; unset, it is Maven Central."""

    var_limits: str = "balanced=0.04,equal-weight=0.04,growth=0.045,value=0.04"
    """Limits of single portfolios; the default is for the demo."""

    agent_names: str = "arithmetic=a2a-math:Math Agent:a2a"
    """Other names of agents for clients, as `AGENT=ID:NAME:PROTOCOL`, separated by commas; the
    default is for the demo."""
