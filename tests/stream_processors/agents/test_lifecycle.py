"""The processors that follow tasks and jobs, run without Kafka."""

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
from tests.support.processor_bench import ProcessorBench


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
