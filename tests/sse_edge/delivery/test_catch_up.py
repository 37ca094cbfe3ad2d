import asyncio

import pytest

from sse_edge.delivery.start import FromEdge
from sse_edge.streams.requests import one_channel
from tests.support.edge import alerts_log, numbers, running_edge, write_alerts

pytestmark = pytest.mark.virtual_time


async def test_catching_up_continues_on_a_quiet_topic_when_kafka_is_back() -> None:
    log = alerts_log()
    write_alerts(log, *range(300))
    async with running_edge(log) as edge:
        client = edge.connect(start=FromEdge.EARLIEST)
        await client.until(2)
        log.is_away = True
        await asyncio.sleep(4)  # virtual seconds, in which reads fail again and again
        assert len(client.messages) < 300
        log.is_away = False
        back = asyncio.get_running_loop().time()
        await client.until(300, event="risk_alert")
        assert asyncio.get_running_loop().time() - back < 3
        assert numbers(client) == list(range(300))


async def test_many_clients_that_resume_before_the_window_share_their_reads() -> None:
    log = alerts_log()
    async with running_edge(log, window_bytes_max=2_000) as edge:
        live = edge.connect()
        await live.until(2)
        write_alerts(log, *range(600))
        events = await live.until(600, event="risk_alert")
        log.reads = 0
        back = [edge.connect(start=events[number].id or "") for number in range(300)]
        for number, client in enumerate(back):
            await client.until(599 - number, event="risk_alert")
            assert numbers(client) == list(range(number + 1, 600))
        assert log.reads < 200


async def test_a_large_piece_is_delivered_in_slices_without_a_seam() -> None:
    log = alerts_log(partitions=2)
    log.read_max = 2_000
    write_alerts(log, *range(1_500))
    write_alerts(log, *range(1_500, 3_000), partition=1)
    async with running_edge(log) as edge:
        everything = edge.connect(start=FromEdge.EARLIEST)
        mine = edge.connect(one_channel("alerts", {"entity_id": "p"}), FromEdge.EARLIEST)
        await everything.until(3_000, event="risk_alert")
        assert sorted(numbers(everything)) == list(range(3_000))
        write_alerts(log, 3_000)
        await everything.until(3_001, event="risk_alert")
        home = log.partition_of(b"p", 2)
        await mine.until(1_500 + (home == 0), event="risk_alert")
        assert numbers(mine)[:1_500] == list(range(1_500 * home, 1_500 * (home + 1)))


async def test_no_checkpoint_of_a_catch_up_is_ahead_of_the_delivered_events() -> None:
    log = alerts_log()
    log.read_max = 5_000
    for number in range(4_000):
        write_alerts(log, number, entity="mine" if number % 125 == 0 else "other")
    stream = one_channel("alerts", {"entity_id": "mine"})
    async with running_edge(log, checkpoint_records=100) as edge:
        client = edge.connect(stream, FromEdge.EARLIEST)
        await client.until(32, event="risk_alert")
    delivered, checkpoints = set[int](), 0
    for block in client.blocks:
        if block.event == "risk_alert":
            delivered.add(int(block.inner["message"].split()[-1]))
        elif block.id is not None:
            checkpoints += 1
            [(_, offset)] = edge.cursor(stream, block.id).topics[0].offsets
            assert delivered == set(range(0, offset, 125))
    assert checkpoints > 2
