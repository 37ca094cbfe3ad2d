"""The states of processors: what earlier versions wrote, and what later ones may fill in."""

from array import array
from typing import Any

from schemas.codec import decode, encode
from schemas.events import CandleState, ForecastSeries, OpenAlert, PortfolioState, SeriesState
from stream_processors.risk.window import ReturnWindow
from tests.schemas.test_codec import written_as


def test_states_of_the_first_release_have_no_tenant_and_no_forecasts() -> None:
    series: dict[str, Any] = {"root": "fund", "series_id": "IBM", "window": b"", "observations": 0}
    candles: dict[str, Any] = {
        "symbol": "BTC",
        "next": 3,
        "watermark_us": 7,
        "forming": [],
        "late": 1,
    }
    alert: dict[str, Any] = {
        "alert_id": "a",
        "entity_id": "p",
        "alert_type": "var_exceeded",
        "state": "raised",
        "severity": "high",
        "message": "",
        "acknowledged": False,
        "event_time_us": 0,
    }
    assert decode(written_as("SeriesState", 0, series)) == SeriesState(**series, carried=[])
    assert decode(written_as("CandleState", 0, candles)) == CandleState(**candles)
    assert decode(written_as("OpenAlert", 0, alert)) == OpenAlert(**alert)
    written = {"portfolio_id": "p", "offset": 3, "index": 0, "window": b"", "outcomes": {}}
    portfolio = decode(written_as("PortfolioState", 2, written))
    assert isinstance(portfolio, PortfolioState)
    assert (portfolio.tenant, portfolio.backtest_days, portfolio.forecasts) == (None, None, [])


def test_a_state_can_keep_the_forecast_of_each_day_by_method_and_confidence() -> None:
    """A day whose return is corrected is judged again by the forecast that stood before it."""
    times_us, values = [1, 2, 3], [0.01, -0.04, 0.02]
    var, es = array("d", [0.02, 0.03, 0.03]), array("d", [0.03, 0.04, 0.04])
    days = array("q", times_us).tobytes() + array("d", values).tobytes()
    state = PortfolioState(
        portfolio_id="p",
        offset=0,
        index=0,
        backtest_days=days,
        forecasts=[
            ForecastSeries("historical", confidence, var.tobytes(), es.tobytes())
            for confidence in (0.95, 0.99)
        ],
    )
    kept = decode(encode(state))
    assert isinstance(kept, PortfolioState)
    assert kept.backtest_days is not None
    assert [list(column) for column in ReturnWindow.unpack(kept.backtest_days, 3)[:2]] == [
        times_us,
        values,
    ]
    at_95, at_99 = kept.forecasts
    forecast_var = array("d", at_95.var)
    exceptions = [-value > limit for value, limit in zip(values, forecast_var, strict=True)]
    assert exceptions == [False, True, False]
    assert (at_99.method, at_99.confidence, array("d", at_99.es)) == ("historical", 0.99, es)
