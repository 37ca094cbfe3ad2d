"""The orchestrator: routes each message to an agent, and writes the steps of its answer.

If a worker is lost, another one starts the run again as its next attempt. A run ends once: a worker
that has lost its run cannot write.

Agents answer in processes of their own (`producers.agents.answer_processes`), several at once, and
in turns (`producers.agents.turns`): one that hangs is killed, and holds up no other until then.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial

from kafka_io.clock import now_us
from kafka_io.command_group import CommandGroup, ReceivedCommand, next_attempt
from kafka_io.errors import WorkStopped
from kafka_io.settings import ProducerSettings
from producers.agents.agents import MESSAGE_CHARS_MAX, Agent, AgentCaller, ask
from producers.agents.answer_processes import AnswerProcesses
from producers.agents.router import Router
from producers.agents.turns import Turns
from producers.errors import AgentError, AgentTimedOut
from producers.loop_thread import LoopThread
from producers.settings import OrchestratorSettings
from schemas.events import AgentCommand, AgentEvent, AgentStepKind
from schemas.topics import AGENT_COMMANDS, AGENT_EVENTS

logger = logging.getLogger(__name__)

_RUNS_MAX = 128
"""The most runs that a worker has begun, most of which wait for the turns of their answers."""
_ATTEMPTS_MAX = 3
_TEXT_CHARS_MAX = 8_000
"""The most characters of an answer in its last event, which has at most 64 KiB."""


Ask = Callable[[Agent, str, AgentCaller], AsyncGenerator[str]]
"""Has an agent answer a message."""


async def run(
    settings: ProducerSettings,
    options: OrchestratorSettings,
    agents: Sequence[Agent],
    stop: asyncio.Event,
) -> None:
    """Answer messages until `stop` is set.

    Args:
        settings: where Kafka is.
        options: deadlines, and how many answers are written at once.
        agents: the agents of the settings, which the processes load by themselves.
        stop: set when the worker must end.
    """
    router = Router(agents)
    # An event that waits for its partition's leader holds up no event of another run.
    with LoopThread("tapewire-agents", to_threads=_RUNS_MAX) as agents_loop:
        processes = AnswerProcesses(agents, options.agent_deadline_s)
        turns = Turns(options.agents_at_once, options.agent_deadline_s)

        def work(received: ReceivedCommand) -> None:
            command = received.command
            assert isinstance(command, AgentCommand)
            attempt = next_attempt(
                event.attempt for event in received.events if isinstance(event, AgentEvent)
            )
            lost = received.lost_before(attempt)
            run = Run(_publisher(received), command, attempt, lost, received.tenant)
            ask = partial(_ask_in_turn, turns, processes, received.is_stopped)
            agents_loop.run(run.answer(router, ask))

        agents_loop.run(processes.start())
        try:
            group = CommandGroup(AGENT_COMMANDS, AGENT_EVENTS, settings, at_once=_RUNS_MAX)
            await group.run(work, stop)
        finally:
            agents_loop.run(processes.close())


async def _ask_in_turn(
    turns: Turns,
    processes: AnswerProcesses,
    is_stopped: Callable[[], bool],
    agent: Agent,
    message: str,
    caller: AgentCaller,
) -> AsyncGenerator[str]:
    """Yield an agent's answer in pieces of text, once it is the caller's turn."""
    async with turns.turn(agent, caller, is_stopped):
        try:
            async with aclosing(processes.answer(is_stopped, agent, message, caller)) as answer:
                async for piece in answer:
                    yield piece
        except AgentTimedOut:
            turns.timed_out(agent)
            raise
        except AgentError:
            turns.answered(agent)
            raise
        turns.answered(agent)


def _publisher(received: ReceivedCommand) -> Callable[[AgentEvent], Awaitable[None]]:
    async def publish(event: AgentEvent) -> None:
        await asyncio.to_thread(received.publish, event)

    return publish


class Run:
    """One attempt at an answer."""

    def __init__(
        self,
        publish: Callable[[AgentEvent], Awaitable[object]],
        command: AgentCommand,
        attempt: int,
        lost: int = 0,
        tenant: str | None = None,
    ) -> None:
        """Make the next attempt.

        Args:
            publish: writes an event of the run.
            command: the message to answer.
            attempt: the attempt's number, from 1.
            lost: how many earlier attempts ended with the loss of their worker.
            tenant: the tenant of the command; None for none.
        """
        self._publish = publish
        self._command = command
        self._attempt = attempt
        self._lost = lost
        self._caller = AgentCaller(tenant, command.owner)
        self._number = 0

    async def answer(self, router: Router, ask: Ask = ask) -> None:
        """Route the message, and write the agent's answer.

        Args:
            router: chooses the agent.
            ask: has an agent answer; by default in this process.

        Raises:
            WorkStopped: another worker has the run, or this one stops; it writes nothing more.
        """
        if self._lost >= _ATTEMPTS_MAX:
            await self._report(
                AgentStepKind.ERROR, text=f"given up: {_ATTEMPTS_MAX} workers were lost on it"
            )
            return
        if len(self._command.message) > MESSAGE_CHARS_MAX:
            text = f"the message has more than {MESSAGE_CHARS_MAX} characters; ask more shortly"
            await self._report(AgentStepKind.ERROR, text=text)
            return
        await self._report(AgentStepKind.ROUTING_STARTED)
        route = await asyncio.to_thread(router.route, self._command.message)
        agent = route.agent
        await self._report(
            AgentStepKind.ROUTING_COMPLETED,
            agent,
            confidence=round(route.confidence, 4),
            reasoning=route.reasoning,
        )
        await self._report(AgentStepKind.AGENT_EXECUTION_STARTED, agent)
        pieces = []
        try:
            async with aclosing(ask(agent, self._command.message, self._caller)) as answer:
                async for piece in answer:
                    pieces.append(piece)
                    for at in range(0, len(piece), _TEXT_CHARS_MAX):
                        text = piece[at : at + _TEXT_CHARS_MAX]
                        await self._report(AgentStepKind.RESPONSE_CHUNK, agent, text=text)
        except AgentError as error:
            await self._report(AgentStepKind.ERROR, agent, text=str(error))
        except WorkStopped:
            raise
        except Exception:
            logger.exception("agent %s failed on run %s", agent.agent_id, self._command.run_id)
            await self._report(
                AgentStepKind.ERROR, agent, text=f"{agent.name} has failed; ask again"
            )
        else:
            await self._report(
                AgentStepKind.COMPLETED, agent, text="".join(pieces)[:_TEXT_CHARS_MAX]
            )

    async def _report(
        self,
        kind: AgentStepKind,
        agent: Agent | None = None,
        *,
        confidence: float | None = None,
        reasoning: str | None = None,
        text: str | None = None,
    ) -> None:
        event = AgentEvent(
            run_id=self._command.run_id,
            kind=kind,
            attempt=self._attempt,
            number=self._number,
            agent_id=None if agent is None else agent.agent_id,
            agent_name=None if agent is None else agent.name,
            protocol=None if agent is None else agent.protocol,
            confidence=confidence,
            reasoning=reasoning,
            text=text,
            event_time_us=now_us(),
        )
        self._number += 1
        await self._publish(event)
