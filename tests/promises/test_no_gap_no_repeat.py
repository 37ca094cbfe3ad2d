"""No gap, no repeat, and in order for each partition, however the steps interleave.

Clients disconnect at random and resume on another node; windows are small; the log has seeded
delays, outages, holes and added partitions; producers write all the while.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from sse_edge.delivery.start import FromEdge
from sse_edge.streams.requests import one_channel
from sse_edge.streams.stream import Stream
from tests.support.edge import ALERTS, Client, Edge, alert, alerts_log, running_edge
from tests.support.fake_log import FakeLog

pytestmark = [pytest.mark.timeout(300), pytest.mark.virtual_time]

Account = dict[int, list[int]]
"""The numbers of the events of each partition, in order."""


async def produce(log: FakeLog, dice: Random, written: Account, count: int) -> None:
    partitions = len(log._topics[ALERTS].partitions)
    for number in range(count):
        await asyncio.sleep(dice.choice((0, 0, 0, 0.001, 0.03)))
        if dice.random() < 0.05:
            log.leave_hole(ALERTS, dice.randrange(partitions), dice.randint(1, 4))
        if dice.random() < 0.01 and partitions < 6:
            log.add_partition(ALERTS)
            partitions += 1
        partition = dice.randrange(partitions)
        log.append(ALERTS, partition, b"p%d" % partition, alert(f"p{partition}", number))
        written[partition].append(number)


async def interrupt(log: FakeLog, dice: Random) -> None:
    while True:
        await asyncio.sleep(dice.uniform(0.2, 3))
        log.is_away = True
        await asyncio.sleep(dice.uniform(0.05, 1))
        log.is_away = False


async def follow(
    edges: list[Edge], dice: Random, stream: Stream, seen: Account, until: asyncio.Event
) -> None:
    """Read, disconnect now and then, and resume on any node; at last read to the end."""
    cursor = None
    while True:
        edge = dice.choice(edges)
        client = edge.connect(stream, FromEdge.EARLIEST if cursor is None else cursor)
        last = until.is_set()
        stays_s = 20.0 if last else dice.choice((0.0, 0.01, 0.05, 0.3))
        if dice.random() < 0.3:
            client.stall()
            await asyncio.sleep(dice.uniform(0, 0.3))
            client.read_on()
        await asyncio.sleep(stays_s)
        await edge.drop(client)
        take(client, seen)
        cursor = client.last_id or cursor
        if last and not client.over:
            return


def take(client: Client, seen: Account) -> None:
    """Add the events that a client got; every event has an id, and there is no gap."""
    for block in client.blocks:
        assert block.event != "gap", block
        if block.event == "risk_alert":
            assert block.id
            entity = block.inner["entity_id"]
            seen[int(entity.removeprefix("p"))].append(int(block.inner["message"].split()[-1]))


@dataclass
class Outcome:
    written: Account
    accounts: list[Account]
    connections: int
    reads: int


async def simulate(seed: int) -> Outcome:
    dice = Random(seed)
    log = alerts_log(partitions=dice.randint(1, 3), seed=seed)
    written: Account = defaultdict(list)
    accounts: list[Account] = [defaultdict(list) for _ in range(3)]
    options = {"window_bytes_max": dice.choice((1_024, 3_000, 20_000)), "metadata_s": 0.3}
    done = asyncio.Event()
    async with running_edge(log, **options) as first, running_edge(log, **options) as second:
        async with asyncio.TaskGroup() as tasks:
            interrupting = tasks.create_task(interrupt(log, dice))
            for account in accounts:
                stream = one_channel("alerts", {})
                tasks.create_task(follow([first, second], dice, stream, account, done))
            await produce(log, dice, written, 150)
            interrupting.cancel()
            log.is_away = False
            done.set()
        return Outcome(written, accounts, first.connections + second.connections, log.reads)


def without_empty(account: Account) -> Account:
    return {partition: numbers for partition, numbers in account.items() if numbers}


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None, derandomize=True)
async def test_no_gap_no_repeat_in_order(seed: int) -> None:
    outcome = await simulate(seed)
    for account in outcome.accounts:
        assert without_empty(account) == without_empty(outcome.written)


async def test_the_trouble_is_real() -> None:
    """The simulation interrupts clients, and makes them read behind the windows, often."""
    outcomes = [await simulate(seed) for seed in range(5)]
    assert all(sum(map(len, outcome.written.values())) == 150 for outcome in outcomes)
    assert all(outcome.connections >= 10 for outcome in outcomes)
    assert all(outcome.reads >= 3 for outcome in outcomes)
