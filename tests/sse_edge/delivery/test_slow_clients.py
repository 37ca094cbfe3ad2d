import asyncio

import pytest

from sse_edge.delivery.options import SlowClientPolicy
from sse_edge.streams.requests import one_channel
from tests.support.edge import TRAINING, alerts_log, numbers, progress, running_edge, write_alerts
from tests.support.fake_log import FakeLog
from tests.support.sse import named

pytestmark = pytest.mark.virtual_time


async def test_a_slow_client_keeps_its_position_and_delays_no_other() -> None:
    log = alerts_log()
    async with running_edge(log, window_bytes_max=20_000) as edge:
        slow, quick = edge.connect(), edge.connect()
        await slow.until(2)
        await quick.until(2)
        slow.stall()
        write_alerts(log, *range(500))
        await quick.until(500, event="risk_alert")
        window = next(iter(edge.node.tail.windows.values()))
        assert window.bytes <= 20_000
        assert window.start > 400
        assert not slow.messages
        slow.read_on()
        await slow.until(500, event="risk_alert")
        assert numbers(slow) == numbers(quick) == list(range(500))


async def test_a_conflating_client_gets_the_newest_of_each_key_and_how_many_were_merged() -> None:
    log = FakeLog()
    log.make(TRAINING)
    async with running_edge(log) as edge:
        client = edge.connect(one_channel("training", {}), slow=SlowClientPolicy.CONFLATE)
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
        assert sum(block.inner["merged"] for block in named(client.blocks, "conflated")) == 94
        assert all(block.id is None for block in named(client.blocks, "conflated"))
        log.append(TRAINING, 0, b"t", progress("t", 50.0))
        log.append(TRAINING, 0, b"t", progress("t", 51.0))
        await client.until(5, event="training_progress")
        assert edge.node.metrics.merged == 94


async def test_a_slow_client_with_the_close_policy_is_closed_and_resumes_at_its_cursor() -> None:
    log = alerts_log()
    async with running_edge(log, slow_close_s=10) as edge:
        slow, patient = edge.connect(slow=SlowClientPolicy.CLOSE), edge.connect()
        for client in (slow, patient):
            await client.until(2)
            client.stall()
        write_alerts(log, *range(5))
        await asyncio.sleep(60)
        assert slow.over or edge._open[slow].done()
        assert not edge._open[patient].done()
        assert edge.node.metrics.slow_closes == 1
        again = edge.connect(start=slow.last_id or "")
        await again.until(5, event="risk_alert")
        assert numbers(again) == list(range(5))
