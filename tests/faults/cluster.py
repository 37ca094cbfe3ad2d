"""A Kafka of three brokers, each a process that can be killed, paused and started again."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from confluent_kafka.admin import AdminClient

from infra.embedded_broker import free_port, new_cluster_id, prepare
from infra.topics import wait_for_kafka
from tests.conftest import TestKafka

_START_S = 90.0


class Cluster:
    """Three brokers. Topics are on all of them, and a write needs two."""

    def __init__(self, brokers: list[TestKafka]) -> None:
        self.brokers = brokers

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(broker.bootstrap_servers for broker in self.brokers)

    def wait(self) -> None:
        """Return when all brokers have joined, and every partition is on all of them."""
        wait_for_kafka(self.bootstrap_servers, within_s=_START_S)
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        size = len(self.brokers)
        while len(admin.describe_cluster(request_timeout=30).result().nodes) < size:
            pass
        while any(
            len(partition.isrs) < size
            for topic in admin.list_topics(timeout=30).topics.values()
            for partition in topic.partitions.values()
        ):
            pass

    def leader(self, topic: str) -> int:
        """Return the number of the broker that leads partition 0 of a topic."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        return int(admin.list_topics(topic, timeout=30).topics[topic].partitions[0].leader)


@asynccontextmanager
async def cluster(folder: Path, size: int = 3) -> AsyncGenerator[Cluster]:
    """Run a cluster whose data is in a folder."""
    ports = [free_port() for _ in range(2 * size)]
    clients, controllers = ports[:size], ports[size:]
    cluster_id = new_cluster_id()
    brokers = []
    for number, (port, controller) in enumerate(zip(clients, controllers, strict=True)):
        properties = {
            "node.id": str(number),
            "controller.quorum.voters": ",".join(
                f"{other}@localhost:{controllers[other]}" for other in range(size)
            ),
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "1000",
            "default.replication.factor": str(size),
            "min.insync.replicas": "2",
            "offsets.topic.replication.factor": str(size),
            "transaction.state.log.replication.factor": str(size),
            "transaction.state.log.min.isr": "2",
        }
        data = folder / f"kafka-{number}"
        prepared = await asyncio.to_thread(
            partial(prepare, data, port, properties=properties, cluster_id=cluster_id)
        )
        log_path = folder / f"kafka-{number}.log"
        brokers.append(TestKafka(prepared.bootstrap_servers, prepared, log_path))
    made = Cluster(brokers)
    try:
        for broker in brokers:
            broker.begin()
        await asyncio.to_thread(made.wait)
        yield made
    finally:
        for broker in brokers:
            broker.stop(signal.SIGKILL)
