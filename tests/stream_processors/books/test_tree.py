"""Trees of books: P&L over real prices, and trees whose books move, close and restart."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import chain, cycle, islice, pairwise
from math import isfinite
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import norm
from skfolio.measures import cvar, value_at_risk

from producers.market.prices import load_prices
from schemas.codec import decode, encode
from schemas.events import Book, BookRisk, Holding, Record, Return, SeriesState
from schemas.instants import to_date
from stream_processors.books.config import BookConfig
from stream_processors.books.tree import DEPTH_MAX, BookTree
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.methods import Floats, Simulation

LEVELS = tuple(map(ConfidenceLevel.of, ("0.95", "0.975", "0.99")))
CONFIG = BookConfig(250, 100, LEVELS, Simulation(2_000, seed=7), 20)
STOCKS = ("AAPL", "GOOG", "IBM", "MSFT")
NEVER_US = 1 << 52
"""A time after all returns, so that a price of then has not moved since."""
DAY_US = 86_400_000_000


def returns_of(stocks: tuple[str, ...] = STOCKS, days: int = 300) -> list[Return]:
    """Return the stocks' returns of the last days, by time."""
    found = []
    for stock in stocks:
        closes = sorted(load_prices()[stock].items())[-days - 1 :]
        for (_, before), (day, close) in pairwise(closes):
            at = datetime(day.year, day.month, day.day, tzinfo=UTC)
            found.append(Return(stock, int(at.timestamp()) * 1_000_000, close / before - 1))
    return sorted(found, key=lambda observation: observation.event_time_us)


def holding(series_id: str, value: float) -> Holding:
    return Holding(series_id, value / 10, 10.0, NEVER_US)


def book(book_id: str, parent: str | None = None, nav: float | None = None, **held: float) -> Book:
    return Book(
        root="firm",
        book_id=book_id,
        parent=parent,
        holdings=[holding(name, value) for name, value in held.items()],
        nav=nav,
        event_time_us=0,
    )


def measured(*books: Book, returns: list[Return] | None = None) -> dict[str, BookRisk]:
    tree = BookTree("firm", CONFIG)
    for new in books:
        tree.put(new)
    tree.add_returns(returns_of() if returns is None else returns)
    risks = tree.changes().risks
    return {risk.book_id: risk for risk in risks}


def table(stocks: tuple[str, ...]) -> Floats:
    by_stock: dict[str, list[float]] = {stock: [] for stock in stocks}
    for stock in returns_of(stocks):
        by_stock[stock.portfolio_id].append(stock.value)
    return np.column_stack([by_stock[stock][-250:] for stock in stocks])


def test_a_weighted_portfolio_is_measured_as_skfolio_does() -> None:
    risk = measured(book("tech", AAPL=60.0, IBM=40.0))["tech"]
    pnl = table(("AAPL", "IBM")) @ np.array([60.0, 40.0])
    assert risk.amounts["var_95"] == pytest.approx(value_at_risk(pnl, beta=0.95), rel=1e-9)
    assert risk.amounts["es_95"] == pytest.approx(cvar(pnl, beta=0.95), rel=1e-9)
    assert risk.amounts["var_99"] == pytest.approx(value_at_risk(pnl, beta=0.99), rel=1e-9)
    assert (risk.nav, risk.observations, risk.status) == (100.0, 250, "ok")
    assert risk.var_95 == pytest.approx(risk.amounts["var_95"] / 100)
    found = {(estimate.method, estimate.confidence): estimate for estimate in risk.estimates}
    for level in (0.95, 0.975, 0.99):
        assert found["historical", level].var == pytest.approx(
            value_at_risk(pnl, beta=level) / 100, rel=1e-9
        )
        expected = (-pnl.mean() + norm.ppf(level) * pnl.std(ddof=1)) / 100
        assert found["normal", level].var == pytest.approx(expected, rel=1e-9)
        assert ("monte_carlo", level) in found


def test_a_groups_var_is_that_of_its_summed_pnl_and_less_than_its_parts() -> None:
    risks = measured(
        book("tech", AAPL=60.0, MSFT=40.0), book("blue", IBM=100.0), book("hedge", MSFT=-30.0)
    )
    pnl = table(("AAPL", "MSFT", "IBM")) @ np.array([60.0, 10.0, 100.0])
    firm = risks["firm"]
    assert firm.amounts["var_95"] == pytest.approx(value_at_risk(pnl, beta=0.95), rel=1e-9)
    assert firm.value == pytest.approx(170.0)
    assert [(part.part_id, part.is_book) for part in firm.parts] == [
        ("blue", True),
        ("hedge", True),
        ("tech", True),
    ]
    alone = [risks[part.part_id].amounts["var_95"] for part in firm.parts]
    assert [part.var_95 for part in firm.parts] == pytest.approx(alone)
    assert firm.undiversified_95 == pytest.approx(sum(alone))
    assert firm.amounts["var_95"] < sum(alone)


def test_parts_add_up_to_the_whole() -> None:
    risk = measured(book("all", AAPL=10.0, GOOG=20.0, IBM=30.0, MSFT=-25.0))["all"]
    parts = risk.parts
    normal = next(estimate for estimate in risk.estimates if estimate.method == "normal")
    assert risk.nav is not None
    assert sum(part.component_95 for part in parts) == pytest.approx((normal.var or 0) * risk.nav)
    assert sum(part.historical_95 for part in parts) == pytest.approx(risk.amounts["var_95"])
    assert sum(part.historical_es_95 for part in parts) == pytest.approx(risk.amounts["es_95"])
    for part in parts:
        assert part.marginal_95 is not None
        assert part.marginal_95 * part.value == pytest.approx(part.component_95)
    # The scenario is a day: what each part lost on it is its value times its return.
    on_the_day = {
        observation.portfolio_id: observation
        for observation in returns_of()
        if observation[1] == risk.scenario_us
    }
    assert [part.historical_95 for part in parts] == pytest.approx(
        [-part.value * on_the_day[part.part_id].value for part in parts]
    )


def test_monte_carlo_is_near_the_normal_estimate_and_runs_every_20_days() -> None:
    tree = BookTree("firm", CONFIG)
    tree.put(book("all", AAPL=50.0, IBM=50.0))
    made = []
    for observation in returns_of(("AAPL", "IBM")):
        tree.add_returns([observation])
        risks = tree.changes().risks
        made += [risk for risk in risks if risk.book_id == "all" and risk.status == "ok"]
    simulated = [
        estimate for risk in made for estimate in risk.estimates if estimate.method == "monte_carlo"
    ]
    days = sorted({estimate.as_of_us for estimate in simulated})
    assert len(days) == pytest.approx((250 - 100) / 20 + 300 / 20 - 250 / 20, abs=1.5)
    last = {(estimate.method, estimate.confidence): estimate.var for estimate in made[-1].estimates}
    for level in (0.95, 0.99):
        normal, drawn = last["normal", level], last["monte_carlo", level]
        assert normal is not None
        assert drawn == pytest.approx(normal, rel=0.15)
    assert made[-1].seed == 7
    for estimate in (each for each in made[-1].estimates if each.method == "monte_carlo"):
        assert estimate.var is not None
        assert estimate.es is not None
        assert estimate.var_error is not None
        assert estimate.es_error is not None
        # Of 2,000 draws of a normal distribution.
        assert 0 < estimate.var_error < 0.1 * estimate.var
        assert 0 < estimate.es_error < 0.1 * estimate.es


def test_a_holdings_value_moves_with_the_returns_after_its_price() -> None:
    returns = returns_of(("IBM",))
    seen_us = returns[-11].event_time_us
    held = Book(
        root="firm",
        book_id="firm",
        holdings=[Holding("IBM", 3.0, 100.0, seen_us)],
        event_time_us=0,
    )
    value = measured(held, returns=returns)["firm"].value
    assert value == pytest.approx(
        300 * np.prod([1 + observation.value for observation in returns[-10:]])
    )


def test_a_higher_lap_begins_the_windows_again() -> None:
    tree = BookTree("firm", CONFIG)
    tree.put(book("firm", IBM=100.0))
    tree.add_returns(returns_of(("IBM",), 300))
    tree.changes()
    tree.add_returns(returns_of(("IBM",), 3), lap=1)
    tree.add_returns(returns_of(("IBM",), 300)[-1:], lap=0)  # of a lap that is over
    (state,) = tree.changes().series
    assert (state.observations, state.lap) == (3, 1)
    restarted = BookTree("firm", CONFIG)
    restarted.restore([book("firm", IBM=100.0)], [state], [])
    restarted.add_returns([Return("IBM", 1 << 51, 0.01)], lap=1)
    (state,) = restarted.changes().series
    assert (state.observations, state.lap) == (4, 1)


def test_a_dollar_neutral_book_has_amounts_and_no_shares() -> None:
    risk = measured(book("pair", AAPL=50.0, IBM=-50.0))["pair"]
    assert (risk.nav, risk.gross, risk.net, risk.reason) == (0, 100, 0, "no_positive_nav")
    assert risk.amounts["var_95"] > 0
    assert (risk.var_95, risk.es_99) == (None, None)
    assert {(estimate.status, estimate.var) for estimate in risk.estimates} == {
        ("unavailable", None)
    }
    with_capital = measured(book("pair", nav=200.0, AAPL=50.0, IBM=-50.0))["pair"]
    assert with_capital.reason is None
    assert with_capital.var_95 == pytest.approx(risk.amounts["var_95"] / 200)


def test_days_count_that_all_series_have_and_missing_series_are_named() -> None:
    holes = [observation for number, observation in enumerate(returns_of(("IBM",))) if number % 2]
    returns = [
        observation for observation in returns_of() if observation.portfolio_id != "IBM"
    ] + holes
    risk = measured(book("two", AAPL=1.0, IBM=1.0), returns=returns)["two"]
    in_both = {observation.event_time_us for observation in holes} & {
        observation.event_time_us for observation in returns_of(("AAPL",))[-250:]
    }
    assert risk.observations == len(in_both)
    none = measured(book("two", AAPL=1.0, TSLA=1.0))["two"]
    assert (none.status, none.missing, none.var_95) == ("insufficient_data", ["TSLA"], None)


def test_a_young_tree_says_how_many_days_it_has_and_which() -> None:
    returns = returns_of(("AAPL", "IBM"), days=77)
    first_us, last_us = returns[0].event_time_us, returns[-1].event_time_us
    risk = measured(book("two", AAPL=1.0, IBM=1.0), returns=returns)["two"]
    assert (risk.status, risk.reason) == ("insufficient_data", "series_too_short")
    assert (risk.observations, risk.as_of_us) == (77, last_us)
    assert (risk.first_day, risk.last_day) == (to_date(first_us), to_date(last_us))
    one_is_new = measured(book("two", AAPL=1.0, TSLA=1.0), returns=returns)["two"]
    assert (one_is_new.observations, one_is_new.as_of_us) == (0, last_us)
    unknown = measured(book("one", TSLA=1.0), returns=returns)["one"]
    assert (unknown.observations, unknown.as_of_us, unknown.last_day) == (0, 0, None)


def test_a_moved_or_closed_book_counts_where_it_is_now() -> None:
    tree = BookTree("firm", CONFIG)
    for new in (book("a"), book("b"), book("desk", "a", IBM=10.0)):
        tree.put(new)
    tree.add_returns(returns_of(("IBM",)))

    def values() -> dict[str, float | None]:
        return {risk.book_id: risk.value for risk in tree.changes().risks}

    assert values() == {"a": 10.0, "b": 0.0, "desk": 10.0, "firm": 10.0}
    tree.put(book("desk", "b", IBM=10.0))
    assert values() == {"a": 0.0, "b": 10.0, "desk": 10.0, "firm": 10.0}
    tree.put(Book(root="firm", book_id="b", holdings=(), closed=True, event_time_us=0))
    assert values() == {"desk": 10.0, "firm": 10.0}
    tree.put(Book(root="firm", book_id="desk", holdings=(), closed=True, event_time_us=0))
    assert values() == {"firm": 0.0}
    assert tree.series == frozenset()


def test_a_cycle_a_deep_tree_and_invalid_numbers_are_refused_by_name() -> None:
    tree = BookTree("firm", CONFIG)
    tree.put(book("a"))
    tree.put(book("b", "a"))
    with pytest.raises(InvalidInput, match="a would lie below itself: a < b < a"):
        tree.put(book("a", "b"))
    deep = BookTree("firm", CONFIG)
    for level in range(DEPTH_MAX):
        deep.put(book(f"level {level + 1}", f"level {level}"))
    with pytest.raises(InvalidInput, match=f"levels below firm; a tree has at most {DEPTH_MAX}"):
        deep.put(book("level 0"))
    tree.put(book("early", "late"))
    with pytest.raises(InvalidInput, match="late would lie below itself: late < early < late"):
        tree.put(book("late", "early"))
    tree.put(Book(root="firm", book_id="early", holdings=(), closed=True, event_time_us=0))
    for quantity, price, reason in (
        (float("nan"), 1.0, "quantity of X is nan"),
        (1.0, 0.0, "is 0"),
    ):
        wrong = Book(
            root="firm", book_id="c", holdings=[Holding("X", quantity, price, 0)], event_time_us=0
        )
        with pytest.raises(InvalidInput, match=reason):
            tree.put(wrong)
    twice = Book(root="firm", book_id="c", holdings=[holding("X", 1.0)] * 2, event_time_us=0)
    with pytest.raises(InvalidInput, match="X is held twice by c"):
        tree.put(twice)
    assert sorted(tree.books) == ["a", "b"]


numbers = st.floats(-2, 2) | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(numbers, numbers.map(abs), st.booleans()), min_size=1, max_size=3),
    st.none() | numbers,
    st.lists(numbers, min_size=1, max_size=4),
)
def test_any_holdings_and_returns_give_finite_numbers_and_no_error(
    held: list[tuple[float, float, bool]], nav: float | None, returns: list[float]
) -> None:
    tree = BookTree("firm", CONFIG)
    for number, (quantity, price, is_old) in enumerate(held):
        priced_us = 0 if is_old else NEVER_US
        holdings = [Holding("p", quantity, price, priced_us), Holding("q", 1.0, 1.0, priced_us)]
        new = Book(root="firm", book_id=f"{number}", holdings=holdings, nav=nav, event_time_us=0)
        with suppress(InvalidInput):  # the price is 0
            tree.put(new)
    tree.add_returns(
        [
            Return(series, at * DAY_US, value)
            for at, value in enumerate(islice(cycle(returns), 150))
            for series in ("p", "q")
        ]
    )
    for risk in tree.changes().risks:
        assert all(isfinite(number) for number in numbers_in(risk))
        assert (risk.status in ("ok", "degenerate")) == ("var_95" in risk.amounts)


def numbers_in(value: object) -> Iterator[float]:
    """Yield all floats in an event."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, BookRisk):
        yield from numbers_in(asdict(value))
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(numbers_in, value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(numbers_in, value))


names = st.sampled_from(["firm", "a", "b", "c", "d"])


@settings(deadline=None)
@given(st.lists(st.tuples(names, names | st.none(), st.booleans()), max_size=20))
def test_any_sequence_of_books_stays_a_tree_whose_root_holds_everything(
    puts: list[tuple[str, str | None, bool]],
) -> None:
    tree = BookTree("firm", CONFIG)
    seen: dict[str, BookRisk] = {}
    for book_id, parent, closed in puts:
        if closed:
            tree.put(Book(root="firm", book_id=book_id, holdings=(), closed=True, event_time_us=0))
        else:
            with suppress(InvalidInput):  # it would be below itself
                tree.put(book(book_id, parent, IBM=10.0))
        risks, _, gone = tree.changes()
        seen |= {risk.path: risk for risk in risks}
        for path in gone:
            seen.pop(path, None)
        # The last risk of each book equals the risk of a tree that is built anew.
        straight = measured(*tree.books.values(), returns=[])
        assert seen == {risk.path: risk for risk in straight.values()}
    if tree.books:
        assert seen["firm/firm"].value == pytest.approx(10.0 * len(tree.books))


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 800))
def test_risk_does_not_depend_on_the_order_of_returns_or_on_a_restart(
    generator: Random, stop: int
) -> None:
    books = [book("tech", AAPL=60.0, MSFT=-20.0), book("blue", IBM=100.0)]
    returns = returns_of(("AAPL", "IBM", "MSFT"), days=240)
    straight = measured(*books, returns=returns)
    shuffled = [*returns, *returns[:50]]
    generator.shuffle(shuffled)
    tree = BookTree("firm", CONFIG)
    for new in books:
        tree.put(new)
    tree.add_returns(shuffled[:stop])
    risks, series, _ = tree.changes()
    everything: list[Record] = [*risks, *series]
    kept = [decode(encode(record)) for record in everything]
    restarted = BookTree("firm", CONFIG)
    restarted.restore(
        books,
        [record for record in kept if isinstance(record, SeriesState)],
        [record for record in kept if isinstance(record, BookRisk)],
    )
    restarted.add_returns(shuffled[stop:])
    # Put again, so that books are measured that have not changed since.
    for new in books:
        restarted.put(new)
    found = {risk.book_id: risk for risk in restarted.changes().risks}
    assert found == straight


def daily(series: str, value: float, *days: int, version: int = 1) -> list[Return]:
    return [Return(series, day * DAY_US, value, version) for day in days]


def priced(series: str, price: float, quantity: float = 1.0, at_us: int = 0) -> Holding:
    return Holding(series, quantity, price, at_us)


def firm_of(*holdings: Holding, **fields: Any) -> Book:
    return Book(root="firm", book_id="firm", holdings=holdings, event_time_us=0, **fields)


def test_a_price_of_100_and_300_returns_of_1_percent_are_worth_1978_85() -> None:
    held = firm_of(priced("IBM", 100.0))
    risk = measured(held, returns=daily("IBM", 0.01, *range(1, 301)))["firm"]
    assert risk.value == pytest.approx(1_978.85, abs=0.005)
    assert (risk.status, risk.observations, risk.stale_prices) == ("degenerate", 250, [])
    assert (risk.first_day, risk.last_day) == ("1970-02-21", "1970-10-28")
    # A correction of a return after the price changes the value, and shows.
    tree = BookTree("firm", CONFIG)
    tree.put(held)
    tree.add_returns(daily("IBM", 0.01, *range(1, 301)))
    before = tree.changes().risks[-1]
    tree.add_returns(daily("IBM", 0.0, 299, version=2))
    after = tree.changes().risks[-1]
    assert after.value == pytest.approx(1_978.85 / 1.01, abs=0.005)
    assert (before.corrections, after.corrections) == (0, 1)
    assert before.event_id != after.event_id


def test_a_price_from_before_the_returns_that_are_known_is_named() -> None:
    tree = BookTree("firm", CONFIG)
    tree.put(firm_of(priced("IBM", 100.0), priced("AAPL", 100.0)))
    returns = daily("IBM", 0.01, *range(51, 301)) + daily("AAPL", 0.01, *range(51, 301))
    tree.add_returns(returns, earlier=["IBM"])
    assert tree.changes().risks[-1].stale_prices == ["IBM"]


def test_a_net_short_book_has_amounts_and_exposures_and_no_shares_unless_its_nav_is_stated() -> (
    None
):
    risk = measured(book("short", AAPL=50.0, IBM=-80.0))["short"]
    assert (risk.nav, risk.net, risk.gross, risk.status) == (-30, -30, 130, "ok")
    assert (risk.reason, risk.var_95) == ("no_positive_nav", None)
    assert risk.amounts["var_95"] > 0
    stated = measured(book("short", nav=1_000.0, AAPL=50.0, IBM=-80.0))["short"]
    assert stated.var_95 == pytest.approx(risk.amounts["var_95"] / 1_000)
    assert (stated.nav, stated.net, stated.reason) == (1_000, -30, None)


def test_a_roots_nav_is_its_own_or_the_sum_of_its_books() -> None:
    books = book("a", nav=500.0, IBM=10.0), book("b", "a", IBM=5.0), book("c", IBM=20.0)
    risks = measured(*books)
    assert {name: risk.nav for name, risk in risks.items()} == {
        "a": 500,
        "b": 5,
        "c": 20,
        "firm": 520,
    }
    assert risks["firm"].value == 35
    assert measured(*books, book("firm", nav=900.0))["firm"].nav == 900


def test_one_new_line_of_1_beside_1000_does_not_blind_the_firm() -> None:
    returns = returns_of(("IBM", "AAPL"))
    returns += [Return("NEW", at.event_time_us, 0.02) for at in returns_of(("IBM",))[-3:]]
    risk = measured(book("firm", IBM=600.0, AAPL=400.0, NEW=1.0), returns=returns)["firm"]
    alone = measured(book("firm", IBM=600.0, AAPL=400.0), returns=returns)["firm"]
    assert (risk.status, risk.amounts) == ("ok", alone.amounts)
    [left_out] = risk.excluded
    assert (left_out.series_id, left_out.observations) == ("NEW", 3)
    assert left_out.share == pytest.approx(1 / 1_001)
    [missing] = risk.missing_days
    assert (missing.series_id, missing.days) == ("NEW", 247)
    assert risk.missing == ["NEW"]
    assert risk.value == 1_001
    assert {part.part_id for part in risk.parts} == {"AAPL", "IBM"}
    blind = measured(book("firm", IBM=600.0, AAPL=400.0, NEW=53.0), returns=returns)["firm"]
    assert (blind.status, blind.reason, blind.excluded) == (
        *("insufficient_data", "series_too_short"),
        [],
    )
    small_enough = measured(book("firm", IBM=600.0, AAPL=400.0, NEW=52.0), returns=returns)["firm"]
    assert small_enough.status == "ok"


def test_a_book_takes_a_proxys_returns_where_it_says_so_or_the_book_above_does() -> None:
    returns = [item for item in returns_of() if item.portfolio_id != "IBM"]
    returns += returns_of(("IBM",))[-3:]
    top = Book(root="firm", book_id="firm", holdings=(), missing="proxy:MSFT", event_time_us=0)
    tree = BookTree("firm", CONFIG)
    tree.put(top)
    tree.put(book("desk", AAPL=60.0, IBM=40.0))
    assert tree.series == {"AAPL", "IBM", "MSFT"}
    tree.add_returns(returns)
    desk = {risk.book_id: risk for risk in tree.changes().risks}["desk"]
    series = table(("AAPL", "MSFT"))
    series[-3:, 1] = table(("IBM",))[-3:, 0]
    expected = value_at_risk(series @ np.array([60.0, 40.0]), beta=0.95)
    assert desk.amounts["var_95"] == pytest.approx(expected, rel=1e-9)
    assert (desk.missing_policy, desk.missing) == ("proxy:MSFT", ["IBM"])
    zero = measured(
        Book(root="firm", book_id="firm", holdings=(), missing="zero", event_time_us=0),
        book("desk", AAPL=60.0, IBM=40.0),
        returns=returns,
    )["desk"]
    series[:-3, 1] = 0
    expected = value_at_risk(series @ np.array([60.0, 40.0]), beta=0.95)
    assert zero.amounts["var_95"] == pytest.approx(expected, rel=1e-9)


def test_a_tree_has_one_currency_and_one_calendar() -> None:
    tree = BookTree("firm", CONFIG)
    tree.put(replace(book("desk", IBM=1.0), currency="USD", calendar="UTC"))
    tree.put(replace(book("silent", IBM=1.0), currency=None))
    in_euro = Holding("SAP", 1.0, 1.0, NEVER_US, "EUR")
    for wrong, reason in (
        (replace(book("euro"), currency="EUR"), "euro is in EUR, and desk of the same tree in USD"),
        (replace(book("x"), holdings=[in_euro]), "x is in EUR, and desk of the same tree in USD"),
        (
            replace(book("desk"), currency="USD", holdings=[in_euro]),
            "SAP is in EUR, and the book desk in USD",
        ),
        (
            replace(book("x"), holdings=[in_euro, Holding("BP", 1.0, 1.0, NEVER_US, "GBP")]),
            "BP is in GBP, and the book x in EUR",
        ),
        (replace(book("x"), calendar="Asia/Tokyo"), "x has the calendar Asia/Tokyo, and desk"),
        (replace(book("x"), calendar="Mars"), "names no time zone"),
        (replace(book("x"), missing="ignore"), "drop_day, zero or proxy:SERIES"),
    ):
        with pytest.raises(InvalidInput, match=reason):
            tree.put(wrong)
    assert {(risk.currency, risk.calendar) for risk in tree.changes().risks} == {("USD", "UTC")}
    tree.put(replace(book("desk", IBM=1.0), currency="EUR", calendar="Asia/Tokyo"))
    risks = tree.changes().risks
    assert {risk.book_id for risk in risks} == {"desk", "silent", "firm"}
    assert {(risk.currency, risk.calendar) for risk in risks} == {("EUR", "Asia/Tokyo")}


returns_made = st.lists(
    st.tuples(
        st.sampled_from(["A", "B", "C"]),
        st.integers(0, 80),
        st.floats(-0.3, 0.3),
        st.integers(1, 3),
    ),
    max_size=200,
)


@settings(max_examples=60, deadline=None)
@given(returns_made, st.randoms(use_true_random=False), st.lists(st.integers(0, 200), max_size=3))
def test_a_book_is_that_of_the_final_data_whatever_the_order_the_batches_and_the_restarts(
    made: list[tuple[str, int, float, int]], generator: Random, cuts: list[int]
) -> None:
    values: dict[tuple[str, int, int], float] = {}
    for day in range(30):  # enough days to be measured
        values |= {(series, day, 1): 0.01 * ((day * 7) % 5 - 2) for series in "ABC"}
    for series, day, value, version in made:
        values.setdefault((series, day, version), value)
    returns = [Return(key[0], key[1] * DAY_US, value, key[2]) for key, value in values.items()]
    shuffled = [*returns, *returns[: len(returns) // 3]]
    generator.shuffle(shuffled)

    config = BookConfig(40, 20, LEVELS[:1], Simulation(200, seed=7), 20)
    held = firm_of(priced("A", 10.0, 3.0), priced("B", 5.0, -2.0, 10 * DAY_US), priced("C", 1.0))
    tree = BookTree("firm", config)
    tree.put(held)
    bounds = [0, *sorted(cuts), len(shuffled)]
    for first, last in pairwise(bounds):
        tree.add_returns(shuffled[first:last])
        tree.changes()
        rows = [decode(encode(tree._state(name))) for name in tree.series if name in tree._series]
        tree = BookTree("firm", config)
        states = [row for row in rows if isinstance(row, SeriesState)]
        tree.restore([held], states, [])
    tree.put(held)
    [found] = tree.changes().risks

    frame: Any = pd.DataFrame(returns).sort_values(["event_time_us", "version"])
    last_ones = frame.drop_duplicates(["portfolio_id", "event_time_us"], keep="last")
    by_series = {
        name: group.set_index("event_time_us")["value"]
        for name, group in last_ones.groupby("portfolio_id")
    }
    worth = {
        holding.series_id: holding.quantity
        * holding.price
        * (1 + by_series[holding.series_id].loc[holding.priced_us + 1 :]).prod()
        for holding in held.holdings
    }
    windows = {name: values.iloc[-40:] for name, values in by_series.items()}
    starts = [window.index[0] for name, window in windows.items() if len(by_series[name]) > 40]
    days = pd.concat(windows, axis=1)
    days = days[days.index >= max(starts, default=0)].dropna()
    assert found.value == pytest.approx(sum(worth.values()), rel=1e-9)
    if len(days) >= 20:
        pnl = np.asarray(days[list(worth)]) @ np.array(list(worth.values()))
        assert found.amounts["var_95"] == pytest.approx(
            float(np.quantile(-pnl, 0.95, method="inverted_cdf")), rel=1e-9, abs=1e-12
        )
        assert found.observations == len(days)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_no_number_of_books_without_risk_is_minus_zero(zero: float) -> None:
    """A long and a short holding, whose series never moved."""
    returns = [Return(name, at * DAY_US, zero) for at in range(250) for name in ("AAPL", "IBM")]
    risks = measured(book("all", AAPL=50.0, IBM=-20.0), book("short", IBM=-20.0), returns=returns)
    shown = repr(risks)
    assert "=0.0," in shown
    assert not re.search(r"-0\.0\b", shown)
