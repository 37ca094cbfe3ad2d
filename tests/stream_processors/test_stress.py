"""Losses in scenarios: of portfolios, of books with series that are not shocked, and versions."""

import random
from dataclasses import replace
from itertools import permutations
from math import copysign

import pytest

from schemas.events import OtherSeries, Scenario, Shock, StressLoss
from stream_processors.stress import MISSING_NAMED_MAX, Scenarios, StressTest

LEHMAN = Scenario(
    name="lehman",
    version=3,
    kind="historical",
    shocks=[Shock("AAPL", -0.25), Shock("IBM", -0.1), Shock("flat", 0.0)],
    others=OtherSeries.MISSING,
    event_time_us=7,
)
TEST = StressTest.of(LEHMAN)
ZERO = StressTest.of(replace(LEHMAN, others=OtherSeries.ZERO))


def test_a_portfolio_loses_its_shock() -> None:
    assert TEST.of_portfolio("AAPL") == StressLoss("lehman", 3, 0.25)
    assert TEST.of_portfolio("new") == StressLoss("lehman", 3, None, None, ["new"])
    assert ZERO.of_portfolio("new") == StressLoss("lehman", 3, 0.0)
    for test, name in ((TEST, "flat"), (ZERO, "new")):
        loss = test.of_portfolio(name).loss
        assert loss is not None
        assert copysign(1, loss) == 1  # -0.0 is no number to publish


def test_a_book_loses_what_its_holdings_lose() -> None:
    loss = TEST.of_book({"AAPL": 1_000.0, "IBM": -500.0}, nav=400.0)
    assert loss == StressLoss("lehman", 3, 200.0 / 400.0, 200.0, [])


@pytest.mark.parametrize("nav", [None, 0.0, -5.0, 1e-8])
def test_a_share_needs_a_positive_net_asset_value(nav: float | None) -> None:
    loss = TEST.of_book({"AAPL": 1_000.0, "IBM": -1_000.0}, nav)
    assert (loss.loss, loss.amount) == (None, 150.0)


def test_a_loss_without_much_of_the_book_is_unknown_and_names_the_series() -> None:
    small = TEST.of_book({"AAPL": 1_000.0, "new": -52.0}, 948.0)
    assert (small.amount, small.missing) == (250.0, ["new"])
    large = TEST.of_book({"AAPL": 1_000.0, "new": -53.0}, 947.0)
    assert (large.loss, large.amount, large.missing) == (None, None, ["new"])
    assert ZERO.of_book({"AAPL": 1_000.0, "new": -53.0}, 947.0).amount == 250.0


def test_an_empty_book_loses_nothing_and_a_huge_one_has_no_number() -> None:
    assert TEST.of_book({}, 0.0) == StressLoss("lehman", 3, None, 0.0, [])
    many = {f"s{number}": 1.0 for number in range(200)}
    assert len(TEST.of_book(many, 200.0).missing) == MISSING_NAMED_MAX
    shocks = [Shock("a", -1e10), Shock("b", 1e10)]
    huge = StressTest.of(replace(LEHMAN, shocks=shocks))
    assert huge.of_book({"a": 1e300, "b": 1e300}, 1.0).amount is None
    assert huge.of_book({"a": 1e300}, 1.0).amount is None


def test_in_any_order_the_highest_version_counts() -> None:
    copies = [
        LEHMAN,
        replace(LEHMAN, version=4, comment="first", event_time_us=8),
        replace(LEHMAN, version=4, comment="second", event_time_us=9),
    ]
    for order in permutations(copies):
        scenarios = Scenarios()
        for copy in order:
            scenarios.put(copy, None)
        assert not scenarios.put(copies[-1], None)
        (test,) = scenarios.tests_of(None)
        assert test.version == 4


def test_a_withdrawn_scenario_is_gone_and_other_tenants_keep_theirs() -> None:
    scenarios = Scenarios()
    assert not scenarios.put(replace(LEHMAN, withdrawn=True), "acme")
    names = ["b", "a", "c"]
    random.Random(1).shuffle(names)
    for name in names:
        assert scenarios.put(replace(LEHMAN, name=name), "acme")
    assert scenarios.put(replace(LEHMAN, name="a"), "other")
    assert [test.name for test in scenarios.tests_of("acme")] == ["a", "b", "c"]
    assert scenarios.put(replace(LEHMAN, name="a", version=4, withdrawn=True), "acme")
    assert [test.name for test in scenarios.tests_of("acme")] == ["b", "c"]
    assert [test.name for test in scenarios.tests_of("other")] == ["a"]
    assert scenarios.tests_of(None) == []
