"""Rules: limits become rules, and invalid limits are refused by name."""

import pytest

from schemas.events import RiskLimit
from stream_processors.risk.rules import DAYS_JUDGED, METRICS, MODEL_RULE, rules_of
from stream_processors.risk.thresholds import AlertLevel, InvalidRule, Rule


def test_each_limit_becomes_a_rule_with_its_parameters() -> None:
    limits = [RiskLimit(metric, 0.1, 0.2, 0.8, 1.5, 2, 3) for metric in METRICS]
    assert rules_of(limits) == tuple(Rule(metric, 0.1, 0.2, 0.8, 1.5, 2, 3) for metric in METRICS)
    assert rules_of([]) == ()


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ([RiskLimit("beta", 0.1)], "'beta' is no metric; there are var_95"),
        ([RiskLimit("var_95", 0.1), RiskLimit("var_95", 0.2)], "two limits of var_95"),
        ([RiskLimit("es_99", 0.0)], "of es_99: limit is 0.0"),
    ],
)
def test_an_invalid_limit_is_refused_by_its_metric(limits: list[RiskLimit], why: str) -> None:
    with pytest.raises(InvalidRule, match=why):
        rules_of(limits)


def test_the_model_alerts_at_the_tenth_exception_as_the_basel_committee_does() -> None:
    assert DAYS_JUDGED == 250
    assert MODEL_RULE.raw_level(9.0) is AlertLevel.NORMAL
    assert MODEL_RULE.raw_level(10.0) is AlertLevel.BREACH
