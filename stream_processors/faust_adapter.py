"""Faust's part in a worker: the app's life, and an agent for each processor.

An agent's channel is in memory. A stream task puts the messages of a round into it, and waits until
the agent has processed them. So a processor handles one round at a time, whichever partition number
it is of. Faust's own consumer, tables and commits are not used: they acknowledge message by
message, and lose or repeat records where a rebalance comes during their recovery.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import faust
from faust.app.base import BootStrategy

from kafka_io.dead_letters import Message
from schemas.events import InputGap
from stream_processors.messages import Admitted
from stream_processors.processor import Processor, Round, Rows


class AgentsOnly(BootStrategy):
    """Starts agents and timers of an app, and none of Faust's Kafka clients."""

    enable_kafka = False


class WorkerApp(faust.App):
    """An app whose agents read channels in memory."""

    BootStrategy = AgentsOnly  # type: ignore[mutable-override]  # as Faust documents it


class _Call:
    """A piece of work for an agent, and what became of it."""

    __slots__ = ("done", "work")

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self.work = work
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class AgentProcessor(Processor):
    """A processor whose messages go through a Faust agent."""

    def __init__(self, app: faust.App, processor: Processor) -> None:
        """Add an agent of the processor's name to the app."""
        super().__init__(
            processor.name,
            processor.inputs,
            processor.states,
            linger_s=processor.linger_s,
            tick_s=processor.tick_s,
            merged=processor.merged,
        )
        self._processor = processor
        self._channel: Any = app.channel()

        @app.agent(self._channel, name=processor.name)
        async def agent(stream: Any) -> None:
            async for call in stream:
                await _run(call)

    def open_alerts(self) -> Mapping[tuple[str, bool], int] | None:
        """Return the number of the processor's open alerts."""
        return self._processor.open_alerts()

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Replace the state of a partition number by its rows."""
        self._processor.recover(number, rows, row_limits)

    def report_gap(self, gap: InputGap, this_round: Round) -> None:
        """Say that records of an input are missing."""
        self._processor.report_gap(gap, this_round)

    def forget(self, number: int) -> None:
        """Drop the state of a partition number."""
        self._processor.forget(number)

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        """Let the agent apply messages."""
        await self._call(lambda: self._processor.process(messages, this_round))

    async def refuse(self, message: Message, this_round: Round) -> None:
        """Let the agent see a message that has become a dead letter."""
        await self._call(lambda: self._processor.refuse(message, this_round))

    async def finish(self, this_round: Round) -> None:
        """Let the agent end the round."""
        await self._call(lambda: self._processor.finish(this_round))

    def tick_s_of(self, number: int) -> float:
        """Return the seconds between two ticks of a partition number."""
        return self._processor.tick_s_of(number)

    def needs_tick(self, number: int, now_us: int) -> bool:
        """Return whether a tick may have something to do at a time."""
        return self._processor.needs_tick(number, now_us)

    def needs_time(self, number: int, now_us: int) -> bool:
        """Return whether something may be due by a time."""
        return self._processor.needs_time(number, now_us)

    async def tick(self, this_round: Round) -> None:
        """Let the agent look at the time."""
        await self._call(lambda: self._processor.tick(this_round))

    async def _call(self, work: Callable[[], Awaitable[None]]) -> None:
        call = _Call(work)
        await self._channel.put(call)
        await call.done


async def _run(call: _Call) -> None:
    """Do a piece of work; an error is that of the task that asked for it."""
    if call.done.done():  # the task was cancelled meanwhile
        return
    try:
        await call.work()
    except Exception as error:  # noqa: BLE001  # raised where the work was asked for
        if not call.done.done():
            call.done.set_exception(error)
    else:
        if not call.done.done():
            call.done.set_result(None)
