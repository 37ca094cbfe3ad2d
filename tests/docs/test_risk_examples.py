"""The worked examples of the page about risk are what the code computes."""

import re
from pathlib import Path

import numpy as np
import pytest

from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.measures import drawdowns
from stream_processors.risk.methods import (
    age_weighted,
    deviations,
    ewma_deviation,
    filtered_scenarios,
    fit_student_t,
    historical,
    sampling_error,
)
from stream_processors.risk.model_tests import (
    Pattern,
    judge_model,
    shortfall_statistics,
    time_until_first_failure,
)
from stream_processors.risk.moments import (
    CornishFisher,
    Estimate,
    Normal,
    RunningMoments,
    StudentT,
    is_monotone,
)

PAGE = (Path(__file__).parents[2] / "docs" / "concepts" / "risk.md").read_text(encoding="utf-8")
P95, P99 = ConfidenceLevel.of("0.95"), ConfidenceLevel.of("0.99")


def section(title: str) -> str:
    """Return the text of a section, up to the next heading."""
    return re.split(r"\n#+ ", PAGE.split(f"### {title}\n")[1])[0]


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of a table by their first cell, without the marks of code."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    return {first.replace("`", ""): rest for first, *rest in cells}


def test_the_methods_give_the_numbers_of_the_worked_example() -> None:
    text = section("Worked example of the methods")
    (listed,) = re.findall(r"```text\n(.*)\n```", text)
    returns = np.array([float(number) for number in listed.split()]) / 100
    assert len(returns) == int(text.split()[0])
    moments = RunningMoments(map(float, returns)).moments()
    assert is_monotone(moments)
    for name, value in (
        ("*m*", moments.mean * 100),
        ("*s*", moments.deviation * 100),
        ("*S*", moments.skewness),
    ):
        assert f"{name} = {value:.4f}" in text
    assert f"*K* = {moments.excess_kurtosis:.4f}" in text
    normal, fit = Normal(P95), fit_student_t(returns)
    twice = np.concatenate([returns, returns])
    scenarios = filtered_scenarios(twice)
    expected: dict[str, Estimate] = {
        "historical": historical(returns, P95),
        "age_weighted": age_weighted(returns, P95),
        "normal": normal.estimate(moments.mean, moments.deviation),
        "normal, mean zero": normal.estimate(0.0, moments.root_mean_square),
        "student_t, 6 degrees": StudentT(P95, 6).estimate(moments.mean, moments.deviation),
        "cornish_fisher": CornishFisher(P95).estimate(moments),
        "ewma": normal.estimate(0.0, ewma_deviation(returns)),
        "ewma, from 1 %": normal.estimate(0.0, ewma_deviation(returns, 0.01)),
        "ewma, 10 periods": normal.estimate(0.0, ewma_deviation(returns) * 10**0.5),
        "student_t_fitted": fit.estimate(P95),
        "fhs, of the returns twice in a row": historical(scenarios, P95),
    }
    shown = {
        name: [f"{value * 100:.4f}" for value in estimate] for name, estimate in expected.items()
    }
    assert rows(text) == shown
    error, (drawdown, deepest) = sampling_error(scenarios, P95), drawdowns(returns.tolist())
    assert drawdown == deepest
    sentences = " ".join(text.split())
    for phrase in (
        f"*v* = {fit.dof:.2f}, location {fit.location:.4%} and scale {fit.scale:.4%}",
        f"{len(twice)}, of which FHS takes the last {len(scenarios)}",
        f"deviation is {deviations(twice)[-1]:.4%}",
        f"VaR {error.var:.4%} and that of ES {error.es:.4%}",
        f"is {moments.deviation * 252**0.5:.4%};",
        f"drawdown of {deepest:.4%}",
    ):
        assert phrase.replace("%", " %") in sentences


def test_the_model_tests_give_the_numbers_of_the_worked_example() -> None:
    text = section("Worked example of a backtest")
    test = judge_model(Pattern(250, 5, 0, first=False, last=False), P99)
    tuff = time_until_first_failure(40, P99)
    assert tuff is not None
    z1, z2 = shortfall_statistics([-1.2, -0.9, -1.5, -1.1, -1.3], 250, P99)
    light = test.light
    expected = {
        "kupiec": test.coverage.ratio,
        "kupiec_p": test.coverage.p_value,
        "tuff": tuff.ratio,
        "independence": test.independence.ratio,
        "independence_p": test.independence.p_value,
        "conditional_coverage": test.conditional_coverage.ratio,
        "conditional_coverage_p": test.conditional_coverage.p_value,
        "cumulative_probability": light.cumulative_probability,
        "type_1_error": light.type_1_error,
        "plus_factor_1996": light.plus_factor_1996,
        "basel_multiplier": light.basel_multiplier,
        "next_exception_cost_1996": light.next_exception_cost_1996,
        "next_exception_cost": light.next_exception_cost,
        "acerbi_szekely_z1": z1,
        "acerbi_szekely_z2": z2,
    }
    shown = {name: value for name, (value,) in rows(text).items()}
    assert shown.pop("zone") == test.zone
    found = {name: float(value) for name, value in shown.items()}
    assert found == pytest.approx(expected, abs=5e-5)
