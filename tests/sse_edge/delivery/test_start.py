import pytest

from sse_edge.delivery.start import FromTime
from sse_edge.log.record import Partition
from sse_edge.streams.requests import one_channel
from tests.support.edge import ALERTS, alerts_log, numbers, running_edge, write_alerts
from tests.support.sse import named

pytestmark = pytest.mark.virtual_time


async def test_a_stream_opens_at_once_and_writes_its_cursor() -> None:
    log = alerts_log()
    write_alerts(log, 0, 1)
    async with running_edge(log) as edge:
        client = edge.connect()
        opening, position = await client.until(2)
        assert opening.event == "connected"
        assert opening.id is None
        assert 2_000 <= (opening.retry_ms or 0) <= 4_000
        assert opening.inner["message"] == "Connected to alerts channel"
        assert position.id is not None
        assert position.data is None
        write_alerts(log, 2)
        await client.until(1, event="risk_alert")
        assert numbers(client) == [2]


async def test_what_is_sent_when_a_stream_has_opened_is_delivered() -> None:
    log = alerts_log()
    log.slowest_s = 0.3  # the start of the first stream of a topic is asked for
    write_alerts(log, 0, 1)
    for seed in range(20):
        log.dice.seed(seed)
        async with running_edge(log) as edge:
            client = edge.connect()
            await client.until(1, event="connected")
            sent = log.count(ALERTS)
            write_alerts(log, sent)
            await client.until(1, event="risk_alert")
            assert numbers(client) == [sent]


async def test_a_stream_starts_at_a_time() -> None:
    log = alerts_log()
    write_alerts(log, *range(4))
    second = log._topics[ALERTS].partitions[0].records[2].timestamp_ms
    async with running_edge(log) as edge:
        client = edge.connect(start=FromTime(second))
        await client.until(2, event="risk_alert")
        assert numbers(client) == [2, 3]


async def test_an_added_partition_is_read_from_its_first_event() -> None:
    log = alerts_log(partitions=2)
    async with running_edge(log, metadata_s=1) as edge:
        client = edge.connect()
        await client.until(2)
        log.add_partition(ALERTS)
        write_alerts(log, 7, partition=2)
        await client.until(1, event="risk_alert")
        write_alerts(log, 8, partition=0)
        await client.until(2, event="risk_alert")
        assert numbers(client) == [7, 8]
        assert not named(client.blocks, "gap")


async def test_the_cursor_of_an_entitys_stream_has_one_partition_and_is_short() -> None:
    log = alerts_log(partitions=6)
    stream = one_channel("alerts", {"entity_id": "mine"})
    home = log.partition_of(b"mine", 6)
    async with running_edge(log, checkpoint_s=15) as edge:
        client = edge.connect(stream)
        await client.until(2)
        write_alerts(log, 1, entity="other", partition=home)
        write_alerts(log, 2, entity="mine", partition=home)
        [event] = await client.until(1, event="risk_alert")
        assert event.inner["entity_id"] == "mine"
        assert len(event.id or "") <= 22
        [topic] = edge.cursor(stream, event.id or "").topics
        assert topic.offsets == ((home, 2),)


async def test_an_entitys_stream_follows_its_partition_only() -> None:
    log = alerts_log(partitions=6)
    async with running_edge(log) as edge:
        client = edge.connect(one_channel("alerts", {"entity_id": "mine"}))
        await client.until(2)
        assert [partition.number for partition in edge.node.tail.windows] == [
            log.partition_of(b"mine", 6)
        ]


async def test_a_partition_without_a_leader_delays_no_other() -> None:
    log = alerts_log(partitions=2)
    async with running_edge(log) as edge:
        client = edge.connect()
        await client.until(2)
        write_alerts(log, 0, partition=0)
        write_alerts(log, 1, partition=1)
        await client.until(2, event="risk_alert")
        cursor = client.last_id or ""
        log.leaderless.add(Partition(ALERTS, 1))
        write_alerts(log, 2, partition=0)
        await client.until(3, event="risk_alert")
        async with running_edge(log) as other:
            again = other.connect(start=cursor)
            await again.until(1, event="risk_alert")
            write_alerts(log, 3, partition=0)
            await again.until(2, event="risk_alert")
            latest = other.connect()
            await other.ended(latest)
            assert latest.blocks[-1].inner["reason"] == "no_broker"
            write_alerts(log, 4, partition=1)
            log.leaderless.clear()
            await again.until(3, event="risk_alert")
            await client.until(5, event="risk_alert")
            write_alerts(log, 5, partition=1)
            await again.until(4, event="risk_alert")
            assert numbers(again) == [2, 3, 4, 5]
            assert not named(again.blocks, "gap")
        assert sorted(numbers(client)[:5]) == [0, 1, 2, 3, 4]
