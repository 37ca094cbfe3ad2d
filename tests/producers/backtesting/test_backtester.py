import json
from collections.abc import Callable

import pytest

from kafka_io.command_window import Attempts
from kafka_io.settings import ProducerSettings
from producers.backtesting.backtester import Job
from producers.errors import WorkStopped
from producers.market.prices import load_bars
from producers.settings import BacktesterSettings
from schemas.events import BacktestProgress, BarChunk
from tests.support.commands import FIRST, MemoryCommand, backtest_command

PACKAGED = load_bars()


def run(
    received: MemoryCommand,
    *,
    symbol: str = "IBM",
    attempt: int = 1,
    earlier: Attempts = FIRST,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> list[BacktestProgress]:
    command = backtest_command("J", symbol)
    job = Job(
        received.received(command, is_cancelled, earlier=earlier),
        command,
        attempt,
        PACKAGED,
        ProducerSettings(),
        BacktesterSettings(),
    )
    try:
        job.run()
    finally:
        steps = [event for event in received.events if isinstance(event, BacktestProgress)]
    return steps


def test_a_job_writes_its_bars_then_its_steps_and_ends_with_a_summary() -> None:
    received = MemoryCommand()
    steps = run(received)
    assert isinstance(received.events[0], BarChunk)
    assert sum(len(event.bars) for event in received.events if isinstance(event, BarChunk)) > 250
    last = steps[-1]
    assert last.job is not None
    assert (last.job.kind, last.status, last.ends) == ("completed", "completed", True)
    summary = json.loads(last.job.data or "")
    assert summary["start_date"] >= "2008-01-01"
    assert summary["equity_curve"][-1]["value"] == pytest.approx(summary["final_value"], abs=0.01)
    orders = [
        order
        for step in steps
        if step.job and step.job.kind == "transaction"
        for order in json.loads(step.job.data or "")
    ]
    assert len(orders) == summary["number_of_trades"] == 1


def test_a_cancelled_job_ends_at_its_next_step() -> None:
    received = MemoryCommand()
    steps = run(received, is_cancelled=lambda: len(received.events) > 4)
    assert steps[-1].job is not None
    assert (steps[-1].job.kind, steps[-1].status) == ("cancelled", "failed")
    assert len(steps) < 10


def test_a_job_that_another_worker_has_writes_nothing_more() -> None:
    received = MemoryCommand(events_max=3)
    with pytest.raises(WorkStopped):
        run(received)
    assert len(received.events) == 3


def test_a_job_that_lost_three_workers_is_given_up() -> None:
    (only,) = run(MemoryCommand(), attempt=4)
    (unseen,) = run(MemoryCommand(), earlier=Attempts(1, 4))  # which wrote no events
    assert unseen.message == only.message
    assert only.message == "given up: 3 workers were lost on it; ask for it again"
    assert only.ends


def test_a_job_of_workers_that_were_asked_to_stop_goes_on() -> None:
    assert run(MemoryCommand(), attempt=4, earlier=Attempts(1, 3))[-1].status == "completed"
