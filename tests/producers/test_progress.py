from math import inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from kafka_io.errors import InvalidReport
from producers.progress import (
    backtest_progress,
    dashboard_update,
    risk_alert,
    training_progress,
)
from schemas.codec import decode, encode


def test_a_report_becomes_an_event() -> None:
    event = training_progress("t", 40, "running", "epoch 4", {"loss": 0.5}, now_us=7)
    assert event.progress == 40.0
    assert event.metrics == {"loss": 0.5}
    assert decode(encode(event)) == event


def test_numpy_numbers_are_numbers() -> None:
    progress: Any = np.float32(50)
    metrics: Any = {"n": np.int64(3)}
    event = training_progress("t", progress, "running", "", metrics, now_us=0)
    assert decode(encode(event)) == event


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"task_id": ""}, "task_id is ''; it must be a text of 1 to 256"),
        ({"task_id": "x" * 257}, "task_id is .* it must be a text of 1 to 256"),
        ({"progress": 100.1}, r"progress is 100\.1; it must be from 0 to 100"),
        ({"progress": nan}, "progress is nan; it must be a finite number"),
        ({"progress": "40"}, "progress is '40'; it must be a number"),
        ({"status": "done"}, "status is 'done'; it must be one of started, running"),
        ({"message": "\ud800"}, "message holds half a surrogate pair at character 0"),
        ({"metrics": {"loss": inf}}, r"metrics\['loss'\] is inf; it must be a finite number"),
        ({"metrics": {str(i): i for i in range(65)}}, "metrics must map at most 64 names"),
    ],
)
def test_a_wrong_argument_is_named_with_what_would_be_right(
    wrong: dict[str, object], named: str
) -> None:
    right: dict[str, object] = {"task_id": "t", "progress": 1.0, "status": "running"}
    with pytest.raises(InvalidReport, match=named):
        training_progress(**(right | wrong), now_us=0)  # type: ignore[arg-type]


def test_a_backtests_day_must_be_one() -> None:
    event = backtest_progress("b", 1, "running", "", "2008-10-10", {}, now_us=0)
    assert event.current_date == "2008-10-10"
    with pytest.raises(InvalidReport, match=r"current_date is '10\.10\.2008'; it must be a day"):
        backtest_progress("b", 1, "running", "", "10.10.2008", {}, now_us=0)


def test_a_reported_alert_has_ids_that_derive_from_what_it_is_about() -> None:
    def made(now_us: int) -> tuple[str, str]:
        event = risk_alert("margin", "high", "m", "used", 0.9, 0.8, "desk", "rates", now_us=now_us)
        return event.alert_id, event.transition_id

    assert made(1) == made(1)
    assert made(1) != made(2)


@given(st.dictionaries(st.text("abc", min_size=1), st.floats(allow_nan=False, width=32)))
def test_no_event_ever_holds_what_json_cannot(values: dict[str, float]) -> None:
    finite = all(abs(value) != inf for value in values.values())
    try:
        event = dashboard_update(values, now_us=0)
    except InvalidReport:
        assert not finite or len(values) > 64
    else:
        assert finite
        assert event.values == values
