"""Agents that hang, crash or flood, each in a process that is killed for it."""

import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager

import psutil
import pytest

from kafka_io.errors import WorkStopped
from kafka_io.settings import ProducerSettings
from producers.agents.agents import Agent, AgentCaller, configured
from producers.agents.answer_processes import AnswerProcesses
from producers.errors import AgentError
from producers.settings import OrchestratorSettings

CALLER = AgentCaller("acme", "alice")
AGENTS = "tests.support.stubborn_agents:Stubborn"


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> Sequence[Agent]:
    monkeypatch.setenv("TAPEWIRE_AGENTS", AGENTS)
    return configured(ProducerSettings(), OrchestratorSettings())


@asynccontextmanager
async def running(agents: Sequence[Agent], deadline_s: float) -> AsyncGenerator[AnswerProcesses]:
    processes = AnswerProcesses(agents, deadline_s)
    await processes.start()
    try:
        yield processes
    finally:
        await processes.close()


async def answer_of(processes: AnswerProcesses, agent: Agent, message: str) -> str:
    pieces = processes.answer(lambda: False, agent, message, CALLER)
    async with aclosing(pieces):
        return "".join([piece async for piece in pieces])


async def test_a_process_is_kept_for_the_next_answer(agents: Sequence[Agent]) -> None:
    async with running(agents, 60) as processes:
        found = [await answer_of(processes, agents[3], "stubborn whoami") for _ in range(2)]
        assert found[0] == found[1]
        assert found[0].endswith(" acme alice")
        assert await answer_of(processes, agents[0], "what is 2 + 3") == "2 + 3 = 5"
        assert await answer_of(processes, agents[3], "stubborn print") == "first printed"
        with pytest.raises(AgentError, match="ask me something else"):
            await answer_of(processes, agents[3], "stubborn refuse")
        with pytest.raises(RuntimeError, match="stubborn has failed"):
            await answer_of(processes, agents[3], "stubborn fail")
        assert await answer_of(processes, agents[3], "stubborn whoami") == found[0]
        process = psutil.Process(int(found[0].split()[1]))
    assert not process.is_running()


async def test_an_agent_that_ends_its_process_ends_no_other_answer(agents: Sequence[Agent]) -> None:
    async with running(agents, 60) as processes:
        with pytest.raises(RuntimeError, match=r"has ended \(3\)"):
            await answer_of(processes, agents[3], "stubborn exit")
        assert await answer_of(processes, agents[0], "2 + 3") == "2 + 3 = 5"


async def test_an_agent_that_floods_is_stopped(agents: Sequence[Agent]) -> None:
    async with running(agents, 60) as processes:
        with pytest.raises(AgentError, match="more than 1,000,000 characters"):
            await answer_of(processes, agents[3], "stubborn flood")


@pytest.mark.parametrize("how", ["spin", "sleep", "power"])
async def test_an_agent_that_hangs_is_killed_at_its_deadline(
    agents: Sequence[Agent], how: str
) -> None:
    async with running(agents, 60) as processes:
        pid = int((await answer_of(processes, agents[3], "stubborn whoami")).split()[1])
        processes.deadline_s = 1.0
        began_s = time.monotonic()
        with pytest.raises(AgentError, match="Stubborn has not answered within 1 s; ask again"):
            await answer_of(processes, agents[3], f"stubborn {how}")
        assert time.monotonic() - began_s < 20
        assert not psutil.pid_exists(pid)


async def test_an_answer_that_is_no_longer_needed_ends_at_once(agents: Sequence[Agent]) -> None:
    async with running(agents, 3_600) as processes:
        stopped = threading.Event()
        answer = processes.answer(stopped.is_set, agents[3], "stubborn spin", CALLER)
        assert await anext(answer) == "first "
        stopped.set()
        with pytest.raises(WorkStopped):
            await anext(answer)
