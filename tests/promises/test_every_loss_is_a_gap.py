"""Every loss is a gap: each event arrives once, or lies in a gap that the client was sent.

As in `test_no_gap_no_repeat`, but the log loses records: retention removes its begin, topics are
recreated, and unclean restarts lose its end and assign the offsets again.
"""

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from sse_edge.delivery.start import FromEdge
from sse_edge.streams.requests import one_channel
from tests.support.edge import ALERTS, Client, Edge, alert, alerts_log, running_edge
from tests.support.fake_log import FakeLog

pytestmark = [pytest.mark.timeout(300), pytest.mark.virtual_time]

PARTITIONS = 2


@dataclass
class Fact:
    """An event, and where it was written."""

    partition: int
    offset: int
    incarnation: int
    is_lost: bool = False
    """Whether an unclean restart lost it; a client may have seen it before."""


@dataclass
class Simulation:
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

    def lose_records(self) -> None:
        kind = self.dice.random()
        partition = self.dice.randrange(PARTITIONS)
        end = self.log._topics[ALERTS].partitions[partition].end
        if kind < 0.5:
            self.log.expire(ALERTS, partition, self.dice.randint(0, end))
        elif kind < 0.75:
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
    """The events and gaps that one client got, up to its last id."""

    numbers: list[int] = field(default_factory=list)
    gaps: list[tuple[str, int, int, int]] = field(default_factory=list)

    def take(self, client: Client) -> None:
        with_id = [index for index, block in enumerate(client.blocks) if block.id is not None]
        for block in client.blocks[: with_id[-1] + 1 if with_id else 0]:
            if block.event == "risk_alert":
                self.numbers.append(int(block.inner["message"].split()[-1]))
            elif block.event == "gap":
                self.gaps += [
                    (block.inner["reason"], p["partition"], p["from_offset"], p["to_offset"])
                    for p in block.inner["partitions"]
                ]


async def follow(
    edges: list[Edge], dice: Random, account: Account, until: asyncio.Event, *, drops: bool
) -> None:
    cursor = None
    while True:
        edge = dice.choice(edges)
        client = edge.connect(one_channel("alerts", {}), cursor or FromEdge.EARLIEST)
        last = until.is_set()
        if drops and not last:
            await asyncio.sleep(dice.choice((0.05, 0.3, 2.0)))
        else:
            await until.wait()
            await asyncio.sleep(40)
        await edge.drop(client)
        account.take(client)
        cursor = client.last_id or cursor
        if last or not drops:
            return


async def simulate(seed: int) -> tuple[Simulation, list[Account]]:
    dice = Random(seed)
    simulation = Simulation(alerts_log(PARTITIONS, seed), dice)
    accounts = [Account() for _ in range(3)]
    options = {"window_bytes_max": dice.choice((1_024, 20_000)), "metadata_s": 0.3}
    done = asyncio.Event()
    async with (
        running_edge(simulation.log, **options) as first,
        running_edge(simulation.log, **options) as second,
        asyncio.TaskGroup() as tasks,
    ):
        for account, drops in zip(accounts, (True, True, False), strict=True):
            tasks.create_task(follow([first, second], dice, account, done, drops=drops))
        for _ in range(120):
            await asyncio.sleep(dice.choice((0, 0, 0.001, 0.1)))
            simulation.write()
            if dice.random() < 0.03:
                await asyncio.sleep(1.0)
                simulation.lose_records()
                await asyncio.sleep(1.0)
        done.set()
    return simulation, accounts


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None, derandomize=True)
async def test_every_event_arrives_or_lies_in_a_gap_that_was_sent(seed: int) -> None:
    simulation, accounts = await simulate(seed)
    for account in accounts:
        arrived = set(account.numbers)
        for number, fact in enumerate(simulation.facts):
            if number in arrived or fact.is_lost:
                continue
            assert any(
                partition == fact.partition
                and (
                    (reason == "topic_recreated" and fact.incarnation < simulation.incarnation)
                    or from_offset <= fact.offset < to_offset
                )
                for reason, partition, from_offset, to_offset in account.gaps
            ), (number, fact, account.gaps)
        # An event is repeated only after a lost end, which is a gap.
        repeats = len(account.numbers) - len(arrived)
        assert repeats == 0 or any(reason == "future" for reason, *_ in account.gaps)


async def test_the_losses_are_real() -> None:
    """The simulation loses records in every way, and often."""
    outcomes = [await simulate(seed) for seed in range(12)]
    reasons = {gap[0] for _, accounts in outcomes for account in accounts for gap in account.gaps}
    assert reasons == {"expired", "topic_recreated", "future"}
    assert sum(simulation.cuts for simulation, _ in outcomes) >= 3
