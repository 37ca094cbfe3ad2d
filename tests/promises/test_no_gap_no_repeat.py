"""The promise, in whatever order things happen: no gap, no repeat, in order for each partition.

Clients drop at random and resume on another node, nodes are killed, windows are small, the log is
slow where a seed says, goes away, leaves holes and gets partitions, while producers write on.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from sse_edge.delivery.start import FromEdge
from sse_edge.streams.stream import Stream, one_channel
from tests.support.edge import ALERTS, Client, Edge, alert, alerts_log, edge
from tests.support.fake_log import FakeLog

pytestmark = [pytest.mark.timeout(300), pytest.mark.virtual_time]

Account = dict[int, list[int]]
"""By partition, the numbers of the events, in order."""


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


async def trouble(log: FakeLog, dice: Random) -> None:
    while True:
        await asyncio.sleep(dice.uniform(0.2, 3))
        log.is_away = True
        await asyncio.sleep(dice.uniform(0.05, 1))
        log.is_away = False


async def follow(
    nodes: list[Edge], dice: Random, stream: Stream, seen: Account, until: asyncio.Event
) -> None:
    """Read, drop now and then, and resume elsewhere; in the end, read to the end."""
    cursor = None
    while True:
        node = dice.choice(nodes)
        client = node.connect(stream, FromEdge.EARLIEST if cursor is None else cursor)
        last = until.is_set()
        stays_s = 20.0 if last else dice.choice((0.0, 0.01, 0.05, 0.3))
        if dice.random() < 0.3:
            client.stall()
            await asyncio.sleep(dice.uniform(0, 0.3))
            client.read_on()
        await asyncio.sleep(stays_s)
        await node.drop(client)
        take(client, seen)
        cursor = client.last_id or cursor
        if last and not client.over:
            return


def take(client: Client, seen: Account) -> None:
    """What a client has up to its last id: it keeps nothing of a block without one."""
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
    async with edge(log, **options) as one, edge(log, **options) as two:
        async with asyncio.TaskGroup() as tasks:
            disturbing = tasks.create_task(trouble(log, dice))
            for account in accounts:
                stream = one_channel("alerts", {})
                tasks.create_task(follow([one, two], dice, stream, account, done))
            await produce(log, dice, written, 150)
            disturbing.cancel()
            log.is_away = False
            done.set()
        return Outcome(written, accounts, one.connections + two.connections, log.reads)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, derandomize=True)
async def test_no_gap_no_repeat_in_order(seed: int) -> None:
    outcome = await simulate(seed)
    for account in outcome.accounts:
        assert {one: many for one, many in account.items() if many} == {
            one: many for one, many in outcome.written.items() if many
        }


async def test_the_trouble_is_real() -> None:
    """A promise about trouble is worth what the trouble is worth."""
    outcomes = [await simulate(seed) for seed in range(5)]
    assert all(sum(map(len, one.written.values())) == 150 for one in outcomes)
    assert all(one.connections >= 10 for one in outcomes)
    assert all(one.reads >= 3 for one in outcomes)
