"""Windows: their content does not depend on the order of arrival, and survives packing."""

from math import inf, nan

import pytest
from hypothesis import given, settings, strategies as st

from schemas.events import Return, ReturnOutcome
from stream_processors.risk.confidence import InvalidInput
from stream_processors.risk.moments import RunningMoments
from stream_processors.risk.window import APPLIED, ReturnWindow

values = st.floats(-0.5, 0.5)
arrivals = st.lists(st.tuples(st.integers(0, 40), values, st.integers(1, 3)), max_size=120)


def observed(at_us: int, value: float, version: int = 1) -> Return:
    return Return(portfolio_id="p", event_time_us=at_us, value=value, version=version)


def worst_of(window: ReturnWindow) -> list[float]:
    """Return all returns of a window, the worst first."""
    return list(window.worst(len(window)))


@given(arrivals, st.integers(1, 20))
@settings(max_examples=200)
def test_the_content_does_not_depend_on_the_order_of_arrival(
    arrived: list[tuple[int, float, int]], size: int
) -> None:
    """With a lateness that covers everything; equal instants and versions carry equal values."""
    known: dict[tuple[int, int], float] = {}
    returns = [
        observed(at, known.setdefault((at, version), value), version)
        for at, value, version in arrived
    ]
    newest: dict[int, Return] = {}
    for observation in returns:
        other = newest.get(observation.event_time_us, observation)
        newest[observation.event_time_us] = max(
            observation, other, key=lambda candidate: candidate.version
        )
    expected = [newest[at].value for at in sorted(newest)]
    window = ReturnWindow(10_000, with_moments=True)
    for observation in returns:
        window.add(observation, lateness_us=10**9)
    assert list(window.values) == expected
    assert worst_of(window) == sorted(expected)
    if len(expected) > 1:
        assert window.moments is not None
        assert window.moments.moments() == RunningMoments(expected).moments()
    restored = ReturnWindow.restore(size, window.times_us, window.values, window.versions)
    assert list(restored.values) == expected[-size:]


@given(arrivals, st.integers(1, 20))
def test_a_packed_window_is_unpacked_as_it_was(
    arrived: list[tuple[int, float, int]], size: int
) -> None:
    window = ReturnWindow(size)
    for at, value, version in arrived:
        window.add(observed(at, value, version), lateness_us=10**9)
    columns = ReturnWindow.unpack(window.pack(), len(window))
    restored = ReturnWindow.restore(size, *columns)
    assert (restored.times_us, restored.values) == (window.times_us, window.values)
    assert (restored.versions, worst_of(restored)) == (window.versions, worst_of(window))
    assert restored.pack() == window.pack()


@given(st.lists(values, min_size=1, max_size=80), st.integers(1, 30))
def test_a_rolling_window_holds_its_last_observations(many: list[float], size: int) -> None:
    window = ReturnWindow(size)
    for at, value in enumerate(many):
        assert window.add(observed(at, value), lateness_us=0) in APPLIED
        if len(many[: at + 1]) > size:
            assert window.lowest_moved == min(value, many[at - size])
    assert list(window.values) == many[-size:]
    assert worst_of(window) == sorted(many[-size:])


def test_outcomes_are_decided_in_this_order() -> None:
    window = ReturnWindow(250)
    add = window.add
    assert add(observed(100, 0.1), lateness_us=10) is ReturnOutcome.ACCEPTED
    assert add(observed(100, 0.1), lateness_us=10) is ReturnOutcome.DUPLICATE
    assert add(observed(101, nan), lateness_us=10) is ReturnOutcome.REJECTED
    assert add(observed(101, inf), lateness_us=10) is ReturnOutcome.REJECTED
    assert add(observed(89, 0.1), lateness_us=10) is ReturnOutcome.LATE
    assert add(observed(90, 0.2), lateness_us=10) is ReturnOutcome.ACCEPTED
    assert add(observed(100, 0.3, 2), lateness_us=10) is ReturnOutcome.CORRECTED
    assert add(observed(100, 0.4, 1), lateness_us=10) is ReturnOutcome.DUPLICATE
    assert list(window.times_us) == [90, 100]
    assert list(window.values) == [0.2, 0.3]


def test_of_equal_returns_the_scenario_is_the_latest() -> None:
    window = ReturnWindow(250)
    for at, value in enumerate([0.01, -0.07, -0.07, -0.09]):
        window.add(observed(at, value), lateness_us=0)
    assert window.scenario_us(0.07) == 2


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(InvalidInput, match="size is 0"):
        ReturnWindow(0)


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        (([1, 2], [0.5], [1]), "has 2 times, 1 values and 1 versions"),
        (([2, 1], [0.5, 0.5], [1, 1]), "do not ascend"),
        (([1, 2], [0.5, nan], [1, 1]), "not a finite number"),
    ],
)
def test_columns_that_are_no_window_are_refused(
    columns: tuple[list[int], list[float], list[int]], error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        ReturnWindow.restore(10, *columns)


def test_bytes_that_are_no_window_are_refused() -> None:
    with pytest.raises(ValueError, match="17 bytes are no window of 1 observations"):
        ReturnWindow.unpack(bytes(17), 1)
