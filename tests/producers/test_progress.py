import json
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
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.render import render_value


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
        ({"status": ""}, "status is ''; it must be a text of 1 to 256"),
        ({"status": 3}, "status is 3; it must be a text of 1 to 256"),
        ({"message": "\ud800"}, "message holds half a surrogate pair at character 0"),
        ({"metrics": {"loss": inf}}, r"metrics\['loss'\] is inf; it must be a finite number"),
        ({"metrics": {3: 0.5}}, "a name in metrics is 3; it must be a text"),
        ({"metrics": {"a": [nan]}}, "metrics cannot be encoded as JSON: Out of range float"),
        ({"metrics": {"a": {1, 2}}}, r"metrics cannot be encoded as JSON: \{1, 2\} is no value"),
        ({"metrics": ["\ud800"]}, "metrics cannot be encoded as JSON: .* surrogates"),
        ({"metrics": "x" * 60_000}, "metrics has 60,002 bytes as JSON; at most 51,998 fit"),
    ],
)
def test_a_wrong_argument_is_named_with_what_would_be_right(
    wrong: dict[str, object], named: str
) -> None:
    right: dict[str, object] = {"task_id": "t", "progress": 1.0, "status": "running"}
    with pytest.raises(InvalidReport, match=named):
        training_progress(**(right | wrong), now_us=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ({"loss": 0.5, "confusion": [[9, 1], [0, 8]], "best": None}, {"loss": 0.5}),
        ({"stopped": True, "optimizer": {"name": "adam", "steps": 3}}, {}),
        ({"n": 2**60 + 1}, {"n": float(2**60)}),
        ([1, 2.5, "three"], {}),
        ("a text", {}),
        (False, {}),
        ({"": 1, "b": []}, {"": 1.0}),
        ({"emoji": "\U0001f600"}, {}),
    ],
)
def test_any_json_value_is_taken_and_its_numbers_stay_numbers(
    given: object, numbers: dict[str, float]
) -> None:
    event = training_progress("t", 1, "running", metrics=given, now_us=0)
    assert event.metrics == numbers
    assert decode(encode(event)) == event
    assert event.all_metrics == given
    backtest = backtest_progress("b", 1, "running", results=given, now_us=0)
    assert (backtest.results, backtest.all_results) == (numbers, given)
    assert decode(encode(backtest)) == backtest


def test_numbers_alone_are_sent_as_before() -> None:
    event = training_progress("t", 1, "running", metrics={"loss": 0.5, "epoch": 3}, now_us=0)
    assert (event.metrics, event.metrics_json) == ({"loss": 0.5, "epoch": 3.0}, None)
    assert training_progress("t", 1, "running", now_us=0).all_metrics == {}


def test_arrays_and_truth_values_of_numpy_are_json_values() -> None:
    metrics = {"curve": np.array([1.0, 2.0]), "is_best": np.bool_(1), "n": np.int64(3)}
    event = training_progress("t", 1, "running", metrics=metrics, now_us=0)
    assert event.metrics == {"n": 3.0}
    assert event.all_metrics == {"curve": [1.0, 2.0], "is_best": True, "n": 3}


def test_an_unknown_status_is_passed_on_and_ends_nothing() -> None:
    event = training_progress("t", 1, "Paused", now_us=0)
    assert (event.status, event.ends) == ("Paused", False)
    assert backtest_progress("b", 1, "warming up", now_us=0).status == "warming up"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_whatever_is_taken_reaches_clients_as_it_was(value: object) -> None:
    try:
        event = training_progress("t", 1, "running", metrics=value, now_us=0)
    except InvalidReport:
        return
    frame = render_value(CHANNELS["training"], encode(event), 0)
    assert frame is not None
    data = json.loads(frame.body.decode().partition("data: ")[2])["data"]
    assert data["metrics"] == ({} if value is None else value)


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
