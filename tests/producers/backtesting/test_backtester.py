import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from kafka_io.command_window import Attempts
from kafka_io.settings import ProducerSettings
from producers.backtesting.backtester import Job
from producers.errors import WorkStopped
from producers.market.prices import load_bars
from producers.settings import BacktesterSettings
from schemas.events import BacktestProgress, BarChunk, Fill
from tests.support.commands import FIRST, MemoryCommand, backtest_command

PACKAGED = load_bars()


def run(
    received: MemoryCommand,
    *,
    symbol: str = "IBM",
    attempt: int = 1,
    earlier: Attempts = FIRST,
    is_cancelled: Callable[[], bool] = lambda: False,
    fill: str = Fill.NEXT_OPEN,
) -> list[BacktestProgress]:
    command = replace(backtest_command("J", symbol), fill=fill, slippage=0.001)
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
    assert (summary["fill"], summary["commission"], summary["slippage"]) == (
        "next_open",
        0.001,
        0.001,
    )
    [buy], bar = orders, [bar for bar in PACKAGED["IBM"] if bar.time >= "2008-01-01"][1]
    assert (buy["time"], buy["price"]) == (bar.time, bar.open * 1.001)
    assert buy["value"] + buy["cost"] + buy["cash"] == pytest.approx(10_000)
    assert buy["cash"] >= 0
    assert last.message.endswith("in 1 orders, filled at the next open")


def test_a_figure_without_a_value_is_null_in_results_and_absent_among_numbers() -> None:
    steps = run(MemoryCommand())
    summary = json.loads(steps[-1].job.data or "") if steps[-1].job else {}
    assert summary["win_rate"] is None
    for step in steps:
        if step.results:
            shown = step.all_results
            assert isinstance(shown, dict)
            assert shown["win_rate"] is None
            assert {name: value for name, value in shown.items() if value is not None} == (
                step.results
            )


def test_a_job_that_fills_at_the_close_says_so() -> None:
    last = run(MemoryCommand(), fill=Fill.CLOSE)[-1]
    summary = json.loads(last.job.data or "") if last.job else {}
    assert summary["fill"] == "close"
    assert last.message.endswith("filled at the close")
    [failed] = run(MemoryCommand(), fill="yesterday")
    assert failed.message == "'yesterday' is no fill; there are next_open, close"


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
