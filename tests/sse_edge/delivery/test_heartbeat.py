import asyncio

import pytest

from sse_edge.streams.requests import one_channel
from tests.support.edge import alerts_log, numbers, running_edge, write_alerts

pytestmark = pytest.mark.virtual_time


async def test_a_silent_stream_gets_a_ping_without_an_id() -> None:
    async with running_edge(alerts_log()) as edge:
        client = edge.connect()
        await client.until(2)
        began = asyncio.get_running_loop().time()
        pings = await client.until(2, event="ping")
        assert asyncio.get_running_loop().time() - began == pytest.approx(60, abs=1)
        assert all(ping.id is None for ping in pings)
        assert pings[0].json["event"] == "ping"
        assert pings[0].inner["timestamp"]


async def test_a_client_can_ask_for_heartbeats_that_are_sooner() -> None:
    async with running_edge(alerts_log()) as edge:
        client = edge.connect(heartbeat_s=5.0)
        await client.until(2)
        began = asyncio.get_running_loop().time()
        await client.until(3, event="ping")
        assert asyncio.get_running_loop().time() - began == pytest.approx(16.5, abs=2)


async def test_a_client_can_ask_for_checkpoints_with_a_name_and_data() -> None:
    async with running_edge(alerts_log()) as edge:
        client = edge.connect(named_checkpoints=True)
        position = (await client.until(2))[1]
        assert position.event == "checkpoint"
        assert position.data == "{}"
        assert position.id


async def test_while_kafka_is_away_heartbeats_continue_and_no_event_is_lost() -> None:
    log = alerts_log()
    async with running_edge(log) as edge:
        client = edge.connect()
        await client.until(2)
        log.is_away = True
        await client.until(3, event="ping")
        assert not edge.node.tail.connected
        write_alerts(log, 0, 1)
        log.is_away = False
        await client.until(2, event="risk_alert")
        assert numbers(client) == [0, 1]


async def test_without_kafka_a_new_stream_ends_with_a_reason_and_a_time_to_reconnect() -> None:
    log = alerts_log()
    log.is_away = True
    async with running_edge(log) as edge:
        client = edge.connect()
        await edge.ended(client)
        opening, error = client.blocks
        assert opening.event == "connected"
        assert error.event == "error"
        assert error.id is None
        assert error.inner["reason"] == "no_broker"
        assert error.retry_ms is not None


async def test_a_filtered_stream_gets_its_pings_on_time_between_checkpoints() -> None:
    log = alerts_log()
    async with running_edge(log) as edge:
        client = edge.connect(one_channel("alerts", {"entity_id": "quiet"}))
        await client.until(2)
        began = asyncio.get_running_loop().time()
        for second in range(95):
            write_alerts(log, *range(second * 20, second * 20 + 20), entity="busy")
            await asyncio.sleep(1)
        pings = await client.until(3, event="ping")
        assert asyncio.get_running_loop().time() - began == pytest.approx(95, abs=1)
        assert [block.event for block in client.blocks if block.data] == ["connected"] + [
            "ping"
        ] * 3
        assert len([block for block in client.blocks if block.id and not block.data]) >= 4
        assert pings[-1].id is None


async def test_events_and_named_checkpoints_put_pings_off() -> None:
    log = alerts_log()
    async with running_edge(log) as edge:
        seen = edge.connect()
        named = edge.connect(one_channel("alerts", {"entity_id": "quiet"}), named_checkpoints=True)
        await seen.until(2)
        for number in range(60):
            write_alerts(log, number, entity="busy")
            await asyncio.sleep(1)
        assert len(numbers(seen)) == 60
        assert not [block for block in (*seen.blocks, *named.blocks) if block.event == "ping"]
        assert len([block for block in named.blocks if block.event == "checkpoint"]) >= 3
