from collections.abc import AsyncGenerator, Sequence

import pytest

from producers.agents.agents import Agent, AgentCaller
from producers.agents.orchestrator import Run
from producers.agents.router import Router
from producers.errors import AgentError, WorkStopped
from schemas.events import AgentCommand, AgentEvent


class Echo:
    agent_id = "echo"
    name = "Echo"
    protocol = "local"
    examples: Sequence[str] = ("say hello", "repeat after me", "echo this")

    async def answer(self, message: str) -> AsyncGenerator[str]:
        yield message
        yield "!"


class Broken(Echo):
    agent_id = "broken"
    name = "Broken"
    examples: Sequence[str] = ("break down", "explode now", "crash please")

    async def answer(self, message: str) -> AsyncGenerator[str]:
        yield "before"
        if "please" in message:
            raise AgentError("ask me something else")
        raise ZeroDivisionError


class Long(Echo):
    agent_id = "long"
    name = "Long"
    examples: Sequence[str] = ("be verbose", "a long answer", "at length")

    async def answer(self, message: str) -> AsyncGenerator[str]:
        del message
        yield "ü" * 20_000


ROUTER = Router([Echo(), Broken(), Long()])


async def steps(message: str, attempt: int = 1, lost: int = 0) -> list[AgentEvent]:
    events: list[AgentEvent] = []

    async def publish(event: AgentEvent) -> None:
        events.append(event)

    command = AgentCommand(run_id="r", message=message, event_time_us=0)
    await Run(publish, command, attempt, lost).answer(ROUTER)
    return events


async def test_a_run_routes_then_answers_in_pieces_and_ends_with_the_whole_answer() -> None:
    events = await steps("say hello")
    assert [event.kind for event in events] == [
        "routing_started",
        "routing_completed",
        "agent_execution_started",
        "response_chunk",
        "response_chunk",
        "completed",
    ]
    assert [event.number for event in events] == list(range(6))
    assert (events[1].agent_id, events[-1].text) == ("echo", "say hello!")
    assert [event.ends for event in events] == [False] * 5 + [True]


async def test_a_failed_agent_ends_the_run_with_a_text_for_the_user() -> None:
    for message, text in (
        ("crash please", "ask me something else"),
        ("explode now", "Broken has failed; ask again"),
    ):
        last = (await steps(message))[-1]
        assert (last.kind, last.text, last.ends) == ("error", text, True)


async def test_a_run_that_lost_three_workers_is_given_up() -> None:
    (only,) = await steps("say hello", attempt=4, lost=3)
    assert (only.kind, only.text) == ("error", "given up: 3 workers were lost on it")


async def test_a_run_of_workers_that_were_asked_to_stop_goes_on() -> None:
    assert (await steps("say hello", attempt=4, lost=2))[-1].kind == "completed"


async def test_a_run_that_another_worker_has_writes_nothing_more() -> None:
    written: list[AgentEvent] = []

    async def publish(event: AgentEvent) -> None:
        if len(written) == 3:
            raise WorkStopped("another worker has the command")
        written.append(event)

    command = AgentCommand(run_id="r", message="say hello", event_time_us=0)
    with pytest.raises(WorkStopped):
        await Run(publish, command, 1).answer(ROUTER)
    assert [event.kind for event in written][-1] == "agent_execution_started"


async def test_a_long_piece_is_divided_into_events_that_fit() -> None:
    events = await steps("a long answer at length")
    chunks = [event.text or "" for event in events if event.kind == "response_chunk"]
    assert "".join(chunks) == "ü" * 20_000
    assert max(map(len, chunks)) == 8_000
    assert len(events[-1].text or "") == 8_000


async def test_a_message_that_is_too_long_is_not_answered() -> None:
    [only] = await steps("say " + "x" * 2_000)
    assert (only.kind, only.text) == (
        "error",
        "the message has more than 2000 characters; ask more shortly",
    )


async def test_an_agent_gets_the_tenant_and_the_owner_of_the_command() -> None:
    callers: list[AgentCaller] = []

    async def ask(agent: Agent, message: str, caller: AgentCaller) -> AsyncGenerator[str]:
        del agent
        callers.append(caller)
        yield message

    async def publish(event: AgentEvent) -> None:
        del event

    command = AgentCommand(run_id="r", message="say hello", owner="alice", event_time_us=0)
    await Run(publish, command, 1, tenant="acme").answer(ROUTER, ask)
    assert callers == [AgentCaller("acme", "alice")]
