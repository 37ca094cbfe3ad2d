"""Exceptions, zones, alerts and ids are those of one pass over the log.

This holds with late, corrected and repeated returns, limits, acknowledgements, scenarios and times
at which something is due, whatever the batches, pauses, restarts and rebuilds.
"""

import asyncio
from collections.abc import Sequence
from math import nan
from random import Random
from typing import Any

from hypothesis import given, settings, strategies as st

from kafka_io.dead_letters import Message, log_time_us
from schemas.events import RiskAlert, RiskMeasure
from schemas.topics import (
    RISK_ALERTS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_STATE,
    TopicPartition,
)
from stream_processors.agents.risk import Risk
from stream_processors.input_queue import InputQueue
from stream_processors.processor import Round
from stream_processors.risk.risk_batch import ORDERED
from tests.support.messages import FakeMessage, admitted
from tests.support.processor_bench import NUMBER, ProcessorBench
from tests.support.risk_log import (
    OLD,
    PORTFOLIOS,
    RED,
    SHORT,
    STEPS,
    Scene,
    Step,
    log_of,
    take_over,
)

MERGED = tuple(TopicPartition(topic.name, NUMBER) for topic in ORDERED)
END_US = 60_000_000
"""How long after the last record the log is looked at for the last time."""


class Outcome:
    """What clients have had, and the states."""

    def __init__(self, bench: ProcessorBench, alerts: Sequence[RiskAlert]) -> None:
        self.alerts = {name: [at for at in alerts if at.entity_id == name] for name in PORTFOLIOS}
        self.states = bench.journal.table(RISK_STATE)
        self.open_alerts = bench.journal.table(RISK_OPEN)
        self.zones = {
            name: [(test.confidence, test.exceptions, test.zone) for test in row.model_backtests]
            for name, row in bench.journal.table(RISK_MEASURES).items()
            if isinstance(row, RiskMeasure)
        }


async def straight(log: Sequence[FakeMessage], scene: Scene, end_us: int) -> Outcome:
    """Process a log message by message, and look at the time once, at the end."""
    bench = ProcessorBench(Risk(scene.settings))
    alerts: list[RiskAlert] = []
    for received in log:
        alerts += (await bench.run([received])).sent(RISK_ALERTS, RiskAlert)
    alerts += (await bench.tick(end_us)).sent(RISK_ALERTS, RiskAlert)
    return Outcome(bench, alerts)


class Live:
    """A worker that reads a growing log in pieces, and is stopped now and then."""

    def __init__(self, log: Sequence[FakeMessage], scene: Scene, dice: Random) -> None:
        self.log, self.scene, self.dice = log, scene, dice
        self.bench = ProcessorBench(Risk(scene.settings))
        self.alerts: list[RiskAlert] = []
        self.queue = InputQueue(MERGED)
        self.now_us = log_time_us(log[0])
        self.fetched = dict.fromkeys(MERGED, 0)
        self.next = dict.fromkeys(MERGED, 0)
        self.committed = dict(self.next)
        self.processed: list[Message] = []
        self.done = 0
        """How many of the processed messages are committed."""
        self.round = Round(NUMBER, "")
        self.asked: tuple[int, dict[TopicPartition, int]] | None = None
        self.rebuilds = 0

    def in_log(self, where: TopicPartition) -> Sequence[FakeMessage]:
        """Return the messages of a partition that are written by now."""
        return [at for at in self.log if at.topic == where.topic and log_time_us(at) <= self.now_us]

    def let_time_pass(self) -> None:
        later = [at for at in map(log_time_us, self.log) if at > self.now_us]
        until_us = later[0] if later else self.now_us + END_US
        # Up to just before the next message, or to it.
        self.now_us = self.dice.choice([until_us, (self.now_us + until_us) // 2, until_us - 1])

    def fetch(self) -> None:
        where = self.dice.choice(MERGED)
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
        if self.bench.processor.needs_time(NUMBER, self.now_us) and self.queue.has_reached(
            {where: len(self.in_log(where)) for where in MERGED}
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
        self.bench.processor = Risk(self.scene.settings)
        rows = self.bench.rows()
        limits = {topic.name: 0 for topic in self.bench.processor.inputs}
        limits |= {where.topic: offset for where, offset in self.committed.items()}
        self.bench.processor.recover(NUMBER, rows, limits)
        self.next, self.fetched = dict(self.committed), dict(self.committed)
        self.queue.restart(self.committed)
        self.round, self.asked = Round(NUMBER, ""), None
        del self.processed[self.done :]

    async def rebuild(self) -> None:
        """Continue from a rebuild of a part of what is processed."""
        await self.commit()
        rebuilt = ProcessorBench(Risk(self.scene.settings))
        read = self.dice.randint(0, len(self.processed))
        processed: Any = self.processed
        before, unread = processed[:read], processed[read:]
        if before:
            await rebuilt.run(before)
        rows = rebuilt.rows() if before else {RISK_STATE.name: {}}
        journal = await take_over(self.bench, rows, unread, self.alerts)
        assert journal.sent(RISK_ALERTS, RiskAlert) == []
        self.rebuilds += 1

    async def run(self) -> Outcome:
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
        for where in MERGED:
            rest = self.in_log(where)[self.fetched[where] :]
            self.queue.add(where, rest, len(self.in_log(where)))
        self.queue.learn(dict.fromkeys(MERGED, 0), self.queue.arrivals)
        while self.queue:
            await self.take()
        assert self.queue.is_empty
        await self.commit()
        await self.tick()
        await self.commit()
        return Outcome(self.bench, self.alerts)


@given(steps=STEPS, scene=st.sampled_from([SHORT, OLD, RED]), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_all_is_as_in_one_pass(steps: list[Step], scene: Scene, seed: int) -> None:
    asyncio.run(check(steps, scene, seed))


async def check(steps: list[Step], scene: Scene, seed: int) -> None:
    log = await log_of(steps, scene)
    expected = await straight(log, scene, log_time_us(log[-1]) + END_US)
    live = await Live(log, scene, Random(seed)).run()
    assert live.alerts == expected.alerts
    assert live.states == expected.states
    assert live.open_alerts == expected.open_alerts
    assert live.zones == expected.zones


def any_step(dice: Random) -> Step:
    return Step(
        kind=dice.choice(["return", "return", "repeat", "limits", "ack", "scenario"]),
        after_ms=dice.choice([0, 1, 400, 2_000, 9_000]),
        portfolio=dice.choice([0, 0, 1]),
        size=dice.choice([0.0, 0.01, 0.021, 0.026, 0.03, 0.05, nan]),
        behind=dice.choice([0, 0, 1, 5, 24, 280, 320]),
        version=dice.choice([1, 2, 3]),
        repeats=dice.choice([1, 2]),
        stale_s=dice.choice([None, 1.0, 2.0]),
        temporary=dice.random() < 0.5,  # a coin
    )


def test_the_logs_have_what_the_property_is_about() -> None:
    """Else it would hold of nothing."""
    dice = Random(3)
    steps, outcomes = set[tuple[str | None, str]](), set[str]()
    for scene in (SHORT, OLD, RED) * 10:
        log = asyncio.run(log_of([any_step(dice) for _ in range(40)], scene))
        found = asyncio.run(straight(log, scene, log_time_us(log[-1]) + END_US))
        for alerts in found.alerts.values():
            steps |= {(at.rule_id, at.state) for at in alerts}
        for state in found.states.values():
            outcomes |= getattr(state, "outcomes", {}).keys()
    assert outcomes >= {"accepted", "corrected", "duplicate", "late", "rejected"}
    for rule_id in ("var_95", "stress_loss:crash"):
        states = {state for of, state in steps if of == rule_id}
        assert states >= {"raised", "escalated", "deescalated", "acknowledged", "cleared"}, rule_id
    assert steps >= {("exceptions_99", "raised"), ("stale", "stale"), ("stale", "stale_cleared")}
