from dataclasses import replace

import pytest

from schemas.codec import encode
from schemas.events import BacktestProgress, JobStep
from sse_edge.frame import FRAME_BYTES_MAX, with_id
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialect import UnknownWord
from sse_edge.streams.dialects.backtest import step
from sse_edge.streams.render import render_value
from tests.support.sse import Reader


def event(kind: str | None, status: str = "running", data: str | None = None) -> BacktestProgress:
    job = None if kind is None else JobStep(kind=kind, symbol="IBM", strategy="rsi", data=data)
    return BacktestProgress(
        backtest_id="J",
        progress=40.0,
        status=status,
        message="text",
        results={"sharpe": 1.5},
        event_time_us=0,
        job=job,
    )


@pytest.mark.parametrize(
    ("kind", "name", "ends"),
    [
        ("submitted", "progress", False),
        ("progress", "progress", False),
        ("transaction", "transaction", False),
        ("completed", "completed", True),
        ("failed", "failed", True),
        ("cancelled", "cancelled", True),
    ],
)
def test_each_step_has_an_event_of_the_dialect(kind: str, name: str, ends: bool) -> None:  # noqa: FBT001
    rendered = step(event(kind))
    assert rendered is not None
    assert (rendered.event, rendered.ends) == (name, ends)


@pytest.mark.parametrize("kind", ["cancel_requested", "removed"])
def test_steps_that_only_concern_workers_are_not_sent(kind: str) -> None:
    assert step(event(kind)) is None


def test_a_run_of_the_reporter_api_is_rendered_like_a_job() -> None:
    rendered = step(event(None, "completed"))
    assert rendered is not None
    assert (rendered.event, rendered.data["result_summary"]) == ("completed", {"sharpe": 1.5})


def test_a_word_of_the_reporters_own_and_any_results_are_passed_on() -> None:
    reported = replace(
        event(None, "warming up"), results_json='{"sharpe":1.5,"curve":[1,2]}', results={}
    )
    rendered = step(reported)
    assert rendered is not None
    assert (rendered.event, rendered.ends) == ("progress", False)
    assert rendered.data["status"] == "warming up"
    assert rendered.data["results"] == {"sharpe": 1.5, "curve": [1, 2]}
    finished = step(replace(reported, status="completed"))
    assert finished is not None
    assert finished.data["result_summary"] == {"sharpe": 1.5, "curve": [1, 2]}


def test_a_step_that_clients_do_not_know_has_no_event() -> None:
    with pytest.raises(UnknownWord, match="'rewound' is no step of a job"):
        step(event("rewound"))


@pytest.mark.parametrize("damaged", ["{", "[" * 1_100, '"\\ud800"'])
def test_a_damaged_result_is_null_and_says_why(damaged: str) -> None:
    finished = step(event("completed", data=damaged))
    assert finished is not None
    assert (finished.data["result_summary"], finished.ends) == (None, True)
    assert finished.data["result_error"].startswith("the result cannot be read: ")
    orders = step(event("transaction", data=damaged))
    assert orders is not None
    assert orders.data["transactions"] == []
    assert "result_error" in orders.data


def test_transactions_and_the_summary_are_json_of_the_job() -> None:
    orders = step(event("transaction", data='[{"side": "buy"}]'))
    summary = step(event("completed", data='{"total_return": 0.1}'))
    assert orders is not None
    assert summary is not None
    assert orders.data["transactions"] == [{"side": "buy"}]
    assert summary.data["result_summary"] == {"total_return": 0.1}


@pytest.mark.parametrize("kind", ["completed", "failed", "cancelled"])
def test_the_last_event_of_a_job_fits_whatever_its_message_and_result_are(kind: str) -> None:
    wide = "\U0001f600"  # twelve bytes in an event
    of_job = event(kind, data=f'{{"text":"{wide * 60_000}"}}')
    last = replace(of_job, backtest_id=wide * 256, message=wide * 16_384)
    frame = render_value(CHANNELS["backtest_job"], encode(last), 0)
    assert frame is not None
    assert frame.ends
    assert len(frame.body) < FRAME_BYTES_MAX
    (block,) = Reader().feed(with_id(frame.body, b"c"))
    assert block.json["message"] == wide * 2_000 + "\u2026"
    if kind == "completed":
        assert block.json["result_summary"] is None
        assert "GET /api/backtesting/jobs" in block.json["result_error"]


def test_a_result_that_fits_is_shown() -> None:
    rendered = step(event("completed", data='{"text":"' + "x" * 60_000 + '"}'))
    assert rendered is not None
    assert "result_error" not in rendered.data
