"""Tests of VaR models, compared with vartests, SciPy and the Basel Committee's own table."""

import warnings

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats
from vartests import kupiec_test

from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.model_tests import (
    ExceptionHistory,
    Pattern,
    acerbi_szekely,
    judge_model,
    zone,
)

P95, P99 = ConfidenceLevel.of("0.95"), ConfidenceLevel.of("0.99")


def pattern_of(exceptions: list[bool]) -> Pattern:
    signs = "".join("x" if exceeded else "." for exceeded in exceptions)
    return ExceptionHistory(len(signs), signs).pattern


days = st.lists(st.booleans(), min_size=20, max_size=260)


@given(days.filter(any))
def test_coverage_equals_vartests(exceptions: list[bool]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = kupiec_test(
            x=sum(exceptions), n=len(exceptions), var_conf_level=0.99, conf_level=0.95
        )
    found = judge_model(pattern_of(exceptions), P99).coverage
    named = {name.lower(): value for name, value in expected.items()}
    statistic = next(value for name, value in named.items() if "statistic" in name)
    assert found.ratio == pytest.approx(statistic, rel=1e-9, abs=1e-9)


@given(days)
def test_independence_is_a_ratio_of_binomial_likelihoods(exceptions: list[bool]) -> None:
    before, after = np.array(exceptions[:-1]), np.array(exceptions[1:])
    hits = [int(after[~before].sum()), int(after[before].sum())]
    tries = [int((~before).sum()), int(before.sum())]
    total, count = sum(hits), sum(tries)
    found = judge_model(pattern_of(exceptions), P95)
    if 0 in (*tries, total, count - total):
        assert found.independence.ratio == 0.0
        return
    # The binomial coefficients are in both likelihoods, and cancel.
    apart = sum(
        stats.binom.logpmf(hit, tried, hit / tried) for hit, tried in zip(hits, tries, strict=True)
    )
    together = sum(
        stats.binom.logpmf(hit, tried, total / count)
        for hit, tried in zip(hits, tries, strict=True)
    )
    assert found.independence.ratio == pytest.approx(2 * (apart - together), rel=1e-7, abs=1e-9)
    both = found.coverage.ratio + found.independence.ratio
    assert found.conditional_coverage.ratio == pytest.approx(both)
    assert found.conditional_coverage.p_value == pytest.approx(stats.chi2.sf(both, 2), rel=1e-9)


def test_the_traffic_light_is_the_basel_committees() -> None:
    """Supervisory framework, 1996, table 2: 250 days at 99 %."""
    shown = [zone(250, exceptions, P99) for exceptions in range(12)]
    assert shown == ["green"] * 5 + ["yellow"] * 5 + ["red"] * 2


def test_no_exception_at_all_is_no_error() -> None:
    found = judge_model(pattern_of([False] * 250), P95)
    assert found.coverage.ratio == pytest.approx(-2 * 250 * np.log(0.95))
    assert (found.independence.ratio, found.zone) == (0.0, "green")


def test_shortfall_as_forecast_gives_zero_and_twice_as_bad_gives_minus_one() -> None:
    generator = np.random.default_rng(1)
    returns = generator.normal(0, 0.01, 200_000)
    var = np.full_like(returns, 0.01 * stats.norm.ppf(0.975))
    es = np.full_like(returns, 0.01 * stats.norm.pdf(stats.norm.ppf(0.975)) / 0.025)
    level = ConfidenceLevel.of("0.975")
    first, second = acerbi_szekely(returns, var, es, level)
    assert first == pytest.approx(0, abs=0.02)
    assert second == pytest.approx(0, abs=0.05)
    first, _ = acerbi_szekely(np.where(-returns > var, returns * 2, returns), var, es, level)
    assert first == pytest.approx(-1, abs=0.05)
    assert acerbi_szekely(np.zeros(5), var[:5], es[:5], level) == (None, 1.0)


KUPIEC = {
    # Probability and days: how many exceptions do not reject the model at 95 %.
    ("0.99", 255): (0, 6),
    ("0.99", 510): (2, 10),
    ("0.99", 1_000): (5, 16),
    ("0.975", 255): (3, 11),
    ("0.975", 510): (7, 20),
    ("0.975", 1_000): (16, 35),
    ("0.95", 255): (7, 20),
    ("0.95", 510): (17, 35),
    ("0.95", 1_000): (38, 64),
}
"""Kupiec's regions of 1995, as Jorion, "Value at Risk", prints them."""


@pytest.mark.parametrize(("model", "region"), KUPIEC.items())
def test_models_are_rejected_where_kupiecs_table_says(
    model: tuple[str, int], region: tuple[int, int]
) -> None:
    level, days_seen = ConfidenceLevel.of(model[0]), model[1]
    kept = [
        count
        for count in range(1, days_seen // 8)
        if judge_model(
            Pattern(days_seen, count, 0, first=False, last=False), level
        ).coverage.p_value
        > 0.05
    ]
    assert (kept[0], kept[-1]) == (max(1, region[0]), region[1])


@given(st.lists(st.booleans(), max_size=60), st.data())
def test_days_are_added_and_judged_again_where_they_belong(
    exceptions: list[bool], data: st.DataObject
) -> None:
    size = 20
    signs = ["x" if exceeded else "." for exceeded in exceptions]
    history = ExceptionHistory(size, "".join(signs))
    for _ in range(30):
        exceeded = data.draw(st.booleans())
        kept = signs[-size:]
        later = data.draw(st.integers(0, len(kept)))
        if data.draw(st.booleans()):
            history.insert(later, exceeded=exceeded)
            signs.insert(len(signs) - later, "x" if exceeded else ".")
        elif later < len(kept):
            history.replace(later, exceeded=exceeded)
            signs[len(signs) - 1 - later] = "x" if exceeded else "."
        assert str(history) == "".join(signs[-size:])
        assert history.exceptions == signs[-size:].count("x")
