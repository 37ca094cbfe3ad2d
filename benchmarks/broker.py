"""The Kafka that benchmarks run against: the configured one, or an embedded one for the run."""

import os
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from infra.embedded_broker import free_port, prepare
from infra.settings import InfraSettings
from infra.topics import wait_for_kafka

_START_S = 60.0


@contextmanager
def running_kafka() -> Generator[str]:
    """Its bootstrap servers, while the block runs."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder, embedded_kafka(Path(folder)) as servers:
        yield servers


@contextmanager
def embedded_kafka(folder: Path) -> Generator[str]:
    """The bootstrap servers of an embedded broker whose files are in a folder."""
    with ExitStack() as stack:
        broker = prepare(folder, free_port(), maven_url=InfraSettings().maven_url)
        process = subprocess.Popen(broker.command, stdout=subprocess.DEVNULL)  # noqa: S603
        stack.callback(process.wait)
        stack.callback(process.terminate)
        wait_for_kafka(broker.bootstrap_servers, within_s=_START_S)
        yield broker.bootstrap_servers
