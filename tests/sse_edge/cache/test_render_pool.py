import asyncio

from sse_edge.cache.render_pool import PART, RenderPool
from sse_edge.cache.window import Entry
from sse_edge.log.record import Partition, Record
from sse_edge.streams.channels import CHANNELS, Channel
from sse_edge.streams.render import Frame, render
from tests.support.edge import ALERTS, alert

CHANNEL = CHANNELS["alerts"]


def entries(count: int) -> list[Entry]:
    partition = Partition(ALERTS, 0)
    return [
        Entry(Record(partition, offset, 1_000 + offset, b"p", alert("p", offset), None))
        for offset in range(count)
    ]


def not_rendered(channel: Channel, record: Record) -> Frame | None:
    raise AssertionError(f"offset {record.offset} of {channel.name} is left to the loop")


async def test_small_pieces_and_a_pool_without_processes_are_left_to_the_loop() -> None:
    assert RenderPool(0).render(CHANNEL, entries(PART)) == ()
    assert RenderPool(1).render(CHANNEL, entries(PART - 1)) == ()


async def test_a_process_renders_what_the_loop_would_and_leaves_what_is_no_event() -> None:
    pool, piece = RenderPool(1), entries(PART + 2)
    broken = Entry(piece[0].record._replace(offset=PART + 2, value=b"nonsense"))
    try:
        async with asyncio.timeout(60):
            for part in pool.render(CHANNEL, [*piece, broken]):
                await part
    finally:
        pool.close()
    for entry in piece:
        assert entry.frame(CHANNEL, not_rendered) == render(CHANNEL, entry.record)
    assert broken.frame(CHANNEL, lambda *_: None) is None
