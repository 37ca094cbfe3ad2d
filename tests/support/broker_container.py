"""A Kafka broker in a container of the image that `make images` builds, by testcontainers.

testcontainers' own Kafka container names an image that runs with ZooKeeper, and waits for nothing.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager

from infra.embedded_broker import free_port

IMAGE = "tapewire/kafka:latest"
_STARTED = "Kafka Server started"
_START_S = 120
_PORT = 9092
ADVERTISED = "PLAINTEXT://localhost:{port},INTERNAL://localhost:9094"
"""Only clients' address has the published port: nobody listens on it in the container."""
_SETTINGS = {
    # The controller of testcontainers is an image that cannot be pulled everywhere; this file
    # removes its container itself.
    "TESTCONTAINERS_RYUK_DISABLED": "true",
    # A machine may have a /.dockerenv without being a container of this engine.
    "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
    "TESTCONTAINERS_HOST_OVERRIDE": "localhost",
}


@contextmanager
def broker_container() -> Generator[str]:
    """Run a broker until the block ends, and give its address."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    # It reads the settings when it is imported.
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415  # see above
    from testcontainers.core.wait_strategies import (  # noqa: PLC0415  # see above
        LogMessageWaitStrategy,
    )

    port = free_port()
    container = (
        DockerContainer(os.environ.get("TAPEWIRE_TEST_KAFKA_IMAGE", IMAGE))
        .with_bind_ports(_PORT, port)
        .with_env("KAFKA_HEAP_OPTS", "-Xms128m -Xmx1g -XX:TieredStopAtLevel=1")
        .with_command(f"--override advertised.listeners={ADVERTISED.format(port=port)}")
        .waiting_for(LogMessageWaitStrategy(_STARTED).with_startup_timeout(_START_S))
    )
    with container:
        yield f"localhost:{port}"
