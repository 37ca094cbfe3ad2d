"""Confidence levels: exact ranks, and the levels that are refused."""

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput

P95 = ConfidenceLevel.of("0.95")


@given(st.integers(1, 5000))
def test_the_rank_has_no_rounding_error(observations: int) -> None:
    exact = Fraction(observations) * Fraction(19, 20)
    rank = P95.rank(observations)
    assert rank - 1 < exact <= rank


@pytest.mark.parametrize(
    ("confidence", "observations_min"), [("0.95", 20), ("0.975", 40), ("0.99", 100)]
)
def test_a_level_needs_one_scenario_in_its_tail(confidence: str, observations_min: int) -> None:
    level = ConfidenceLevel.of(confidence)
    assert level.observations_min == observations_min
    assert level.tail == pytest.approx(1 - float(confidence))


def test_equal_levels_are_equal_keys() -> None:
    assert ConfidenceLevel.of("0.95") == ConfidenceLevel.of("0.950") == ConfidenceLevel.of("19/20")
    assert (
        len({ConfidenceLevel.of("0.95"), ConfidenceLevel.of("0.950"), ConfidenceLevel.of("0.99")})
        == 2
    )


@pytest.mark.parametrize(
    "confidence",
    [
        *("0.5", "1", "95", "0", "-0.95", "high", ""),
        *("0.99999999999999999999", "0." + "9" * 400),  # they round to 1
        *("1/0", "0/0", "1/2", "3/2", "nan", "inf", "1e-999999999", "1e999999999"),
    ],
)
def test_a_confidence_that_is_not_between_one_half_and_one_is_refused(confidence: str) -> None:
    with pytest.raises(InvalidInput, match=r"between 0\.5 and 1"):
        ConfidenceLevel.of(confidence)


def test_a_number_is_the_level_that_its_decimals_state() -> None:
    assert ConfidenceLevel.of(0.95) == P95
    for number in (95, 1.0, 0.5):
        with pytest.raises(InvalidInput, match=f"the confidence is {number}; it must lie between"):
            ConfidenceLevel.of(number)


@pytest.mark.parametrize("confidence", [Fraction(95), Fraction(1), Fraction(1, 2), Fraction(-1)])
def test_a_fraction_out_of_range_is_no_level(confidence: Fraction) -> None:
    with pytest.raises(InvalidInput, match=r"between 0\.5 and 1"):
        ConfidenceLevel(confidence)
