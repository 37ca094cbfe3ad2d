import asyncio

import pytest

from sse_edge.streams.requests import many_channels, one_channel
from tests.support.edge import TRAINING, alerts_log, progress, running_edge, write_alerts

pytestmark = pytest.mark.virtual_time


async def test_a_filtered_stream_moves_the_clients_cursor() -> None:
    log = alerts_log()
    stream = one_channel("alerts", {"entity_id": "quiet"})
    async with running_edge(log, checkpoint_records=100) as edge:
        client = edge.connect(stream)
        first = (await client.until(2))[1]
        write_alerts(log, 1, entity="loud")
        began = asyncio.get_running_loop().time()
        later = (await client.until(3))[2]
        assert asyncio.get_running_loop().time() - began == pytest.approx(15, abs=1)
        assert later.data is None
        assert later.id != first.id
        write_alerts(log, *range(1_000), entity="loud")
        passed, seen = 0, 3
        while passed < 1_001 - 100:  # less than one checkpoint's worth would be read again
            seen += 1
            block = (await client.until(seen))[-1]
            passed = edge.cursor(stream, block.id or "").topics[0].offsets[0][1]
        assert seen < 14


async def test_an_event_filter_delivers_its_names_and_passes_the_rest() -> None:
    log = alerts_log()
    log.make(TRAINING)
    stream = many_channels(["alerts", "training"], ["training_progress"])
    async with running_edge(log) as edge:
        client = edge.connect(stream)
        await client.until(2)
        write_alerts(log, 1)
        log.append(TRAINING, 0, b"t", progress("t", 1.0))
        await client.until(1, event="training_progress")
        assert not client.messages
        alerts, training = edge.cursor(stream, client.last_id or "").topics
        assert training.offsets == ((0, 1),)
        assert len(alerts.offsets) == 1


async def test_a_filter_that_no_event_passes_moves_the_cursor() -> None:
    log = alerts_log()
    log.make(TRAINING)
    stream = many_channels(["alerts", "training"], ["training_progress"])
    async with running_edge(log, checkpoint_records=100) as edge:
        client = edge.connect(stream)
        await client.until(2)
        for start in range(0, 10_000, 50):
            write_alerts(log, *range(start, start + 50))
            await asyncio.sleep(0.02)
        await asyncio.sleep(1)
        await edge.drop(client)
        alerts, _ = edge.cursor(stream, client.last_id or "").topics
        assert 10_000 - alerts.offsets[0][1] < 100
        assert len(client.blocks) < 10_000 / 100 * 1.5
