from collections import defaultdict

import pytest

from sse_edge.delivery.start import FromEdge
from sse_edge.streams.requests import one_channel
from tests.support.edge import (
    ALERTS,
    absurd_alert,
    alert,
    alerts_log,
    numbers,
    progress,
    running_edge,
    write_alerts,
)

pytestmark = pytest.mark.virtual_time


async def test_records_that_are_no_events_are_skipped_and_all_others_arrive() -> None:
    log = alerts_log()
    async with running_edge(log) as edge:
        client = edge.connect()
        await client.until(2)
        write_alerts(log, 0)
        for poison in (b"", b"\xc3\x01garbage", progress("t", 1.0), alert("p", 9)[:-1]):
            log.append(ALERTS, 0, b"p", poison)
        write_alerts(log, 1)
        await client.until(2, event="risk_alert")
        assert numbers(client) == [0, 1]
        cursor = edge.cursor(one_channel("alerts", {}), client.last_id or "")
        assert cursor.topics[0].offsets == ((0, 6),)


async def test_hostile_text_arrives_and_a_field_of_a_megabyte_is_skipped() -> None:
    log = alerts_log()
    hostile = "\r\n\nid: 1\n\ndata: x\0\u2028\u2029\x85\ufeff\U0001f4a5 é \x1c"
    async with running_edge(log) as edge:
        client = edge.connect()
        await client.until(2)
        log.append(ALERTS, 0, b"p", absurd_alert(entity_id="x" * (1 << 20)))
        log.append(ALERTS, 0, b"p", absurd_alert(entity_id="x" * 900_000))
        log.append(ALERTS, 0, b"p", alert(hostile, 2))
        log.append(ALERTS, 0, b"p", alert("p", 3).replace(b"raised", b"rai\xed\xa0\x80"))
        write_alerts(log, 4)
        events = await client.until(2, event="risk_alert")
        assert events[0].inner["entity_id"] == hostile
        assert numbers(client) == [2, 4]
        assert edge.node.metrics.skipped == {
            (ALERTS, "too_large"): 1,
            (ALERTS, "invalid"): 1,
            (ALERTS, "undecodable"): 1,
        }
        assert all(block.raw.isascii() for block in client.blocks)


async def test_a_record_that_was_written_twice_is_delivered_once() -> None:
    log = alerts_log()
    for number in (0, 1, 0, 1, 2):
        log.append(ALERTS, 0, b"p", alert("p", number), b"id-%d" % number)
    async with running_edge(log) as edge:
        from_kafka = edge.connect(start=FromEdge.EARLIEST)
        await from_kafka.until(3, event="risk_alert")
        live = edge.connect()
        await live.until(2)
        for number in (3, 4, 3, 4, 5):
            log.append(ALERTS, 0, b"p", alert("p", number), b"id-%d" % number)
        await live.until(3, event="risk_alert")
        await from_kafka.until(6, event="risk_alert")
        assert numbers(live) == [3, 4, 5]
        assert numbers(from_kafka) == [0, 1, 2, 3, 4, 5]


async def test_skipped_records_and_sent_events_are_counted() -> None:
    log = alerts_log()
    async with running_edge(log) as edge:
        client = edge.connect()
        await client.until(2)
        log.append(ALERTS, 0, b"p", b"nonsense")
        write_alerts(log, 1)
        await client.until(1, event="risk_alert")
        assert edge.node.metrics.skipped == {(ALERTS, "undecodable"): 1}
        metrics: defaultdict[str, float] = defaultdict(float)
        for family in edge.node.metrics.families(edge.node.gauges()):
            for sample in family.samples:
                metrics[sample.name] += sample.value
        assert metrics["tapewire_connections"] == 1
        assert metrics["tapewire_events_sent_total"] == 1
        assert metrics["tapewire_delivery_lag_seconds_count"] == 1
        assert metrics["tapewire_streams_opened_total"] == 1
        assert metrics["tapewire_window_bytes"] > 0
        assert metrics["tapewire_kafka_connected"] == 1
        assert metrics["tapewire_partition_connected"] == 1
