"""The processors that follow tasks and jobs, run without Kafka."""

import time
from dataclasses import replace

from schemas.events import (
    BacktestProgress,
    JobState,
    JobStep,
    StoryState,
    TaskStep,
    TrainingProgress,
    WindowTally,
)
from schemas.topics import (
    BACKTEST_EVENTS,
    BACKTEST_JOBS,
    DASHBOARD_TALLIES,
    TRAINING_EVENTS,
    TRAINING_TASKS,
)
from stream_processors.agents.lifecycle import job_state, lifecycles, task_state
from tests.support.messages import message
from tests.support.processor_bench import NUMBER, ProcessorBench


def progress(task_id: str, status: str, stage: str) -> TrainingProgress:
    return TrainingProgress(
        task_id=task_id,
        progress=0.0,
        status=status,
        message="",
        metrics={},
        event_time_us=0,
        task=TaskStep(stage=stage),
    )


def job(kind: str) -> BacktestProgress:
    return BacktestProgress(
        backtest_id="J",
        progress=0.0,
        status="running",
        message="",
        results={},
        event_time_us=0,
        job=JobStep(kind=kind, symbol="IBM", strategy="rsi"),
    )


async def test_states_are_written_with_the_gauges_of_the_round() -> None:
    bench = ProcessorBench(lifecycles()[0])
    journal = await bench.run(
        [
            message(TRAINING_EVENTS, progress("A", "started", "PENDING"), 0, tenant="acme"),
            message(TRAINING_EVENTS, progress("B", "started", "PENDING"), 1, tenant="acme"),
            message(TRAINING_EVENTS, progress("A", "completed", "SUCCESS"), 2, tenant="acme"),
        ],
    )
    states = {state.subject: state for state in journal.sent(TRAINING_TASKS, StoryState)}
    assert (states["A"].first_offset, states["A"].last_offset, states["A"].ended) == (0, 2, True)
    assert (states["B"].status, states["B"].tenant) == ("PENDING", "acme")
    [gauges] = journal.sent(DASHBOARD_TALLIES, WindowTally)
    assert gauges.gauges == {"tasks_pending": 1, "tasks_success": 1}
    assert set(journal.order) == {TRAINING_TASKS.name, DASHBOARD_TALLIES.name}


async def test_words_of_producers_own_share_a_gauge() -> None:
    bench = ProcessorBench(lifecycles()[0])
    runs = [replace(progress(f"{number}", f"epoch {number}", ""), task=None) for number in range(3)]
    journal = await bench.run(
        [message(TRAINING_EVENTS, run, offset) for offset, run in enumerate(runs)]
    )
    assert [state.status for state in journal.sent(TRAINING_TASKS, StoryState)] == [
        "epoch 0",
        "epoch 1",
        "epoch 2",
    ]
    [gauges] = journal.sent(DASHBOARD_TALLIES, WindowTally)
    assert gauges.gauges == {"tasks_other": 3}


async def test_a_removed_job_is_deleted_and_no_longer_counted() -> None:
    bench = ProcessorBench(lifecycles()[1])
    await bench.run([message(BACKTEST_EVENTS, job("submitted"), 0)])
    [state] = bench.journal.sent(BACKTEST_JOBS, JobState)
    assert state.status == "pending"
    journal = await bench.run([message(BACKTEST_EVENTS, job("removed"), 1)])
    assert journal.rows[BACKTEST_JOBS.name, b"J"] is None
    [gauges] = journal.sent(DASHBOARD_TALLIES, WindowTally)
    assert gauges.gauges == {"jobs_pending": 0}


def test_an_event_of_another_kind_changes_no_state() -> None:
    received = message(TRAINING_EVENTS, progress("A", "started", "PENDING"))
    assert task_state(None, job("submitted"), received) is None
    assert job_state(None, progress("A", "started", "PENDING"), received) is None


async def test_runs_that_the_log_has_deleted_by_their_age_are_forgotten() -> None:
    """A worker that runs for a year holds the runs of a week, and counts no others."""
    [lifecycle, _] = lifecycles()
    bench = ProcessorBench(lifecycle)
    for day in range(20):
        at_s = 86_400.0 * day
        for number in range(3):
            ended = progress(f"{day}-{number}", "completed", "SUCCESS")
            await bench.run(
                [message(TRAINING_EVENTS, ended, 3 * day + number)._replace(timestamp=at_s)]
            )
    assert len(lifecycle._runs[NUMBER]) == len(lifecycle._changed_us[NUMBER]) == 3 * 8
    tally = bench.journal.sent(DASHBOARD_TALLIES, WindowTally)[-1]
    assert tally.gauges == {"tasks_success": 3 * 8}


async def test_runs_of_before_a_restart_are_forgotten_too() -> None:
    bench = ProcessorBench(lifecycles()[0])
    await bench.run([message(TRAINING_EVENTS, progress("A", "started", "PENDING"), 0)])
    rows = bench.rows()
    [lifecycle, _] = lifecycles()
    again = ProcessorBench(lifecycle, rows)
    late = message(TRAINING_EVENTS, progress("B", "started", "PENDING"), 1)
    await again.run([late._replace(timestamp=time.time() + 6 * 86_400)])
    assert set(lifecycle._runs[NUMBER]) == {b"A", b"B"}
    await again.run([late._replace(timestamp=time.time() + 8 * 86_400, offset=2)])
    assert set(lifecycle._runs[NUMBER]) == {b"B"}


def test_rows_get_the_offsets_of_their_events_in_a_copy_of_the_log() -> None:
    follower = lifecycles()[0]
    rows = {
        task.encode(): StoryState(
            subject=task, status=status, partition=0, first_offset=80, last_offset=95, ended=ended
        )
        for task, status, ended in (
            ("A", "SUCCESS", True),
            ("B", "PENDING", False),
            ("C", "", True),
        )
    }
    events = [
        progress("A", "started", "PENDING"),
        progress("B", "started", "PENDING"),
        progress("A", "completed", "SUCCESS"),
        progress("A", "running", "PENDING"),  # of a worker that was taken for dead
    ]
    copied = [(message(TRAINING_EVENTS, event, at), event) for at, event in enumerate(events)]
    relocated = follower.relocated(rows, copied)
    assert relocated == {
        b"A": replace(rows[b"A"], first_offset=0, last_offset=2),
        b"B": replace(rows[b"B"], first_offset=1, last_offset=1),
        b"C": None,
    }
