"""What cannot be had is said: every event comes once, or lies in a gap that the client was told.

As in `test_no_gap_no_repeat`, but the log loses things: retention removes its begin, topics are
deleted and made again, and unclean restarts cut its end off and give the offsets out again.
"""

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from sse_edge.delivery.start import FromEdge
from sse_edge.streams.stream import one_channel
from tests.support.edge import ALERTS, Client, Edge, alert, alerts_log, edge
from tests.support.fake_log import FakeLog

pytestmark = [pytest.mark.timeout(300), pytest.mark.virtual_time]

PARTITIONS = 2


@dataclass
class Fact:
    """An event, and what became of it."""

    partition: int
    offset: int
    incarnation: int
    is_lost: bool = False
    """By an unclean restart; some clients may have seen it before."""


@dataclass
class World:
    log: FakeLog
    dice: Random
    facts: list[Fact] = field(default_factory=list)
    incarnation: int = 0
    cuts: int = 0

    def write(self) -> None:
        partition = self.dice.randrange(PARTITIONS)
        number = len(self.facts)
        value = alert(f"p{partition}", number)
        offset = self.log.append(ALERTS, partition, b"p%d" % partition, value)
        self.facts.append(Fact(partition, offset, self.incarnation))

    def lose_something(self) -> None:
        what = self.dice.random()
        partition = self.dice.randrange(PARTITIONS)
        end = self.log._topics[ALERTS].partitions[partition].end
        if what < 0.5:
            self.log.expire(ALERTS, partition, self.dice.randint(0, end))
        elif what < 0.75:
            self.log.make(ALERTS, PARTITIONS)
            self.incarnation += 1
        else:
            offset = self.dice.randint(max(0, end - 5), end)
            self.log.cut_off(ALERTS, partition, offset)
            self.cuts += 1
            for fact in self.facts:
                here = (fact.incarnation, fact.partition) == (self.incarnation, partition)
                fact.is_lost = fact.is_lost or (here and fact.offset >= offset)


@dataclass
class Account:
    """What one client was told, up to its last id."""

    numbers: list[int] = field(default_factory=list)
    gaps: list[tuple[str, int, int, int]] = field(default_factory=list)

    def take(self, client: Client) -> None:
        whole = [at for at, block in enumerate(client.blocks) if block.id is not None]
        for block in client.blocks[: whole[-1] + 1 if whole else 0]:
            if block.event == "risk_alert":
                self.numbers.append(int(block.inner["message"].split()[-1]))
            elif block.event == "gap":
                self.gaps += [
                    (block.inner["reason"], p["partition"], p["from_offset"], p["to_offset"])
                    for p in block.inner["partitions"]
                ]


async def follow(
    nodes: list[Edge], dice: Random, account: Account, until: asyncio.Event, *, drops: bool
) -> None:
    cursor = None
    while True:
        node = dice.choice(nodes)
        client = node.connect(one_channel("alerts", {}), cursor or FromEdge.EARLIEST)
        last = until.is_set()
        if drops and not last:
            await asyncio.sleep(dice.choice((0.05, 0.3, 2.0)))
        else:
            await until.wait()
            await asyncio.sleep(40)
        await node.drop(client)
        account.take(client)
        cursor = client.last_id or cursor
        if last or not drops:
            return


async def simulate(seed: int) -> tuple[World, list[Account]]:
    dice = Random(seed)
    world = World(alerts_log(PARTITIONS, seed), dice)
    accounts = [Account() for _ in range(3)]
    options = {"window_bytes_max": dice.choice((1_024, 20_000)), "metadata_s": 0.3}
    done = asyncio.Event()
    async with (
        edge(world.log, **options) as one,
        edge(world.log, **options) as two,
        asyncio.TaskGroup() as tasks,
    ):
        for account, drops in zip(accounts, (True, True, False), strict=True):
            tasks.create_task(follow([one, two], dice, account, done, drops=drops))
        for _ in range(120):
            await asyncio.sleep(dice.choice((0, 0, 0.001, 0.1)))
            world.write()
            if dice.random() < 0.03:
                await asyncio.sleep(1.0)
                world.lose_something()
                await asyncio.sleep(1.0)
        done.set()
    return world, accounts


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None, derandomize=True)
async def test_every_event_comes_or_lies_in_a_gap_that_was_told(seed: int) -> None:
    world, accounts = await simulate(seed)
    for account in accounts:
        came = set(account.numbers)
        for number, fact in enumerate(world.facts):
            if number in came or fact.is_lost:
                continue
            assert any(
                partition == fact.partition
                and (
                    (reason == "topic_recreated" and fact.incarnation < world.incarnation)
                    or from_offset <= fact.offset < to_offset
                )
                for reason, partition, from_offset, to_offset in account.gaps
            ), (number, fact, account.gaps)
        # What is told again, is told again after a cut only, which was said.
        again = len(account.numbers) - len(came)
        assert again == 0 or any(reason == "future" for reason, *_ in account.gaps)


async def test_things_are_lost_and_gaps_are_told() -> None:
    """A promise about losses is worth what the losses are worth."""
    outcomes = [await simulate(seed) for seed in range(12)]
    reasons = {gap[0] for _, accounts in outcomes for account in accounts for gap in account.gaps}
    assert reasons == {"expired", "topic_recreated", "future"}
    assert sum(world.cuts for world, _ in outcomes) >= 3
