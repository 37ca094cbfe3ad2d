"""A worker of commands is paused for longer than its session, while another has its command."""

import signal
import uuid
from itertools import groupby

import pytest

from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from schemas.events import BacktestProgress, Record
from tests.conftest import World
from tests.support.commands import backtest_command
from tests.support.straight_run import TopicReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180), pytest.mark.usefixtures("tidy_logs")]

STEP_PAUSE_S = 0.3


def attempts(records: list[Record]) -> list[int]:
    """Return the attempt of each event, in the log's order."""
    return [
        record.job.attempt
        for record in records
        if isinstance(record, BacktestProgress) and record.job is not None
    ]


async def test_a_backtester_that_comes_back_cannot_write_into_its_successors_job(
    world: World,
) -> None:
    job = backtest_command(uuid.uuid4().hex, event_time_us=now_us())
    paused = await world.backtester(backtest_step_pause_s=STEP_PAUSE_S)
    async with TopicReader(world, "backtest.events") as reader:
        async with Publisher(world.producer_settings) as publisher:
            await publisher.publish(job)
        await reader.until(lambda records: len(records) >= 3)
        paused.process.send_signal(signal.SIGSTOP)
        await world.backtester(backtest_step_pause_s=STEP_PAUSE_S)
        await reader.until(lambda records: attempts(records).count(2) >= 3)
        paused.process.send_signal(signal.SIGCONT)
        await reader.until(lambda records: any(getattr(at, "ends", False) for at in records))
        await paused.stop()
        # In the same partition, so whatever else was written comes before it.
        last = BacktestProgress(
            backtest_id=job.job_id,
            progress=0.0,
            status="",
            message="",
            results={},
            event_time_us=now_us(),
        )
        async with Publisher(world.producer_settings) as publisher:
            await publisher.publish(last)
        await reader.until(lambda records: last in records)
    # One after the other, and none goes on once the next has begun. There may be a third, since the
    # group divides the partitions anew when the worker is back.
    runs = [attempt for attempt, _ in groupby(attempts(reader.records))]
    assert runs == list(range(1, len(runs) + 1))
    assert len(runs) >= 2
    assert [getattr(at, "ends", False) for at in reader.records].count(True) == 1
    # It hears of its loss from the group, or from the refusal of what it writes.
    assert "stopped in the middle of" in paused.process.log_path.read_text()
