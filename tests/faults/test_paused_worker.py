"""A worker is paused for longer than its session, and comes back while another has its work."""

import asyncio
import signal

import pytest

from schemas.events import RiskAlert
from tests.conftest import World
from tests.support.straight_run import (
    TopicReader,
    assert_as_straight,
    measured_at,
    send_days,
    straight_run,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240), pytest.mark.usefixtures("tidy_logs")]

DAYS = 500
PAUSED_S = 14.0
"""Longer than the session of 10 seconds."""


async def test_a_worker_that_comes_back_from_a_pause_overwrites_nothing(world: World) -> None:
    expected_measures, expected_alerts = straight_run(DAYS)
    end = max(at for _, at in expected_measures)
    portfolios = {name for name, at in expected_measures if at == end}
    async with TopicReader(world, "risk.measures", "risk.alerts") as reader:
        settings = {"batch_within_s": 0.05, "batch_records_max": 3}
        first = await world.worker(worker_id="one", **settings)
        await world.worker(worker_id="two", **settings)
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(send_days(world, 0, DAYS // 2))
            await reader.until(lambda records: len(records) >= 30)
            first.process.send_signal(signal.SIGSTOP)
            await sending
            tasks.create_task(send_days(world, DAYS // 2, DAYS))
            await asyncio.sleep(PAUSED_S)  # as long as the pause lasts
            first.process.send_signal(signal.SIGCONT)
        await reader.until(measured_at(end, portfolios))
        # A successor recovers from what both have written.
        third = await world.worker(worker_id="three", **settings)
        await first.kill()
        await third.stop()
    assert_as_straight(reader.records, expected_measures, expected_alerts)
    steps = [record.transition_id for record in reader.records if isinstance(record, RiskAlert)]
    assert len(steps) == len(set(steps))
