"""However a client mixes pages, streams and nodes, it gets each event once and in order."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from sse_edge.delivery.pages import open_pages
from sse_edge.delivery.start import FromEdge, Start
from sse_edge.streams.requests import one_channel
from tests.support.edge import ALERTS, Edge, alerts_log, running_edge, write_alerts
from tests.support.fake_log import FakeLog
from tests.support.sse import Block, Reader

pytestmark = pytest.mark.virtual_time

STREAM = one_channel("alerts", {})
PARTITIONS = 3
WRITTEN, IN_ALL = 40, 60

hops = st.lists(
    st.tuples(st.sampled_from(["page", "stream"]), st.integers(0, 1), st.integers(1, 9)),
    max_size=12,
)
"""How a client reads next, at which node, and how many events."""


async def by_page(edge: Edge, cursor: str | None, limit: int) -> tuple[Sequence[Block], str, bool]:
    start: Start = FromEdge.EARLIEST if cursor is None else edge.cursor(STREAM, cursor)
    async with open_pages(edge.node, STREAM, start) as reader:
        page = await reader.read(limit)
    return Reader().feed(page.data), page.cursor, page.has_more


async def by_stream(edge: Edge, cursor: str | None, count: int) -> Sequence[Block]:
    """Read some events, and drop the connection right after the last of them."""
    client = edge.connect(STREAM, FromEdge.EARLIEST if cursor is None else cursor)
    found = await client.until(count, event="risk_alert")
    await edge.drop(client)
    return found[:count]


def number_of(block: Block) -> int:
    assert block.event == "risk_alert"
    return int(block.inner["message"].removeprefix("number "))


def write(log: FakeLog, *numbers: int) -> None:
    for number in numbers:
        if log.dice.random() < 0.2:
            log.leave_hole(ALERTS, number % PARTITIONS)
        write_alerts(log, number, entity=f"p{number % 7}", partition=number % PARTITIONS)


@given(seed=st.integers(0, 2**32), hops=hops, window_bytes_max=st.sampled_from([1 << 10, 1 << 20]))
@settings(max_examples=30, deadline=None, derandomize=True)
async def test_any_split_of_pages_and_streams_has_each_event_once_and_in_order(
    seed: int, hops: list[tuple[str, int, int]], window_bytes_max: int
) -> None:
    log = alerts_log(PARTITIONS, seed)
    write(log, *range(WRITTEN))
    found: list[int] = []
    cursor: str | None = None
    async with (
        running_edge(log, window_bytes_max=window_bytes_max) as first,
        running_edge(log, window_bytes_max=window_bytes_max) as second,
    ):
        nodes = (first, second)
        for index, (how, node, count) in enumerate(hops):
            if index == len(hops) // 2:
                write(log, *range(WRITTEN, IN_ALL))
            if how == "page":
                blocks, cursor, _ = await by_page(nodes[node], cursor, count)
            elif (left := log_size(log) - len(found)) > 0:
                blocks = await by_stream(nodes[node], cursor, min(count, left))
                cursor = blocks[-1].id
            else:
                continue
            found += map(number_of, blocks)
        write(log, *range(log_size(log), IN_ALL))
        while len(found) < IN_ALL:
            blocks, cursor, _ = await by_page(first, cursor, 7)
            found += map(number_of, blocks)
        blocks, _, has_more = await by_page(second, cursor, 7)
    assert (blocks, has_more) == ([], False)
    assert sorted(found) == list(range(IN_ALL))
    for partition in range(PARTITIONS):
        of_partition = [number for number in found if number % PARTITIONS == partition]
        assert of_partition == sorted(of_partition)


def log_size(log: FakeLog) -> int:
    return len(log.records_of(ALERTS))
