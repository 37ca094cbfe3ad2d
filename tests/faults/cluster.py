"""A Kafka of one or three brokers, each a process that can be killed, paused and started again.

Each broker has two listeners for clients, so that a test can cut off the clients of the far one and
leave the others alone.
"""

import json
import signal
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata, PartitionMetadata

from infra.embedded_broker import free_port, new_cluster_id, prepare
from infra.settings import InfraSettings
from infra.topics import wait_for_kafka
from tests.conftest import TestKafka
from tests.faults.moved_clock import MovedClock

START_S = 300.0
"""A bound for a busy machine, where a killed broker reads its logs again for minutes."""
_POLL_S = 0.2


class Cluster:
    """Brokers by number. Topics are on all of them, and with three a write needs two."""

    def __init__(
        self,
        folder: Path,
        brokers: list[TestKafka],
        far_ports: Sequence[int],
        advertised_far_ports: Sequence[int],
        inner_ports: Sequence[int],
    ) -> None:
        self.brokers = brokers
        self.far_ports = far_ports
        """The ports of the far listeners."""
        self._advertised_far_ports = advertised_far_ports
        self.inner_ports = inner_ports
        """The ports by which brokers and controllers reach each other."""
        self._folder = folder

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(broker.bootstrap_servers for broker in self.brokers)

    @property
    def far_servers(self) -> str:
        """The addresses at which clients reach the far listeners."""
        return ",".join(f"localhost:{port}" for port in self._advertised_far_ports)

    def wait(self) -> None:
        """Return when all brokers have joined, and every partition is on all of them."""
        size = len(self.brokers)
        for broker in self.brokers:
            wait_for_kafka(broker.bootstrap_servers, within_s=START_S)
        self._wait_until(
            self.bootstrap_servers,
            lambda metadata: (
                len(metadata.brokers) == size
                and all(len(partition.isrs) == size for partition in _partitions(metadata))
            ),
        )

    def wait_for_leaders(self, without: Collection[int] = ()) -> float:
        """Return when every partition has a leader that is none of some brokers, and the time."""
        servers = [
            broker.bootstrap_servers
            for number, broker in enumerate(self.brokers)
            if number not in without
        ]
        lost = {-1, *without}
        self._wait_until(
            ",".join(servers),
            lambda metadata: all(
                partition.leader not in lost for partition in _partitions(metadata)
            ),
        )
        return time.monotonic()

    def _wait_until(self, servers: str, is_so: Callable[[ClusterMetadata], bool]) -> None:
        admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        deadline_s = time.monotonic() + START_S
        while True:
            with suppress(KafkaException):  # brokers that start or are busy may not answer
                if is_so(admin.list_topics(timeout=10)):
                    return
            assert time.monotonic() < deadline_s, f"the cluster is not whole in {START_S:g} s"
            time.sleep(_POLL_S)  # Kafka notifies nobody of its brokers

    def leads(self, number: int, prefix: str) -> bool:
        """Return whether a broker leads a partition of the topics with a prefix."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        topics = admin.list_topics(timeout=30).topics
        return any(
            partition.leader == number
            for name, topic in topics.items()
            if name.startswith(prefix)
            for partition in topic.partitions.values()
        )

    def coordinator(self, group: str) -> int:
        """Return the number of the broker that coordinates a group."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        described = admin.describe_consumer_groups([group], request_timeout=30)
        return int(described[group].result().coordinator.id)

    def controller(self) -> int:
        """Return the number of the broker that is the active controller.

        Clients cannot ask for it: brokers name any broker, and forward requests.
        """
        paths = self._folder.glob("kafka-*/log/__cluster_metadata-0/quorum-state")
        states = [json.loads(path.read_text()) for path in paths]
        return int(max(states, key=lambda state: state["leaderEpoch"])["leaderId"])

    def heal(self) -> None:
        """Continue and start whatever a test has left paused or dead."""
        for broker in self.brokers:
            if broker.is_running:
                broker.send_signal(signal.SIGCONT)
            else:
                broker.begin()
        self.wait()


def _partitions(metadata: ClusterMetadata) -> Iterator[PartitionMetadata]:
    for topic in metadata.topics.values():
        yield from topic.partitions.values()


@contextmanager
def cluster(
    folder: Path,
    size: int = 3,
    *,
    clock: MovedClock | None = None,
    advertised_far_ports: Sequence[int] | None = None,
) -> Generator[Cluster]:
    """Run a cluster.

    Args:
        folder: where its data is.
        size: how many brokers it has.
        clock: the brokers' clock; None for the true one.
        advertised_far_ports: the ports at which clients reach the far listeners, one for each
            broker; None for those of the listeners.
    """
    ports = [free_port() for _ in range(3 * size)]
    clients, far, controllers = ports[:size], ports[size : 2 * size], ports[2 * size :]
    advertised = advertised_far_ports or far
    cluster_id = new_cluster_id()
    voters = ",".join(f"{number}@localhost:{port}" for number, port in enumerate(controllers))
    brokers = []
    for number, (port, far_port, advertised_far_port, controller) in enumerate(
        zip(clients, far, advertised, controllers, strict=True)
    ):
        properties = {
            "node.id": str(number),
            "controller.quorum.voters": voters,
            "listeners": (
                f"PLAINTEXT://127.0.0.1:{port},FAR://127.0.0.1:{far_port},"
                f"CONTROLLER://127.0.0.1:{controller}"
            ),
            "advertised.listeners": (
                f"PLAINTEXT://localhost:{port},FAR://localhost:{advertised_far_port}"
            ),
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,FAR:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "1000",
            # How long a transaction's end waits for a leader that was cut off; see guarantees.md.
            "request.timeout.ms": "10000",
            "default.replication.factor": str(size),
            "min.insync.replicas": str(min(2, size)),
            "offsets.topic.replication.factor": str(size),
            "transaction.state.log.replication.factor": str(size),
            "transaction.state.log.min.isr": str(min(2, size)),
        }
        prepared = prepare(
            folder / f"kafka-{number}",
            port,
            maven_url=InfraSettings().maven_url,
            properties=properties,
            cluster_id=cluster_id,
        )
        if clock is not None:
            prepared = clock.of(prepared)
        log_path = folder / f"kafka-{number}.log"
        brokers.append(TestKafka(prepared.bootstrap_servers, prepared, log_path))
    made = Cluster(folder, brokers, far, advertised, [*clients, *controllers])
    try:
        for broker in brokers:
            broker.begin()
        made.wait()
        yield made
    finally:
        for broker in brokers:
            if broker.is_running:
                broker.stop(signal.SIGKILL)
