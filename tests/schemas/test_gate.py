"""The gate: what passes it, and why the rest does not."""

from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from producers.progress import dashboard_update
from schemas.bounds import JSON_DEPTH_MAX, NAME_CHARS_MAX
from schemas.codec import encode
from schemas.errors import OutOfBounds, Refused, TooFarAhead, Unexpected
from schemas.events import (
    AlertAck,
    Record,
    Return,
    ReturnBatch,
    RiskAlert,
    TrainingProgress,
    UserUpdate,
)
from schemas.gate import AHEAD_US, admit, admit_or_none, paced_max
from schemas.registry import field_names
from schemas.topics import REGISTRY
from tests.support.strangers import by_schema, encoded, within_bounds

KINDS = [registration.record for registration in REGISTRY]
DAY_US = 86_400_000_000

PROGRESS = TrainingProgress(
    task_id="t", progress=1.0, status="odd", message="", metrics={}, event_time_us=10 * DAY_US
)


def test_what_is_within_its_bounds_passes() -> None:
    assert admit(encode(PROGRESS)) == PROGRESS
    assert admit(encode(PROGRESS), AlertAck, TrainingProgress) == PROGRESS
    assert admit_or_none(TrainingProgress, encode(PROGRESS)) == PROGRESS
    assert admit_or_none(AlertAck, encode(PROGRESS)) is None


def test_a_record_of_another_class_is_refused() -> None:
    with pytest.raises(Unexpected, match="expected AlertAck or RiskAlert, found TrainingProgress"):
        admit(encode(PROGRESS), AlertAck, RiskAlert)


def test_a_time_far_ahead_of_the_log_is_refused_unless_the_logs_time_is_unknown() -> None:
    value = encode(PROGRESS)
    assert admit(value, logged_us=10 * DAY_US - int(AHEAD_US)) == PROGRESS
    assert admit(value, logged_us=0) == admit(value, logged_us=-1) == PROGRESS
    assert admit(value, logged_us=DAY_US, ahead_us=9 * DAY_US) == PROGRESS
    with pytest.raises(TooFarAhead, match="event_time_us is 1970-01-11T00:00:00Z; the log got it"):
        admit(value, logged_us=DAY_US)


def test_a_lap_is_at_most_the_seconds_since_2020_so_that_a_higher_one_can_always_follow() -> None:
    def batch(lap: int) -> bytes:
        return encode(ReturnBatch(returns=[], lap=lap))

    logged_us = 20_700 * DAY_US  # in the year 2026
    most = paced_max(logged_us)
    highest = admit(batch(most), ReturnBatch, logged_us=logged_us)
    with pytest.raises(OutOfBounds, match=f"lap is {most + 1}; it grows by at most one a second"):
        admit(batch(most + 1), logged_us=logged_us)
    later_us = logged_us + 1_000_000
    assert admit(batch(highest.lap + 1), ReturnBatch, logged_us=later_us).lap == most + 1
    for unknown_us in (0, -1):
        assert admit(batch(paced_max(0)), ReturnBatch, logged_us=unknown_us).lap == paced_max(0)
        with pytest.raises(OutOfBounds):
            admit(batch(2**31 - 1), logged_us=unknown_us)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("task_id", "n" * (NAME_CHARS_MAX + 1), "task_id is 'nnn.*at most 256 characters"),
        ("progress", float("nan"), "progress is nan: it must be a finite number"),
        ("progress", 101.0, "progress is 101.0: it must be less than or equal to 100"),
        ("event_time_us", 1_700_000_000_000_000_000, "event_time_us is 17000"),
        ("metrics_json", "[" * 1_100 + "]" * 1_100, "recursion limit exceeded"),
        ("metrics_json", "[" * 150 + "]" * 150, f"more than {JSON_DEPTH_MAX} levels deep"),
        ("metrics_json", "{", "EOF while parsing"),
        ("metrics_json", '"\\ud800"', "metrics_json is"),
    ],
)
def test_a_field_out_of_its_bounds_is_refused_by_name(field: str, value: Any, error: str) -> None:
    fields = {name: getattr(PROGRESS, name) for name in field_names(TrainingProgress)}
    with pytest.raises(OutOfBounds, match=error):
        admit(encoded(TrainingProgress, fields | {field: value}))


def test_the_long_id_of_a_portfolio_is_refused_with_its_batch() -> None:
    with pytest.raises(OutOfBounds, match="a portfolio's id has 257 characters"):
        encode(ReturnBatch(returns=[Return("p" * 257, 1, 0.5)]))


def test_an_event_is_checked_before_it_is_written() -> None:
    with pytest.raises(OutOfBounds, match=r"data is '\{': EOF"):
        encode(UserUpdate(user_id="u", kind="update", data="{", event_time_us=0))


def test_figures_of_a_dashboard_with_more_names_than_an_event_holds_are_refused() -> None:
    names = [f"{number:03}".ljust(250, "\U0001f600") for number in range(11)]
    assert encode(dashboard_update(dict.fromkeys(names[:10], 1.0), now_us=0))
    with pytest.raises(OutOfBounds, match="the names of 11 values would take 65"):
        encode(dashboard_update(dict.fromkeys(names, 1.0), now_us=0))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_has_a_bound(kind: type[Record]) -> None:
    """A text, a number or a list without one would let in whatever a stranger writes."""
    assert _unbounded(kind) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_whatever_a_schema_allows_passes_or_is_refused(
    kind: type[Record], data: st.DataObject
) -> None:
    value = data.draw(by_schema(kind))
    try:
        record = admit(value, kind, logged_us=DAY_US)
    except Refused as error:
        assert str(error)  # noqa: PT017  # either outcome is right
    else:
        assert admit(encode(record)) == record or "nan" in repr(record)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_what_is_within_all_bounds_can_be_written_again(
    kind: type[Record], data: st.DataObject
) -> None:
    record = admit(data.draw(within_bounds(kind)), kind)
    assert admit(encode(record), kind) == record or "nan" in repr(record)


def _unbounded(kind: type[Any]) -> list[str]:
    """Return the fields of a class, and of those inside it, that have a type without a bound."""
    hints = get_type_hints(kind, include_extras=True)
    return [f"{kind.__name__}.{name}" for name in field_names(kind) if not _is_bounded(hints[name])]


def _is_bounded(hint: Any) -> bool:
    if hint in (bool, type(None)):
        return True
    if hasattr(hint, "__metadata__"):
        inner = get_args(hint)[0]
        return all(map(_is_bounded, get_args(inner)))
    if field_names(hint):
        return not _unbounded(hint)
    return bool(get_args(hint)) and all(map(_is_bounded, get_args(hint)))
