"""Messages that are meant to hold agents up: bombs of arithmetic, floods, and agents that hang."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from tests.conftest import World
from tests.support.clients import StreamClient

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PATH = "/process/stream"
DEADLINE_S = 20.0
BOMBS = (
    "what is 9**9**9",
    "what is 9**9**9**9**9",
    "compute 99999**99999",
    "compute " + "9" * 1_900 + "**999",
    "compute " + "*".join(["9**999"] * 200),
    "compute " + "(" * 900 + "1" + ")" * 900,
    "compute " + "-" * 1_900 + "1",
)


async def asked(http: httpx.AsyncClient, message: str) -> tuple[list[Any], float]:
    """Return the steps of an answer, and after how many seconds it has ended."""
    began_s = time.monotonic()
    async with http.stream("POST", PATH, json={"message": message}) as response:
        blocks = await StreamClient(response).to_end()
    return [block.json for block in blocks if block.data], time.monotonic() - began_s


async def test_no_message_holds_up_the_others(world: World) -> None:
    edge = await world.edge()
    await world.orchestrator(
        agents="tests.support.stubborn_agents:Stubborn", agent_deadline_s=DEADLINE_S
    )
    async with httpx.AsyncClient(base_url=edge.url, timeout=120) as http:
        for answer in (
            await http.post(PATH, json={"message": "x" * 2_001}),
            await http.get(PATH, params={"message": "x" * 2_001}),
        ):
            assert answer.status_code == 400

        for bomb in BOMBS:
            steps, took_s = await asked(http, bomb)
            assert steps[-1]["event"] == "error"
            assert took_s < DEADLINE_S / 2

        async with asyncio.TaskGroup() as tasks:
            hanging = tasks.create_task(asked(http, "stubborn spin"))
            crashed = tasks.create_task(asked(http, "stubborn exit"))
            others = [tasks.create_task(asked(http, f"what is {n} + 1")) for n in range(12)]
        steps, took_s = hanging.result()
        assert steps[-1]["event"] == "error"
        assert "Stubborn has not answered within 20 s" in str(steps[-1])
        assert took_s >= DEADLINE_S
        assert crashed.result()[0][-1]["event"] == "error"
        ended = [task.result() for task in others]
        assert {steps[-1]["event"] for steps, _ in ended} == {"completed"}
        # Neither those of the hanging run's partition nor others have waited for its deadline.
        assert all(took_s < DEADLINE_S for _, took_s in ended)
