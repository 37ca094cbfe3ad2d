"""A worker that reads a growing log in pieces, out of order, and is stopped now and then.

What it makes of the log must be what one pass over the log makes, message by message.
"""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from kafka_io.dead_letters import Message, log_time_us
from schemas.events import RiskAlert
from schemas.topics import RISK_ALERTS, Topic, TopicPartition
from stream_processors.input_queue import InputQueue
from stream_processors.processor import Processor, Round
from tests.support.messages import FakeMessage, admitted
from tests.support.processor_bench import NUMBER, ProcessorBench

END_US = 60_000_000
"""How long after the last record the log is looked at for the last time."""


async def straight(
    log: Sequence[FakeMessage], processor: Processor
) -> tuple[ProcessorBench, list[RiskAlert]]:
    """Process a log message by message, and look at the time once, at the end."""
    bench = ProcessorBench(processor)
    alerts: list[RiskAlert] = []
    for received in log:
        alerts += (await bench.run([received])).sent(RISK_ALERTS, RiskAlert)
    alerts += (await bench.tick(log_time_us(log[-1]) + END_US)).sent(RISK_ALERTS, RiskAlert)
    return bench, alerts


class Live:
    """The worker, of one processor."""

    def __init__(
        self,
        log: Sequence[FakeMessage],
        make: Callable[[], Processor],
        ordered: Sequence[Topic],
        dice: Random,
    ) -> None:
        self.log, self.make, self.dice = log, make, dice
        self.merged = tuple(TopicPartition(topic.name, NUMBER) for topic in ordered)
        self.bench = ProcessorBench(make())
        self.alerts: list[RiskAlert] = []
        self.queue = InputQueue(self.merged)
        self.now_us = log_time_us(log[0])
        self.fetched = dict.fromkeys(self.merged, 0)
        self.next = dict.fromkeys(self.merged, 0)
        self.committed = dict(self.next)
        self.processed: list[Message] = []
        self.done = 0
        """How many of the processed messages are committed."""
        self.round = Round(NUMBER, "")
        self.asked: tuple[int, dict[TopicPartition, int]] | None = None

    def in_log(self, where: TopicPartition) -> Sequence[FakeMessage]:
        """Return the messages of a partition that are written by now."""
        return [at for at in self.log if at.topic == where.topic and log_time_us(at) <= self.now_us]

    def let_time_pass(self) -> None:
        later = [at for at in map(log_time_us, self.log) if at > self.now_us]
        until_us = later[0] if later else self.now_us + END_US
        # Up to just before the next message, or to it.
        self.now_us = self.dice.choice([until_us, (self.now_us + until_us) // 2, until_us - 1])

    def fetch(self) -> None:
        where = self.dice.choice(self.merged)
        new = self.in_log(where)[self.fetched[where] :]
        if new:
            some = new[: self.dice.randint(1, 5)]
            self.fetched[where] += len(some)
            self.queue.add(where, some, self.fetched[where])

    def ask(self) -> None:
        """Ask for ends, as a task does: what came in the same millisecond is written by then."""
        at_us = self.now_us
        if self.asked is None and self.queue.unknown() and not self._is_within_a_millisecond(at_us):
            ends = {where: len(self.in_log(where)) for where in self.queue.unknown()}
            self.asked = self.queue.arrivals, ends

    def _is_within_a_millisecond(self, at_us: int) -> bool:
        return any(log_time_us(at) == at_us for at in self.log)

    def learn(self) -> None:
        if self.asked is not None:
            arrivals, ends = self.asked
            self.asked = None
            self.queue.learn(ends, arrivals)

    async def take(self) -> None:
        taken = []
        for _ in range(self.dice.randint(1, 6)):
            if self.queue:
                received = self.queue.pop()
                self.next[TopicPartition(received.topic, NUMBER)] = received.offset + 1
                taken.append(received)
        self.processed += taken
        await self.bench.processor.process([admitted(at) for at in taken], self.round)

    async def tick(self) -> None:
        """Look at the time, as a task does."""
        self.round.read_until_us = None
        if not self.bench.processor.needs_tick(NUMBER, self.now_us):
            return
        if self.bench.processor.needs_time(NUMBER, self.now_us) and self.queue.has_reached(
            {where: len(self.in_log(where)) for where in self.merged}
        ):
            self.round.read_until_us = self.now_us
        await self.bench.processor.tick(self.round)

    async def commit(self) -> None:
        this_round, self.round = self.round, Round(NUMBER, "")
        await self.bench.processor.finish(this_round)
        journal = self.bench.journal
        journal.entries.clear()
        journal.add(this_round)
        self.alerts += journal.sent(RISK_ALERTS, RiskAlert)
        self.committed = dict(self.next)
        self.done = len(self.processed)

    def restart(self) -> None:
        """Go on from what is committed, as after a kill or a pause."""
        self.bench.processor = self.make()
        rows = self.bench.rows()
        limits = {topic.name: 0 for topic in self.bench.processor.inputs}
        limits |= {where.topic: offset for where, offset in self.committed.items()}
        self.bench.processor.recover(NUMBER, rows, limits)
        self.next, self.fetched = dict(self.committed), dict(self.committed)
        self.queue.restart(self.committed)
        self.round, self.asked = Round(NUMBER, ""), None
        del self.processed[self.done :]

    async def rebuild(self) -> None:
        """Continue from a rebuild; where there is none, go on."""

    async def run(self) -> None:
        steps = [self.fetch, self.ask, self.learn, self.take, self.tick, self.commit]
        rare = [*[self.let_time_pass] * 10, self.restart, self.rebuild]
        while True:
            step: Any = self.dice.choice(rare if self.dice.random() < 0.1 else steps)
            result = step()
            if asyncio.iscoroutine(result):
                await result
            if self.now_us > log_time_us(self.log[-1]) + END_US // 2:
                break
        self.now_us = log_time_us(self.log[-1]) + END_US
        for where in self.merged:
            rest = self.in_log(where)[self.fetched[where] :]
            self.queue.add(where, rest, len(self.in_log(where)))
        self.queue.learn(dict.fromkeys(self.merged, 0), self.queue.arrivals)
        while self.queue:
            await self.take()
        assert self.queue.is_empty
        await self.commit()
        await self.tick()
        await self.commit()
