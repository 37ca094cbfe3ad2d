from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf, nan
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from hypothesis import given, strategies as st

from stream_processors.risk.thresholds import (
    AlertLevel,
    AlertState,
    Evaluation,
    InvalidRule,
    Rule,
    Transition,
    acknowledge,
    judge,
)

SEED_RULE = Rule("var_95", 0.05)
FULL_RULE = Rule("var_95", 0.05, hysteresis=0.1, warn_ratio=0.8, critical_ratio=1.5)


@dataclass
class Judged:
    rule: Rule
    state: AlertState = field(default_factory=AlertState)
    steps: list[Transition] = field(default_factory=list)
    at_us: int = 0

    def see(self, *values: float | None) -> list[str]:
        before = len(self.steps)
        for value in values:
            self.at_us += 1
            self.state, step = judge(
                self.rule,
                self.state,
                entity_id="p",
                measure_id=f"m{self.at_us}",
                at_us=self.at_us,
                value=value,
            )
            self.steps += [step] if step else []
        return [f"{step.kind} {step.level.name.lower()}" for step in self.steps[before:]]


def test_equal_to_the_limit_is_not_above_it() -> None:
    assert Judged(SEED_RULE).see(0.05) == []
    assert Judged(SEED_RULE).see(0.0500001) == ["raised breach"]


def test_an_episode_is_raised_once_and_cleared_below_the_hysteresis() -> None:
    judged = Judged(SEED_RULE)
    assert judged.see(0.06, 0.07, 0.051, 0.0451, 0.06) == ["raised breach"]
    assert judged.see(0.045) == ["cleared normal"]  # 0.05 (1 - 0.1), and equal is not above
    assert judged.see(0.046, 0.05) == []


def test_levels_go_up_and_down_and_a_jump_is_one_step() -> None:
    judged = Judged(FULL_RULE)
    assert judged.see(0.041) == ["raised warning"]
    assert judged.see(0.051) == ["escalated breach"]
    assert judged.see(0.076) == ["escalated critical"]
    assert judged.see(0.068) == []  # critical is held down to 0.0675
    assert judged.see(0.0675) == ["deescalated breach"]
    assert judged.see(0.01) == ["cleared normal"]
    assert judged.see(0.2) == ["raised critical"]
    assert judged.see(0.04) == ["deescalated warning"]


def test_a_rule_can_require_consecutive_measures_and_the_mildest_decides() -> None:
    slow_rule = Rule("r", 0.05, warn_ratio=0.8, critical_ratio=1.5, raise_after=3, clear_after=2)
    judged = Judged(slow_rule)
    assert judged.see(0.2, 0.2, 0.01, 0.2, 0.041) == []
    assert judged.see(0.06) == ["raised warning"]
    assert judged.see(0.06, 0.06, 0.09) == ["escalated breach"]
    assert judged.see(0.01, 0.06, 0.01) == []
    assert judged.see(0.042) == ["deescalated warning"]


def test_ids_derive_from_the_measure_that_raised() -> None:
    judged = Judged(SEED_RULE)
    judged.see(0.01, 0.06, 0.01, 0.06)
    raised, cleared, again = judged.steps
    alert_id = uuid5(NAMESPACE_URL, "risk-alert:var_95:p:m2")
    assert raised.alert_id == cleared.alert_id == str(alert_id)
    assert raised.transition_id == str(uuid5(alert_id, "1:raised"))
    assert cleared.transition_id == str(uuid5(alert_id, "2:cleared"))
    assert UUID(again.alert_id) == uuid5(NAMESPACE_URL, "risk-alert:var_95:p:m4")


def test_missing_or_infinite_values_change_nothing() -> None:
    judged = Judged(SEED_RULE)
    judged.see(0.06)
    assert judged.see(None, nan, inf) == []
    assert judged.state.level is AlertLevel.BREACH
    assert judged.state.judged_us == 1


def test_a_measure_that_is_not_newer_has_no_effect() -> None:
    judged = Judged(SEED_RULE)
    judged.see(0.06)
    judged.at_us = 0
    assert judged.see(0.01) == []


values = st.lists(st.floats(0.0, 0.1), max_size=60)


@given(values, values)
def test_more_measures_never_change_earlier_transitions(
    first: list[float], more: list[float]
) -> None:
    shorter, longer = Judged(FULL_RULE), Judged(FULL_RULE)
    shorter.see(*first)
    longer.see(*first, *more)
    assert longer.steps[: len(shorter.steps)] == shorter.steps


@given(values)
def test_steps_alternate_and_levels_only_change_by_steps(many: list[float]) -> None:
    judged = Judged(FULL_RULE)
    judged.see(*many)
    levels = [AlertLevel.NORMAL, *(step.level for step in judged.steps)]
    assert all(before != after for before, after in pairwise(levels))
    for before, step in zip(levels, judged.steps, strict=False):
        up = step.level > before
        assert (
            step.kind
            == {
                (True, True): "raised",
                (True, False): "escalated",
                (False, True): "cleared",
                (False, False): "deescalated",
            }[up, (before if up else step.level) is AlertLevel.NORMAL]
        )
    assert judged.state.level == levels[-1]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"limit": 0.0}, "limit is 0.0; it must be a finite number above 0"),
        ({"limit": nan}, "limit is nan"),
        ({"limit": inf}, "limit is inf"),
        ({"hysteresis": 1.0}, "hysteresis is 1.0; it must be at least 0 and below 1"),
        ({"warn_ratio": 1.0}, "warn_ratio is 1.0; it must be between 0 and 1"),
        ({"critical_ratio": 1.0}, "critical_ratio is 1.0; it must be above 1"),
        ({"raise_after": 0}, "raise_after is 0; it must be at least 1"),
    ],
)
def test_a_rule_with_a_parameter_out_of_range_is_refused(
    wrong: dict[str, float], named: str
) -> None:
    with pytest.raises(InvalidRule, match=named):
        Rule(**({"rule_id": "r", "limit": 0.05} | wrong))  # type: ignore[arg-type]


def rejudged(judged: Judged, rule: Rule, value: float, evaluation: Evaluation) -> list[str]:
    """Judge the last measure again by a rule, and return the steps."""
    judged.state, step = judge(
        rule,
        judged.state,
        entity_id="p",
        measure_id=f"m{judged.at_us}/again",
        at_us=judged.at_us,
        value=value,
        evaluation=evaluation,
    )
    judged.rule = rule
    return [f"{step.kind} {step.level.name.lower()}"] if step else []


@given(st.integers(1, 5))
def test_limits_put_again_are_no_measure(times: int) -> None:
    rule = replace(SEED_RULE, raise_after=3, clear_after=2)
    judged = Judged(rule)
    for _ in range(2):
        assert judged.see(0.06) == []
        for _ in range(times):
            assert rejudged(judged, rule, 0.06, Evaluation.LIMITS) == []
    assert judged.see(0.06) == ["raised breach"]
    assert judged.see(0.01) == []
    for _ in range(times):
        assert rejudged(judged, rule, 0.01, Evaluation.LIMITS) == []
    assert judged.see(0.01) == ["cleared normal"]


def test_the_last_measure_is_judged_once_by_a_new_limit() -> None:
    low, high = replace(SEED_RULE, limit=0.02, raise_after=2), replace(SEED_RULE, raise_after=2)
    judged = Judged(high)
    assert judged.see(0.03) == []
    for rule in (low, high, low, high, low):
        assert rejudged(judged, rule, 0.03, Evaluation.LIMITS) == []
    assert judged.see(0.03) == ["raised breach"]


def test_a_run_starts_again_where_a_new_limit_is_not_exceeded() -> None:
    low, high = replace(SEED_RULE, limit=0.02, raise_after=2), replace(SEED_RULE, raise_after=2)
    judged = Judged(low)
    assert judged.see(0.03) == []
    assert rejudged(judged, high, 0.03, Evaluation.LIMITS) == []
    assert judged.state.run == ()


def test_a_correction_is_a_measure_of_the_same_time() -> None:
    judged = Judged(SEED_RULE)
    assert judged.see(0.03) == []
    assert rejudged(judged, SEED_RULE, 0.06, Evaluation.MEASURE) == []
    assert rejudged(judged, SEED_RULE, 0.06, Evaluation.CORRECTION) == ["raised breach"]
    assert rejudged(judged, SEED_RULE, 0.01, Evaluation.CORRECTION) == ["cleared normal"]


def test_a_lower_level_keeps_the_acknowledgement_and_a_higher_one_asks_anew() -> None:
    judged = Judged(FULL_RULE)
    judged.see(0.2)
    assert judged.state.level is AlertLevel.CRITICAL
    judged.state, step = acknowledge(judged.state, 0.2)
    assert step is not None
    assert step.acknowledged
    assert judged.see(0.051) == ["deescalated breach"]
    assert (judged.state.acknowledged, judged.steps[-1].acknowledged) == (True, True)
    assert acknowledge(judged.state, 0.051)[1] is None
    assert judged.see(0.2) == ["escalated critical"]
    assert (judged.state.acknowledged, judged.steps[-1].acknowledged) == (False, False)
    judged.state, _ = acknowledge(judged.state, 0.2)
    assert judged.see(0.001) == ["cleared normal"]
    assert judged.state == replace(judged.state, acknowledged=False, alert_id=None)
