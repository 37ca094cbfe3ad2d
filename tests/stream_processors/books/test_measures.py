"""Measuring a book: parts that add up, and amounts that are not finite."""

from dataclasses import replace

import numpy as np
import pytest

from schemas.events import BookRisk
from stream_processors.books.config import BookConfig
from stream_processors.books.days import ReturnTable
from stream_processors.books.measures import (
    Part,
    is_finite,
    measure_book,
    simulate,
)
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.methods import Floats, Simulation

CONFIG = BookConfig(
    window=250,
    observations_min=100,
    levels=(ConfidenceLevel.of("0.95"),),
    simulation=Simulation(draws=2_000, seed=7),
    simulate_every=20,
)
BLANK = BookRisk(
    root="firm",
    book_id="desk",
    as_of_us=0,
    status="insufficient_data",
    observations=0,
    series=2,
    missing=(),
    value=100.0,
    nav=100.0,
)
VALUES = np.array([60.0, 40.0])
PARTS = [
    Part("A", is_book=False, values={"A": 60.0}),
    Part("sub", is_book=True, values={"B": 40.0}),
]


def table(days: int = 150, scale: float = 0.01) -> ReturnTable:
    returns: Floats = np.random.default_rng(2).normal(0, scale, (days, 2))
    return ReturnTable(np.arange(days), np.arange(days), returns)


def test_parts_add_up_to_the_book() -> None:
    risk = measure_book(BLANK, table(), VALUES, PARTS, CONFIG)
    [normal] = [estimate for estimate in risk.estimates if estimate.method == "normal"]
    assert normal.var is not None
    component = sum(part.component_95 for part in risk.parts)
    assert component == pytest.approx(normal.var * 100.0)
    assert sum(part.historical_95 for part in risk.parts) == pytest.approx(risk.amounts["var_95"])
    assert sum(part.historical_es_95 for part in risk.parts) == pytest.approx(risk.amounts["es_95"])
    assert [(part.part_id, part.is_book) for part in risk.parts] == [("A", False), ("sub", True)]
    assert is_finite(risk)


@pytest.mark.parametrize("nav", [None, 0.0, -100.0, 1e-8])
def test_without_positive_net_asset_value_there_are_amounts_and_no_shares(
    nav: float | None,
) -> None:
    risk = measure_book(replace(BLANK, nav=nav, gross=100.0), table(), VALUES, PARTS, CONFIG)
    assert (risk.status, risk.reason) == ("ok", "no_positive_nav")
    assert risk.amounts["var_95"] > 0
    assert (risk.var_95, risk.es_95) == (None, None)
    assert {estimate.status for estimate in risk.estimates} == {"unavailable"}


def test_a_level_without_a_day_beyond_it_has_no_number_and_says_so() -> None:
    config = replace(CONFIG, levels=(*CONFIG.levels, ConfidenceLevel.of("0.995")))
    risk = measure_book(BLANK, table(), VALUES, PARTS, config)
    found = [event for event in risk.estimates if event.method == "historical"]
    assert [(event.confidence, event.status) for event in found] == [
        (0.95, "ok"),
        (0.995, "insufficient_data"),
    ]
    assert (found[1].var, found[1].es) == (None, None)


def test_equal_days_have_exact_estimates() -> None:
    returns: Floats = np.full((150, 2), 1 / 3)
    equal = ReturnTable(np.arange(150), np.arange(150), returns)
    risk = measure_book(BLANK, equal, np.array([1.0, 0.0]), PARTS, CONFIG)
    assert risk.status == "degenerate"
    expected = -returns[0, 0] / 100.0
    assert {(event.var, event.es) for event in risk.estimates} == {(expected, expected)}
    assert {(part.component_95, part.incremental_95) for part in risk.parts} == {(0.0, 0.0)}


def test_amounts_that_are_not_finite_are_refused() -> None:
    with np.errstate(all="ignore"), pytest.raises(InvalidInput, match="must be finite"):
        measure_book(BLANK, table(scale=1e307), VALUES, PARTS, CONFIG)
    risk = measure_book(BLANK, table(), VALUES, PARTS, CONFIG)
    assert not is_finite(replace(risk, amounts={"var_95": float("inf")}))


def test_a_simulation_is_near_the_normal_estimate_and_the_same_again() -> None:
    returns = table()
    risk = measure_book(BLANK, returns, VALUES, PARTS, CONFIG)
    [normal] = [estimate for estimate in risk.estimates if estimate.method == "normal"]
    [simulated] = simulate(BLANK, returns, VALUES, CONFIG)
    assert simulated.var == pytest.approx(normal.var, rel=0.2)
    assert simulate(BLANK, returns, VALUES, CONFIG) == [simulated]
