"""Measuring a book: joined returns, parts that add up, and amounts that are not finite."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from schemas.events import BookRisk, Return
from stream_processors.books.config import BookConfig
from stream_processors.books.measures import (
    Part,
    ReturnTable,
    is_finite,
    join,
    measure_book,
    simulate,
)
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.methods import Floats, Simulation
from stream_processors.risk.window import ReturnWindow

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
    return ReturnTable(np.arange(days), returns)


def window_of(times: list[int]) -> ReturnWindow:
    window = ReturnWindow(250)
    for at in times:
        window.add(Return("p", at, at / 1000), lateness_us=1_000)
    return window


days = st.lists(st.integers(0, 60), unique=True, max_size=40)


@given(st.lists(days, min_size=1, max_size=4))
def test_a_day_counts_if_all_series_have_a_return_on_it(series: list[list[int]]) -> None:
    joined = join([window_of(times) for times in series])
    if not all(series):
        assert joined is None
        return
    assert joined is not None
    common = sorted(set.intersection(*map(set, series)))
    assert joined.times_us.tolist() == common
    assert joined.returns.tolist() == [[at / 1000] * len(series) for at in common]


def test_no_series_and_an_unknown_series_join_to_nothing() -> None:
    assert join([]) is None
    assert join([window_of([1, 2]), None]) is None


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


def test_without_net_asset_value_there_are_amounts_and_no_shares() -> None:
    risk = measure_book(replace(BLANK, nav=0.0), table(), VALUES, PARTS, CONFIG)
    assert risk.amounts["var_95"] > 0
    assert (risk.var_95, risk.es_95) == (None, None)
    assert {estimate.status for estimate in risk.estimates} == {"unavailable"}


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
