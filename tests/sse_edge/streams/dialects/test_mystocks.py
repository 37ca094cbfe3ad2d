"""Fields that explain an alert or a measure are shown where they are set, and not otherwise."""

from dataclasses import replace

from schemas.events import RiskAlert, RiskMeasure
from sse_edge.streams.dialects.mystocks import risk_alert, risk_measure
from sse_edge.streams.examples import ALERTS, MEASURES


def test_an_alert_shows_its_measure_its_limits_and_its_acknowledgement() -> None:
    plain = ALERTS[0]
    assert isinstance(plain, RiskAlert)
    alert = replace(
        plain,
        acknowledged=True,
        cause="passive",
        limits_version="2026-11-29T22:00:00Z",
        limit_until_us=1_000_000,
        supersedes="m0",
        window_first_us=0,
        window_last_us=1_000_000,
        corrections=0,
    )
    shown = {
        name: value
        for name, value in risk_alert(alert).data.items()
        if name not in risk_alert(plain).data
    }
    assert shown == {
        "acknowledged": True,
        "cause": "passive",
        "limits_version": "2026-11-29T22:00:00Z",
        "limit_until": "1970-01-01T00:00:01Z",
        "supersedes": "m0",
        "window_first": "1970-01-01T00:00:00Z",
        "window_last": "1970-01-01T00:00:01Z",
        "corrections": 0,
    }


def test_a_measure_with_corrections_says_that_no_forecast_is_restated() -> None:
    plain = MEASURES[0]
    assert isinstance(plain, RiskMeasure)
    [test] = risk_measure(replace(plain, corrections=2)).data["model_backtests"]
    assert test["restated"] is False
    [test] = risk_measure(plain).data["model_backtests"]
    assert "restated" not in test
