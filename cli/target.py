"""The system that a command works with: the one of its data directory, or one that is named.

A command never guesses: where no system runs on the data directory and none is named, it fails and
says how to name one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cli.edge_client import require_edge
from cli.errors import NoSystem
from infra.data_dir import RunningSystem, find_running
from infra.settings import InfraSettings
from infra.topics import cluster_id_of
from kafka_io.settings import ProducerSettings

_KAFKA_S = 3.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class KafkaTarget:
    """The Kafka of a system, and the settings of the system that a command needs."""

    bootstrap_servers: str
    topic_prefix: str
    var_limits: str
    """The limits of single portfolios that the system's processors have."""

    def producer_settings(self) -> ProducerSettings:
        """Return the settings of clients of this Kafka."""
        return ProducerSettings(
            bootstrap_servers=self.bootstrap_servers, topic_prefix=self.topic_prefix
        )


def find_edge(url: str | None, settings: InfraSettings, say: Say) -> str:
    """Return the address of an edge that answers, and say which system it belongs to.

    Args:
        url: the address that the user named, if any.
        settings: their data directory is that of the system.
        say: prints a line for the user.

    Raises:
        NoSystem: no address is named, and no system runs on the data directory.
        EdgeUnreachable: no edge answers at the address.
    """
    if url is None:
        system = find_running(settings.data_dir)
        if system is None:
            raise NoSystem(f"{_nothing_runs(settings)}, or name an edge by --url or TAPEWIRE_URL")
        say(_described(system, settings))
        url = system.url
    else:
        url = url.rstrip("/")
        say(f"edge: {url}")
    require_edge(url)
    return url


def find_kafka(settings: InfraSettings, say: Say) -> KafkaTarget:
    """Return the Kafka of a system, and say which it is.

    Args:
        settings: their data directory is that of the system; they may name another Kafka.
        say: prints a line for the user.

    Raises:
        NoSystem: no Kafka is named and no system runs on the data directory, or another Kafka is
            named than that of the system, or answers in its place.
        KafkaUnreachable: Kafka does not answer.
    """
    system, named = find_running(settings.data_dir), settings.bootstrap_servers
    if system is None and named is None:
        raise NoSystem(f"{_nothing_runs(settings)}, or name a Kafka by KAFKA_BOOTSTRAP_SERVERS")
    if system is None:
        assert named is not None
        cluster_id = cluster_id_of(named, within_s=_KAFKA_S)
        say(f"Kafka: {named} (cluster {cluster_id}), from KAFKA_BOOTSTRAP_SERVERS")
        return KafkaTarget(named, settings.topic_prefix, settings.var_limits)
    if named not in (None, system.bootstrap_servers):
        raise NoSystem(
            f"KAFKA_BOOTSTRAP_SERVERS is {named}, but the system on "
            f"{settings.data_dir.resolve()} uses {system.bootstrap_servers}; unset the variable to "
            "work with that system, or name another --data-dir to work with the other Kafka"
        )
    cluster_id = cluster_id_of(system.bootstrap_servers, within_s=_KAFKA_S)
    if cluster_id != system.cluster_id:
        raise NoSystem(
            f"at {system.bootstrap_servers} answers the cluster {cluster_id}, but the system on "
            f"{settings.data_dir.resolve()} uses {system.cluster_id}; start that system again"
        )
    say(_described(system, settings))
    return KafkaTarget(system.bootstrap_servers, system.topic_prefix, system.var_limits)


def _nothing_runs(settings: InfraSettings) -> str:
    where = settings.data_dir.resolve()
    return f"no system runs on {where}; start one with `tapewire up`, name another by --data-dir"


def _described(system: RunningSystem, settings: InfraSettings) -> str:
    return (
        f"system: {system.url}, Kafka at {system.bootstrap_servers}, data in "
        f"{settings.data_dir.resolve()}"
    )
