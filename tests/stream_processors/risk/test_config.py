"""The configuration of portfolios: rules of single ones, else the default ones."""

from stream_processors.risk.config import RiskConfig
from stream_processors.risk.thresholds import Rule


def test_a_portfolio_without_rules_of_its_own_has_the_default_rules() -> None:
    default, strict = (Rule("var_95", 0.05),), (Rule("var_95", 0.01),)
    config = RiskConfig(
        window=250,
        observations_min=100,
        lateness_us=0,
        default_rules=default,
        rules={"strict": strict},
    )
    assert (config.rules_of("strict"), config.rules_of("other")) == (strict, default)
