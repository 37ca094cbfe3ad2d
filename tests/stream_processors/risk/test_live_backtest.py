"""The live backtest: exceptions against the forecasts, over the last days."""

from hypothesis import given, strategies as st

from schemas.events import MeasureStatus
from stream_processors.risk.live_backtest import LiveBacktest
from stream_processors.risk.measures import Measurement
from stream_processors.risk.rules import DAYS_JUDGED

FORECAST = Measurement(MeasureStatus.OK, 0.02, 0.03, 0.04, 0.05)
ONLY_95 = Measurement(MeasureStatus.OK, 0.02, 0.03)

losses = st.lists(st.sampled_from([0.0, 0.02, 0.03, 0.04, 0.05]), max_size=400)


def backtest_of(days: list[float], packed: dict[str, str] | None = None) -> LiveBacktest:
    backtest = LiveBacktest(packed)
    for loss in days:
        backtest.add(FORECAST, -loss)
    return backtest


@given(losses)
def test_an_exception_is_a_loss_above_the_forecast_in_the_last_days(days: list[float]) -> None:
    backtest = backtest_of(days)
    judged = days[-DAYS_JUDGED:]
    events = list(backtest.events())
    expected = [
        (0.95, len(judged), sum(loss > 0.02 for loss in judged)),
        (0.99, len(judged), sum(loss > 0.04 for loss in judged)),
    ]
    found = [(event.confidence, event.observations, event.exceptions) for event in events]
    assert found == (expected if days else [])
    enough = len(days) >= DAYS_JUDGED
    assert backtest.exceptions_99 == (expected[1][2] if enough else None)


@given(losses, losses)
def test_a_packed_backtest_continues_where_it_stopped(
    before: list[float], after: list[float]
) -> None:
    restored = backtest_of(after, backtest_of(before).pack())
    straight = backtest_of([*before, *after])
    assert restored.pack() == straight.pack()
    assert list(restored.events()) == list(straight.events())


def test_a_level_without_a_forecast_has_no_day() -> None:
    backtest = LiveBacktest()
    backtest.add(ONLY_95, -0.1)
    assert [event.confidence for event in backtest.events()] == [0.95]
    assert backtest.pack() == {"0.95": "x", "0.99": ""}
