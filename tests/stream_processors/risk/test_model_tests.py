"""Tests of VaR models, compared with vartests, SciPy and the Basel Committee's own table."""

import warnings

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats
from vartests import kupiec_test

from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.model_tests import (
    ExceptionHistory,
    Pattern,
    acerbi_szekely,
    judge_model,
    judge_zone,
    time_until_first_failure,
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


BASEL = [
    # Exceptions, cumulative probability, type-1 error, plus factor of 1996, multiplier in force.
    (0, 0.0811, 1.000, 0.00, 1.50),
    (1, 0.2858, 0.919, 0.00, 1.50),
    (2, 0.5432, 0.714, 0.00, 1.50),
    (3, 0.7581, 0.457, 0.00, 1.50),
    (4, 0.8922, 0.242, 0.00, 1.50),
    (5, 0.9588, 0.108, 0.40, 1.70),
    (6, 0.9863, 0.041, 0.50, 1.76),
    (7, 0.9960, 0.014, 0.65, 1.83),
    (8, 0.9989, 0.004, 0.75, 1.88),
    (9, 0.9997, 0.001, 0.85, 1.92),
    (10, 0.9999, 0.000, 1.00, 2.00),
    (11, 1.0000, 0.000, 1.00, 2.00),
]
"""Supervisory framework for the use of backtesting, 1996, tables 1 and 2, and MAR32.9: 250 days at
99 %."""


@pytest.mark.parametrize(("exceptions", "cumulative", "type_1", "plus", "multiplier"), BASEL)
def test_the_traffic_light_is_the_basel_committees(
    exceptions: int, cumulative: float, type_1: float, plus: float, multiplier: float
) -> None:
    found = judge_zone(250, exceptions, P99)
    assert found.zone == ("green" if exceptions < 5 else "yellow" if exceptions < 10 else "red")
    assert found.cumulative_probability == pytest.approx(cumulative, abs=5e-5)
    assert found.type_1_error == pytest.approx(type_1, abs=5e-4)
    assert (found.plus_factor_1996, found.basel_multiplier) == (plus, multiplier)
    after = BASEL[min(exceptions + 1, 11)]
    assert found.next_exception_cost_1996 == pytest.approx(after[3] - plus)
    assert found.next_exception_cost == pytest.approx(after[4] - multiplier)


@pytest.mark.parametrize(
    ("confidence", "days", "exceptions", "light"),
    [("0.95", 1, 0, "yellow"), ("0.9", 4, 3, "red"), ("0.9999", 1, 0, "red")],
)
def test_a_probability_that_is_the_threshold_is_not_below_it(
    confidence: str, days: int, exceptions: int, light: str
) -> None:
    """These are 0.95, 1 - 0.1^4 and 0.9999."""
    assert judge_zone(days, exceptions, ConfidenceLevel.of(confidence)).zone == light


@given(st.integers(1, 5_000), st.data(), st.sampled_from(["0.95", "0.975", "0.99", "0.999"]))
def test_probabilities_of_a_zone_are_scipys(
    count: int, data: st.DataObject, confidence: str
) -> None:
    exceptions, level = data.draw(st.integers(0, count)), ConfidenceLevel.of(confidence)
    found = judge_zone(count, exceptions, level)
    below = stats.binom.cdf(exceptions, count, level.tail)
    assert found.cumulative_probability == pytest.approx(below, rel=1e-8, abs=1e-12)
    above = stats.binom.sf(exceptions - 1, count, level.tail)
    assert found.type_1_error == pytest.approx(above, rel=1e-8, abs=1e-12)
    has_factor = (count, confidence) == (250, "0.99")
    assert (found.plus_factor_1996 is not None) == has_factor


@given(st.integers(251, 600), st.sets(st.integers(0, 599), max_size=20))
def test_the_zone_is_that_of_the_last_250_days_however_long_the_history(
    count: int, chosen: set[int]
) -> None:
    exceptions = [day in chosen for day in range(count)]
    test = judge_model(pattern_of(exceptions), P99)
    assert test.observations == len(exceptions)
    assert test.light == judge_zone(250, sum(exceptions[-250:]), P99)


def test_five_thousand_days_are_tested() -> None:
    test = judge_model(pattern_of([day % 18 == 0 for day in range(5_000)]), P95)
    assert (test.observations, test.exceptions, test.light.days) == (5_000, 278, 250)
    assert zone(5_000, 278, P95) == "yellow"


def test_the_first_failure_is_as_late_as_kupiecs_table_says() -> None:
    """Kupiec, 1995: at 99 % and a test level of 5 % the model is kept for days from 7 to 438."""
    results = {day: time_until_first_failure(day, P99) for day in range(1, 700)}
    kept = [day for day, result in results.items() if result and result.p_value > 0.05]
    assert (kept[0], kept[-1]) == (7, 438)
    assert time_until_first_failure(None, P99) is None
    result = results[30]
    assert result is not None
    best = stats.geom.logpmf(30, 1 / 30) - stats.geom.logpmf(30, 0.01)
    assert result.ratio == pytest.approx(2 * best)
    assert result.p_value == pytest.approx(stats.chi2.sf(2 * best, 1))


@given(st.text("x.", max_size=400))
def test_the_first_exception_is_counted_from_the_first_day_that_counts(days: str) -> None:
    kept = days[-250:]
    expected = kept.index("x") + 1 if "x" in kept else None
    assert ExceptionHistory(250, days).days_until_first == expected


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
    with pytest.raises(InvalidInput, match="must be positive"):
        acerbi_szekely(np.full(5, -0.1), var[:5], -es[:5], level)


def test_days_of_which_a_number_is_missing_are_not_tested() -> None:
    day = np.array([0.01])
    bad = np.array([np.nan])
    for days in ((bad, day, day), (day, bad, day), (day, day, bad), (day[:0], day[:0], day[:0])):
        with pytest.raises(InvalidInput, match="must be one or more finite numbers"):
            acerbi_szekely(*days, P99)
    with pytest.raises(InvalidInput, match="1 VaR do not fit 2 returns"):
        acerbi_szekely(np.zeros(2), day, day, P99)


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
