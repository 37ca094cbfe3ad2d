import asyncio

import pytest

from sse_edge.delivery.options import SlowClientPolicy
from sse_edge.delivery.start import FromEdge, FromTime
from sse_edge.log.record import Partition
from sse_edge.streams.stream import many_channels, one_channel
from tests.support.edge_bench import (
    ALERTS,
    TRAINING,
    Client,
    Edge,
    alert,
    alerts_log,
    edge,
    in_virtual_time,
    progress,
)
from tests.support.fake_log import FakeLog
from tests.support.sse import named


def write(log: FakeLog, *numbers: int, entity: str = "p", partition: int = 0) -> None:
    for number in numbers:
        log.append(ALERTS, partition, entity.encode(), alert(entity, number))


def said(client: Client) -> list[int]:
    return [int(message.removeprefix("number ")) for message in client.messages]


def test_a_stream_opens_at_once_and_says_where_it_stands() -> None:
    async def main() -> None:
        log = alerts_log()
        write(log, 0, 1)
        async with edge(log) as node:
            client = node.connect()
            opening, position = await client.until(2)
            assert opening.event == "connected"
            assert opening.id is None
            assert 2_000 <= (opening.retry_ms or 0) <= 4_000
            assert opening.inner["message"] == "Connected to alerts channel"
            assert position.id is not None
            assert position.data is None
            write(log, 2)
            await client.until(1, event="risk_alert")
            assert said(client) == [2]

    in_virtual_time(main())


def test_every_event_carries_the_cursor_after_it_as_its_last_line() -> None:
    async def main() -> None:
        log = alerts_log(partitions=3)
        write(log, 0, 1, 2)
        async with edge(log) as node:
            client = node.connect(start=FromEdge.EARLIEST)
            events = await client.until(3, event="risk_alert")
            for block, offset in zip(events, (1, 2, 3), strict=True):
                assert block.raw.split(b"\n")[-1].startswith(b"id: ")
                cursor = node.cursor(one_channel("alerts", {}), block.id or "")
                assert dict(cursor.topics[0].offsets) == {0: offset, 1: 0, 2: 0}

    in_virtual_time(main())


def test_a_client_resumes_on_another_node_where_it_stopped() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log) as node:
            client = node.connect()
            await client.until(2)
            write(log, *range(5))
            events = await client.until(5, event="risk_alert")
            await node.drop(client)
        write(log, *range(5, 9))
        for seen, block in enumerate(events, 1):
            async with edge(log) as other:
                again = other.connect(start=block.id or "")
                await again.until(9 - seen, event="risk_alert")
                assert said(again) == list(range(seen, 9))

    in_virtual_time(main())


def test_a_client_that_was_lost_before_the_first_event_misses_nothing() -> None:
    async def main() -> None:
        log = alerts_log(partitions=2)
        async with edge(log) as node:
            client = node.connect()
            await client.until(2)
            await node.drop(client)
            write(log, 0, 1, partition=1)
            again = node.connect(start=client.last_id or "")
            await again.until(2, event="risk_alert")
            assert said(again) == [0, 1]

    in_virtual_time(main())


def test_a_stream_begins_at_a_time() -> None:
    async def main() -> None:
        log = alerts_log()
        write(log, *range(4))
        second = log._topics[ALERTS].partitions[0].records[2].timestamp_ms
        async with edge(log) as node:
            client = node.connect(start=FromTime(second))
            await client.until(2, event="risk_alert")
            assert said(client) == [2, 3]

    in_virtual_time(main())


def test_an_entitys_stream_reads_its_partition_alone_and_its_cursor_is_short() -> None:
    async def main() -> None:
        log = alerts_log(partitions=6)
        stream = one_channel("alerts", {"entity_id": "mine"})
        home = log.partition_of(b"mine", 6)
        async with edge(log, checkpoint_s=15) as node:
            client = node.connect(stream)
            await client.until(2)
            write(log, 1, entity="other", partition=home)
            write(log, 2, entity="mine", partition=home)
            [event] = await client.until(1, event="risk_alert")
            assert event.inner["entity_id"] == "mine"
            assert len(event.id or "") <= 22
            [topic] = node.cursor(stream, event.id or "").topics
            assert topic.offsets == ((home, 2),)

    in_virtual_time(main())


def test_silence_is_broken_by_a_ping_without_an_id() -> None:
    async def main() -> None:
        async with edge(alerts_log()) as node:
            client = node.connect()
            await client.until(2)
            began = asyncio.get_running_loop().time()
            pings = await client.until(2, event="ping")
            assert asyncio.get_running_loop().time() - began == pytest.approx(60, abs=1)
            assert all(ping.id is None for ping in pings)
            assert pings[0].json["event"] == "ping"
            assert pings[0].inner["timestamp"]

    in_virtual_time(main())


def test_a_filtered_stream_moves_the_clients_cursor_too() -> None:
    async def main() -> None:
        log = alerts_log()
        stream = one_channel("alerts", {"entity_id": "quiet"})
        async with edge(log, checkpoint_records=100) as node:
            client = node.connect(stream)
            first = (await client.until(2))[1]
            write(log, 1, entity="loud")
            began = asyncio.get_running_loop().time()
            later = (await client.until(3))[2]
            assert asyncio.get_running_loop().time() - began == pytest.approx(15, abs=1)
            assert later.data is None
            assert later.id != first.id
            write(log, *range(1_000), entity="loud")
            told, seen = 0, 3
            while told < 1_001 - 100:  # less than one checkpoint's worth would be read again
                seen += 1
                block = (await client.until(seen))[-1]
                told = node.cursor(stream, block.id or "").topics[0].offsets[0][1]
            assert seen < 14

    in_virtual_time(main())


def test_a_client_whose_library_drops_blocks_without_data_asks_for_named_checkpoints() -> None:
    async def main() -> None:
        async with edge(alerts_log()) as node:
            client = node.connect(named_checkpoints=True)
            position = (await client.until(2))[1]
            assert position.event == "checkpoint"
            assert position.data == "{}"
            assert position.id

    in_virtual_time(main())


def test_an_event_filter_keeps_names_and_moves_past_the_rest() -> None:
    async def main() -> None:
        log = alerts_log()
        log.make(TRAINING)
        stream = many_channels(["alerts", "training"], ["training_progress"])
        async with edge(log) as node:
            client = node.connect(stream)
            await client.until(2)
            write(log, 1)
            log.append(TRAINING, 0, b"t", progress("t", 1.0))
            await client.until(1, event="training_progress")
            assert not client.messages
            alerts, training = node.cursor(stream, client.last_id or "").topics
            assert training.offsets == ((0, 1),)
            assert len(alerts.offsets) == 1

    in_virtual_time(main())


def test_a_finite_stream_ends_after_its_last_event_and_its_cursor_says_so() -> None:
    async def main() -> None:
        log = FakeLog()
        log.make(TRAINING)
        stream = one_channel("training", {"task_id": "t"})
        async with edge(log) as node:
            client = node.connect(stream, FromEdge.EARLIEST)
            await client.until(2)
            log.append(TRAINING, 0, b"t", progress("t", 50.0))
            log.append(TRAINING, 0, b"u", progress("u", 100.0, "completed"))
            log.append(TRAINING, 0, b"t", progress("t", 100.0, "completed"))
            log.append(TRAINING, 0, b"t", progress("t", 100.0, "completed"))
            await node.ended(client)
            events = named(client.blocks, "training_progress")
            assert [one.inner["progress"] for one in events] == [50.0, 100.0]
            ids = [one.id or "" for one in events]
            assert [node.cursor(stream, one).ended for one in ids] == [False, True]

    in_virtual_time(main())


def test_an_unfiltered_channel_does_not_end_with_somebodys_task() -> None:
    async def main() -> None:
        log = FakeLog()
        log.make(TRAINING)
        async with edge(log) as node:
            client = node.connect(one_channel("training", {}))
            await client.until(2)
            for task in ("t", "u"):
                log.append(TRAINING, 0, task.encode(), progress(task, 100.0, "failed"))
            await client.until(2, event="training_progress")
            assert not client.over

    in_virtual_time(main())


async def resumed_after(node: Edge, cursor: str) -> tuple[Client, dict[str, object]]:
    client = node.connect(start=cursor)
    [gap] = await client.until(1, event="gap")
    assert gap.id is None
    return client, gap.inner


def test_what_retention_has_removed_is_a_gap() -> None:
    async def main() -> None:
        log = alerts_log()
        write(log, *range(10))
        async with edge(log) as node:
            client = node.connect(start=FromEdge.EARLIEST)
            events = await client.until(10, event="risk_alert")
        log.expire(ALERTS, 0, 6)
        async with edge(log) as node:
            client, gap = await resumed_after(node, events[2].id or "")
            assert gap == {
                "reason": "expired",
                "partitions": [{"topic": ALERTS, "partition": 0, "from_offset": 3, "to_offset": 6}],
            }
            await client.until(4, event="risk_alert")
            assert said(client) == [6, 7, 8, 9]

    in_virtual_time(main())


def test_a_topic_that_was_made_again_is_a_gap_and_is_read_from_its_first_event() -> None:
    async def main() -> None:
        log = alerts_log()
        write(log, *range(5))
        async with edge(log) as node:
            client = node.connect(start=FromEdge.EARLIEST)
            await client.until(5, event="risk_alert")
            cursor = client.last_id or ""
        log.make(ALERTS)
        write(log, *range(100, 109))
        async with edge(log) as node:
            client, gap = await resumed_after(node, cursor)
            assert gap["reason"] == "topic_recreated"
            await client.until(9, event="risk_alert")
            assert said(client) == list(range(100, 109))

    in_virtual_time(main())


def test_a_topic_that_is_made_again_under_a_live_client_is_a_gap_too() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log, metadata_s=1) as node:
            client = node.connect()
            await client.until(2)
            write(log, 0, 1)
            await client.until(2, event="risk_alert")
            log.make(ALERTS)
            write(log, 100)
            [gap] = await client.until(1, event="gap")
            assert gap.inner["reason"] == "topic_recreated"
            await client.until(3, event="risk_alert")
            assert said(client) == [0, 1, 100]

    in_virtual_time(main())


def test_a_cursor_beyond_the_log_is_a_gap() -> None:
    async def main() -> None:
        log = alerts_log()
        write(log, *range(3))
        async with edge(log) as node:
            client = node.connect(start=FromEdge.EARLIEST)
            await client.until(3, event="risk_alert")
            cursor = client.last_id or ""
        log._topics[ALERTS].partitions[0].end = 1
        del log._topics[ALERTS].partitions[0].records[1:]
        async with edge(log) as node:
            client, gap = await resumed_after(node, cursor)
            assert gap["reason"] == "future"
            write(log, 50)
            await client.until(1, event="risk_alert")
            assert said(client) == [50]

    in_virtual_time(main())


def test_whoever_wants_no_gap_is_let_go_at_one() -> None:
    async def main() -> None:
        log = alerts_log()
        write(log, *range(10))
        async with edge(log) as node:
            client = node.connect(start=FromEdge.EARLIEST)
            cursor = (await client.until(10, event="risk_alert"))[0].id or ""
            log.expire(ALERTS, 0, 6)
        async with edge(log) as node:
            client = node.connect(start=cursor, close_on_gap=True)
            await node.ended(client)
            assert [block.event for block in client.blocks] == ["connected", "gap"]

    in_virtual_time(main())


def test_holes_in_the_log_are_no_gap() -> None:
    async def main() -> None:
        log = alerts_log()
        write(log, 0)
        log.leave_hole(ALERTS, 0, 7)
        write(log, 1)
        log.leave_hole(ALERTS, 0, 3)
        async with edge(log) as node:
            client = node.connect(start=FromEdge.EARLIEST)
            await client.until(2, event="risk_alert")
            log.leave_hole(ALERTS, 0, 2)
            write(log, 2)
            await client.until(3, event="risk_alert")
            assert said(client) == [0, 1, 2]
            assert not named(client.blocks, "gap")

    in_virtual_time(main())


def test_an_added_partition_is_read_from_its_first_event() -> None:
    async def main() -> None:
        log = alerts_log(partitions=2)
        async with edge(log, metadata_s=1) as node:
            client = node.connect()
            await client.until(2)
            log.add_partition(ALERTS)
            write(log, 7, partition=2)
            await client.until(1, event="risk_alert")
            write(log, 8, partition=0)
            await client.until(2, event="risk_alert")
            assert said(client) == [7, 8]
            assert not named(client.blocks, "gap")

    in_virtual_time(main())


def test_poison_is_passed_and_everything_around_it_arrives() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log) as node:
            client = node.connect()
            await client.until(2)
            write(log, 0)
            for poison in (b"", b"\xc3\x01garbage", progress("t", 1.0), alert("p", 9)[:-1]):
                log.append(ALERTS, 0, b"p", poison)
            write(log, 1)
            await client.until(2, event="risk_alert")
            assert said(client) == [0, 1]
            cursor = node.cursor(one_channel("alerts", {}), client.last_id or "")
            assert cursor.topics[0].offsets == ((0, 6),)

    in_virtual_time(main())


def test_hostile_text_travels_and_a_field_of_a_megabyte_is_passed() -> None:
    async def main() -> None:
        log = alerts_log()
        hostile = "\r\n\nid: 1\n\ndata: x\0\u2028\u2029\x85\ufeff\U0001f4a5 é \x1c"
        async with edge(log) as node:
            client = node.connect()
            await client.until(2)
            log.append(ALERTS, 0, b"p", alert("x" * (1 << 20), 0))
            log.append(ALERTS, 0, b"p", alert("x" * 900_000, 1))
            log.append(ALERTS, 0, b"p", alert(hostile, 2))
            log.append(ALERTS, 0, b"p", alert("p", 3).replace(b"raised", b"rai\xed\xa0\x80"))
            write(log, 4)
            events = await client.until(2, event="risk_alert")
            assert events[0].inner["entity_id"] == hostile
            assert said(client) == [2, 4]
            assert node.node.metrics.skipped == {ALERTS: 3}
            assert all(block.raw.isascii() for block in client.blocks)

    in_virtual_time(main())


def test_a_record_that_was_written_twice_is_told_once() -> None:
    async def main() -> None:
        log = alerts_log()
        for number in (0, 1, 0, 1, 2):
            log.append(ALERTS, 0, b"p", alert("p", number), b"id-%d" % number)
        async with edge(log) as node:
            from_kafka = node.connect(start=FromEdge.EARLIEST)
            await from_kafka.until(3, event="risk_alert")
            live = node.connect()
            await live.until(2)
            for number in (3, 4, 3, 4, 5):
                log.append(ALERTS, 0, b"p", alert("p", number), b"id-%d" % number)
            await live.until(3, event="risk_alert")
            await from_kafka.until(6, event="risk_alert")
            assert said(live) == [3, 4, 5]
            assert said(from_kafka) == [0, 1, 2, 3, 4, 5]

    in_virtual_time(main())


def test_while_kafka_is_away_heartbeats_go_on_and_then_nothing_is_missing() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log) as node:
            client = node.connect()
            await client.until(2)
            log.is_away = True
            await client.until(3, event="ping")
            assert not node.node.tail.connected
            write(log, 0, 1)
            log.is_away = False
            await client.until(2, event="risk_alert")
            assert said(client) == [0, 1]

    in_virtual_time(main())


def test_catching_up_goes_on_when_kafka_is_back_also_on_a_quiet_topic() -> None:
    async def main() -> None:
        log = alerts_log()
        write(log, *range(300))
        async with edge(log) as node:
            client = node.connect(start=FromEdge.EARLIEST)
            await client.until(2)
            log.is_away = True
            await asyncio.sleep(4)  # virtual seconds, in which reads fail again and again
            assert len(client.messages) < 300
            log.is_away = False
            back = asyncio.get_running_loop().time()
            await client.until(300, event="risk_alert")
            assert asyncio.get_running_loop().time() - back < 3
            assert said(client) == list(range(300))

    in_virtual_time(main())


def test_without_kafka_a_new_stream_ends_with_a_reason_and_a_time_to_come_back() -> None:
    async def main() -> None:
        log = alerts_log()
        log.is_away = True
        async with edge(log) as node:
            client = node.connect()
            await node.ended(client)
            opening, error = client.blocks
            assert opening.event == "connected"
            assert error.event == "error"
            assert error.id is None
            assert error.inner["reason"] == "no_broker"
            assert error.retry_ms is not None

    in_virtual_time(main())


def test_draining_ends_streams_between_events_spread_over_the_window() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log, drain_s=10) as node:
            clients = [node.connect() for _ in range(40)]
            for client in clients:
                await client.until(2)
            write(log, *range(3))
            await clients[0].until(3, event="risk_alert")
            began = asyncio.get_running_loop().time()
            node.node.drain()
            ends = []
            for client in clients:
                await node.ended(client)
                assert client.reader.is_between_blocks
                last = client.blocks[-1]
                assert last.id is not None
                assert last.retry_ms is not None
                assert said(client) == [0, 1, 2]
                ends.append(last.retry_ms)
            assert asyncio.get_running_loop().time() - began <= 10.5
            assert len(set(ends)) > 30

    in_virtual_time(main())


def test_a_client_that_is_let_in_just_before_the_drain_leaves_with_the_others() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log, drain_s=1) as node:
            client = node.connect()
            await client.until(1)
            node.node.drain()
            await node.ended(client)
            assert client.last_id
            assert asyncio.get_running_loop().time() < 2

    in_virtual_time(main())


def test_a_slow_client_keeps_its_place_and_nobody_else_notices() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log, window_bytes_max=20_000) as node:
            slow, quick = node.connect(), node.connect()
            await slow.until(2)
            await quick.until(2)
            slow.stall()
            write(log, *range(500))
            await quick.until(500, event="risk_alert")
            window = next(iter(node.node.tail.windows.values()))
            assert window.bytes <= 20_000
            assert window.start > 400
            assert not slow.messages
            slow.read_on()
            await slow.until(500, event="risk_alert")
            assert said(slow) == said(quick) == list(range(500))

    in_virtual_time(main())


def test_caught_up_clients_share_their_bytes() -> None:
    async def main() -> None:
        log = alerts_log(partitions=2)
        async with edge(log) as node:
            clients = [node.connect() for _ in range(20)]
            for client in clients:
                await client.until(2)
            write(log, *range(10))
            for client in clients:
                await client.until(10, event="risk_alert")
            assert log.reads == 0
            assert len({tuple(one.raw for one in client.blocks[1:]) for client in clients}) == 1

    in_virtual_time(main())


def test_clients_that_take_gzip_share_it_and_read_the_same() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log) as node:
            early, plain = node.connect(gzip=True), node.connect()
            await early.until(2)
            write(log, *range(20))
            await early.until(20, event="risk_alert")
            late = node.connect(start=FromEdge.EARLIEST, gzip=True)
            await late.until(20, event="risk_alert")
            write(log, *range(20, 40))
            for client in (early, late, plain):
                await client.until(2)
            await early.until(2, event="ping")
            write(log, *range(40, 50))
            await late.until(50, event="risk_alert")
            await early.until(50, event="risk_alert")
            await plain.until(50, event="risk_alert")
            assert said(early) == said(late) == said(plain) == list(range(50))
            node.node.drain()
            for client in (early, late):
                await node.ended(client)
                assert client._unzip.eof  # with a CRC that is right

    in_virtual_time(main())


def test_a_conflating_client_gets_the_newest_of_each_key_and_how_many_were_merged() -> None:
    async def main() -> None:
        log = FakeLog()
        log.make(TRAINING)
        async with edge(log) as node:
            client = node.connect(one_channel("training", {}), slow=SlowClientPolicy.CONFLATE)
            await client.until(2)
            log.append(TRAINING, 0, b"t", progress("t", 1.0))
            await client.until(1, event="training_progress")
            client.stall()
            for percent in range(2, 50):
                log.append(TRAINING, 0, b"t", progress("t", percent))
                log.append(TRAINING, 0, b"u", progress("u", percent))
            await asyncio.sleep(5)
            client.read_on()
            events = await client.until(3, event="training_progress")
            assert [(e.inner["task_id"], e.inner["progress"]) for e in events] == [
                ("t", 1.0),
                ("t", 49.0),
                ("u", 49.0),
            ]
            assert sum(one.inner["merged"] for one in named(client.blocks, "conflated")) == 94
            assert all(one.id is None for one in named(client.blocks, "conflated"))
            log.append(TRAINING, 0, b"t", progress("t", 50.0))
            log.append(TRAINING, 0, b"t", progress("t", 51.0))
            await client.until(5, event="training_progress")
            assert node.node.metrics.merged == 94

    in_virtual_time(main())


def test_a_slow_client_that_wants_to_be_closed_is_and_comes_back_where_it_was() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log, slow_close_s=10) as node:
            slow, patient = node.connect(slow=SlowClientPolicy.CLOSE), node.connect()
            for client in (slow, patient):
                await client.until(2)
                client.stall()
            write(log, *range(5))
            await asyncio.sleep(60)
            assert slow.over or node._open[slow].done()
            assert not node._open[patient].done()
            assert node.node.metrics.slow_closes == 1
            again = node.connect(start=slow.last_id or "")
            await again.until(5, event="risk_alert")
            assert said(again) == list(range(5))

    in_virtual_time(main())


def test_many_that_come_back_from_before_the_window_share_what_is_read() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log, window_bytes_max=2_000) as node:
            live = node.connect()
            await live.until(2)
            write(log, *range(600))
            events = await live.until(600, event="risk_alert")
            log.reads = 0
            back = [node.connect(start=events[number].id or "") for number in range(300)]
            for number, client in enumerate(back):
                await client.until(599 - number, event="risk_alert")
                assert said(client) == list(range(number + 1, 600))
            assert log.reads < 200

    in_virtual_time(main())


def test_a_large_piece_is_told_in_slices_without_a_seam() -> None:
    async def main() -> None:
        log = alerts_log(partitions=2)
        log.read_max = 2_000
        write(log, *range(1_500))
        write(log, *range(1_500, 3_000), partition=1)
        async with edge(log) as node:
            everything = node.connect(start=FromEdge.EARLIEST)
            mine = node.connect(one_channel("alerts", {"entity_id": "p"}), FromEdge.EARLIEST)
            await everything.until(3_000, event="risk_alert")
            assert sorted(said(everything)) == list(range(3_000))
            write(log, 3_000)
            await everything.until(3_001, event="risk_alert")
            home = log.partition_of(b"p", 2)
            await mine.until(1_500 + (home == 0), event="risk_alert")
            assert said(mine)[:1_500] == list(range(1_500 * home, 1_500 * (home + 1)))

    in_virtual_time(main())


def test_a_partition_without_a_leader_stops_itself_alone() -> None:
    async def main() -> None:
        log = alerts_log(partitions=2)
        async with edge(log) as node:
            client = node.connect()
            await client.until(2)
            write(log, 0, partition=0)
            write(log, 1, partition=1)
            await client.until(2, event="risk_alert")
            cursor = client.last_id or ""
            log.leaderless.add(Partition(ALERTS, 1))
            write(log, 2, partition=0)
            await client.until(3, event="risk_alert")
            async with edge(log) as other:
                again = other.connect(start=cursor)
                await again.until(1, event="risk_alert")
                write(log, 3, partition=0)
                await again.until(2, event="risk_alert")
                latest = other.connect()
                await other.ended(latest)
                assert latest.blocks[-1].inner["reason"] == "no_broker"
                write(log, 4, partition=1)
                log.leaderless.clear()
                await again.until(3, event="risk_alert")
                await client.until(5, event="risk_alert")
                write(log, 5, partition=1)
                await again.until(4, event="risk_alert")
                assert said(again) == [2, 3, 4, 5]
                assert not named(again.blocks, "gap")
            assert sorted(said(client)[:5]) == [0, 1, 2, 3, 4]

    in_virtual_time(main())


def test_no_checkpoint_of_a_catch_up_is_ahead_of_what_was_told() -> None:
    async def main() -> None:
        log = alerts_log()
        log.read_max = 5_000
        for number in range(4_000):
            write(log, number, entity="mine" if number % 125 == 0 else "other")
        stream = one_channel("alerts", {"entity_id": "mine"})
        async with edge(log, checkpoint_records=100) as node:
            client = node.connect(stream, FromEdge.EARLIEST)
            await client.until(32, event="risk_alert")
        told, checkpoints = set[int](), 0
        for block in client.blocks:
            if block.event == "risk_alert":
                told.add(int(block.inner["message"].split()[-1]))
            elif block.id is not None:
                checkpoints += 1
                [(_, offset)] = node.cursor(stream, block.id).topics[0].offsets
                assert told == set(range(0, offset, 125))
        assert checkpoints > 2

    in_virtual_time(main())


def test_a_log_that_lost_its_end_is_a_gap_for_those_who_had_read_it() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log, metadata_s=1) as node:
            client = node.connect()
            await client.until(2)
            write(log, *range(10))
            await client.until(10, event="risk_alert")
            log.cut_off(ALERTS, 0, 7)
            write(log, *range(100, 110))  # the lost offsets, and more
            [gap] = await client.until(1, event="gap")
            assert gap.inner["reason"] == "future"
            assert gap.inner["partitions"][0]["to_offset"] == 7
            seen = client.blocks.index(gap)
            before = len(named(client.blocks[:seen], "risk_alert"))
            await client.until(before + 10, event="risk_alert")
            assert said(client)[before:] == list(range(100, 110))

    in_virtual_time(main())


def test_a_leader_that_lost_nothing_is_no_gap() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log, metadata_s=1) as node:
            client = node.connect()
            await client.until(2)
            write(log, *range(10))
            await client.until(10, event="risk_alert")
            log._topics[ALERTS].partitions[0].epoch += 1
            await asyncio.sleep(5)
            write(log, 10)
            await client.until(11, event="risk_alert")
            assert said(client) == list(range(11))
            assert not named(client.blocks, "gap")

    in_virtual_time(main())


def test_a_partition_is_let_go_of_a_while_after_its_last_reader() -> None:
    async def main() -> None:
        log = alerts_log(partitions=2)
        async with edge(log, linger_s=30) as node:
            client = node.connect()
            await client.until(2)
            assert len(node.node.tail.windows) == 2
            await node.drop(client)
            await asyncio.sleep(20)
            assert len(node.node.tail.windows) == 2
            await asyncio.sleep(20)
            assert not node.node.tail.windows
            write(log, 1)
            again = node.connect(start=client.last_id or "")
            await again.until(1, event="risk_alert")
            assert said(again) == [1]

    in_virtual_time(main())


def test_an_entitys_stream_follows_its_partition_alone() -> None:
    async def main() -> None:
        log = alerts_log(partitions=6)
        async with edge(log) as node:
            client = node.connect(one_channel("alerts", {"entity_id": "mine"}))
            await client.until(2)
            assert [one.number for one in node.node.tail.windows] == [log.partition_of(b"mine", 6)]

    in_virtual_time(main())


def test_a_client_that_knows_more_than_its_node_waits_for_the_node() -> None:
    async def main() -> None:
        log = alerts_log(partitions=2)
        async with edge(log) as quick, edge(log) as slow:
            behind = slow.connect()
            await behind.until(2)
            client = quick.connect()
            await client.until(2)
            write(log, 1, 2, partition=1)
            last = (await client.until(2, event="risk_alert"))[-1].id or ""
            again = slow.connect(start=last)
            write(log, 3, partition=0)
            write(log, 4, partition=1)
            await again.until(2, event="risk_alert")
            await behind.until(4, event="risk_alert")
            assert sorted(said(again)) == [3, 4]
            assert sorted(said(behind)) == [1, 2, 3, 4]

    in_virtual_time(main())


def test_a_filter_that_lets_nothing_through_moves_the_cursor_all_the_same() -> None:
    async def main() -> None:
        log = alerts_log()
        log.make(TRAINING)
        stream = many_channels(["alerts", "training"], ["training_progress"])
        async with edge(log, checkpoint_records=100) as node:
            client = node.connect(stream)
            await client.until(2)
            for start in range(0, 10_000, 50):
                write(log, *range(start, start + 50))
                await asyncio.sleep(0.02)
            await asyncio.sleep(1)
            await node.drop(client)
            alerts, _ = node.cursor(stream, client.last_id or "").topics
            assert 10_000 - alerts.offsets[0][1] < 100
            assert len(client.blocks) < 10_000 / 100 * 1.5

    in_virtual_time(main())


def test_what_is_skipped_is_counted() -> None:
    async def main() -> None:
        log = alerts_log()
        async with edge(log) as node:
            client = node.connect()
            await client.until(2)
            log.append(ALERTS, 0, b"p", b"nonsense")
            write(log, 1)
            await client.until(1, event="risk_alert")
            assert node.node.metrics.skipped == {ALERTS: 1}
            metrics = {
                sample.name: sample.value
                for family in node.node.metrics.families(node.node.gauges())
                for sample in family.samples
            }
            assert metrics["tapewire_connections"] == 1
            assert metrics["tapewire_events_sent_total"] == 1
            assert metrics["tapewire_delivery_lag_seconds_count"] == 1
            assert metrics["tapewire_streams_opened_total"] == 1
            assert metrics["tapewire_window_bytes"] > 0
            assert metrics["tapewire_kafka_connected"] == 1
            assert metrics["tapewire_partition_connected"] == 1

    in_virtual_time(main())
