"""Settings: what the environment gives, and values that are refused with an explanation."""

import pytest
from pydantic import ValidationError

from stream_processors.risk.confidence import InvalidInput
from stream_processors.risk.thresholds import InvalidRule
from stream_processors.settings import ProcessorSettings


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
    with pytest.raises(ValidationError, match=r"is no limit; write PORTFOLIO=FRACTION"):
        ProcessorSettings()


@pytest.mark.parametrize("lengths", [(), (0.0,), (2.0, 3.0), (1.0, -1.0)])
def test_windows_are_positive_multiples_of_the_first(lengths: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput, match="multiples of the first, as in 1,10,60"):
        ProcessorSettings(dashboard_windows_s=lengths).dashboard_windows_us()


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


def test_a_limit_out_of_range_is_refused_by_its_portfolio() -> None:
    with pytest.raises(InvalidRule, match="of AAPL: limit is -1"):
        ProcessorSettings(var_limits={"AAPL": -1.0}).risk_config()
    with pytest.raises(InvalidInput, match=r"between 0\.5 and 1"):
        ProcessorSettings(risk_levels=("95",)).book_config()
