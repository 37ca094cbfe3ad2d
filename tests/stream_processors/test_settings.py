"""Settings: what the environment gives, and values that are refused with an explanation."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from kafka_io.errors import InvalidSetting
from schemas.codec import VALUE_BYTES_MAX, encode
from schemas.events import ForecastSeries, RiskEstimate, RiskLimit
from schemas.instants import LATEST_US
from schemas.topics import TopicPartition
from stream_processors.risk.estimates import METHODS
from stream_processors.risk.forecast_history import FORECASTS_MAX
from stream_processors.risk.portfolio import PortfolioRisk
from stream_processors.settings import WINDOW_MAX, ProcessorSettings


def test_lists_and_limits_are_read_from_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEWIRE_VAR_LIMITS", "AAPL=0.06, IBM=0.035")
    monkeypatch.setenv("TAPEWIRE_RISK_METHODS", "historical, ewma")
    monkeypatch.setenv("TAPEWIRE_RISK_HORIZONS", "1,10")
    monkeypatch.setenv("TAPEWIRE_DASHBOARD_WINDOWS_S", "0.5,5")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2")
    settings = ProcessorSettings()
    assert settings.var_limits == {"AAPL": 0.06, "IBM": 0.035}
    assert (settings.risk_methods, settings.risk_horizons) == (("historical", "ewma"), (1, 10))
    assert settings.dashboard_windows_us() == (500_000, 5_000_000)
    assert settings.bootstrap_servers == "a:1,b:2"


@pytest.mark.parametrize("text", ["AAPL", "=0.05", "AAPL=much", "AAPL=0.1,IBM"])
def test_a_limit_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TAPEWIRE_VAR_LIMITS", text)
    with pytest.raises(
        InvalidSetting, match=r"_VAR_LIMITS is .*no limit; write PORTFOLIO=FRACTION"
    ):
        ProcessorSettings()


@pytest.mark.parametrize("lengths", [(), (0.0,), (2.0, 3.0), (1.0, -1.0), (nan,), (inf,)])
def test_windows_are_positive_multiples_of_the_first(lengths: tuple[float, ...]) -> None:
    with pytest.raises(InvalidSetting, match="TAPEWIRE_DASHBOARD_WINDOWS_S is "):
        ProcessorSettings(dashboard_windows_s=lengths)


def test_a_rebuild_writes_to_topics_under_its_version() -> None:
    settings = ProcessorSettings(topic_prefix="x.", rebuild_version="v2")
    assert settings.written_prefix() == "x.v2."
    assert settings.written_prefix("v3") == "x.v3."
    assert ProcessorSettings(topic_prefix="x.").written_prefix() == "x."


def test_limits_become_rules_of_single_portfolios() -> None:
    settings = ProcessorSettings(var_limit=0.05, var_limits={"AAPL": 0.06}, es_limit=0.07)
    config = settings.risk_config()
    limits = {
        portfolio: {rule.rule_id: rule.limit for rule in config.rules_of(portfolio)}
        for portfolio in ("AAPL", "IBM")
    }
    assert limits == {
        "AAPL": {"var_95": 0.06, "es_95": 0.07},
        "IBM": {"var_95": 0.05, "es_95": 0.07},
    }


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"risk_window": 50}, "_RISK_WINDOW is 50; it must be at least TAPEWIRE_RISK_OBSERVATIO"),
        ({"risk_window": 20_001}, "TAPEWIRE_RISK_WINDOW is 20001; .* from 2 to 20000"),
        ({"risk_observations_min": 251}, "TAPEWIRE_RISK_WINDOW is 250; it must be at least"),
        ({"risk_lateness_s": inf}, "TAPEWIRE_RISK_LATENESS_S is inf; it must be a number from 0"),
        ({"risk_lateness_s": nan}, "TAPEWIRE_RISK_LATENESS_S is nan; it must be a number from 0"),
        ({"risk_ahead_s": -1}, "TAPEWIRE_RISK_AHEAD_S is -1; it must be a number from 0 to"),
        ({"risk_dof": 2}, "TAPEWIRE_RISK_DOF is 2; .* above 2 and at most 1e.15"),
        ({"risk_mean": "median"}, "TAPEWIRE_RISK_MEAN is median; it must be one of sample, zero"),
        ({"risk_ewma_start": -1}, "TAPEWIRE_RISK_EWMA_START is -1; it must be a number from 0"),
        ({"risk_ewma_decay": 1}, "TAPEWIRE_RISK_EWMA_DECAY is 1; .* above 0 and below 1"),
        ({"risk_horizons": (251,)}, "TAPEWIRE_RISK_HORIZONS has 251; a horizon must be at most"),
        ({"risk_horizons": tuple(range(1, 50))}, "TAPEWIRE_RISK_HORIZONS is .* at most 32 items"),
        ({"risk_levels": ("95",)}, "TAPEWIRE_RISK_LEVELS is 95: .* between 0.5 and 1"),
        ({"risk_methods": ("magic",)}, "TAPEWIRE_RISK_METHODS is magic: 'magic' is no method; th"),
        ({"var_limits": {"AAPL": -1.0}}, "TAPEWIRE_VAR_LIMITS is AAPL=-1.0; it must be a number"),
        ({"var_limit": 0}, "TAPEWIRE_VAR_LIMIT is 0; it must be a number above 0 and at most"),
        ({"var_hysteresis": 1}, "TAPEWIRE_VAR_HYSTERESIS is 1; .* at least 0 and below 1"),
    ],
)
def test_settings_out_of_range_or_in_contradiction_are_refused_by_their_variables(
    settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidSetting, match=why):
        ProcessorSettings(**settings)


def test_the_largest_state_of_a_portfolio_fits_in_a_record() -> None:
    """With the largest window, levels and horizons, versions, forecasts and limits."""
    settings = ProcessorSettings(
        risk_window=WINDOW_MAX,
        risk_methods=tuple(name for name in METHODS if name != "student_t_fitted"),
        risk_horizons=tuple(range(1, 33)),
        risk_levels=tuple(f"0.9{number}" for number in range(16)),
    )
    estimate = RiskEstimate("cornish_fisher", 0.95, 32, "insufficient_data", LATEST_US, 0.1, 0.1)
    count = len(METHODS) * len(settings.risk_horizons) * len(settings.risk_levels)
    risk = PortfolioRisk("p" * 256, settings.risk_config(), TopicPartition("", 0))
    state = replace(
        risk.pack(),
        window=bytes(24 * WINDOW_MAX),
        observations=WINDOW_MAX,
        forecasts=[
            ForecastSeries("historical", level, bytes(8 * FORECASTS_MAX), bytes(8 * FORECASTS_MAX))
            for level in (0.95, 0.99)
        ],
        forecast_times=bytes(8 * FORECASTS_MAX),
        estimates=[estimate] * count,
        tenant="t" * 256,
        limits=[RiskLimit("var_95", 0.05)] * 20,
        wanted_by={f"{number}".ljust(256): "t" * 256 for number in range(50)},
        exceptions={"0.95": "x" * 250, "0.99": "x" * 250},
    )
    assert len(encode(state)) < VALUE_BYTES_MAX - 64 * 1024
