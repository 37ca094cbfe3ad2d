"""The worked example of stress scenarios in the documentation, computed from real prices."""

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from arch.data import sp500

from schemas.events import OtherSeries, Return, ReturnBatch, Scenario, ScenarioKind, Shock
from schemas.instants import from_datetime
from sse_edge.routes.shocks import PastReturns
from stream_processors.stress import StressTest

ROOT = Path(__file__).parents[2]
TEXT = re.sub(r"\s+", " ", (ROOT / "docs" / "concepts" / "risk.md").read_text(encoding="utf-8"))


def test_the_example_has_the_numbers_of_the_code() -> None:
    prices: Any = sp500.load()["Adj Close"].tz_localize("UTC")
    assert f"closed at {prices['2008-09-12']:,.2f}" in TEXT
    returns = prices.pct_change().dropna()
    past = PastReturns(date(2008, 9, 15), date(2008, 10, 10))
    values = [
        Return("index", from_datetime(day.to_pydatetime()), value) for day, value in returns.items()
    ]
    past.add(ReturnBatch(returns=values), float("inf"))
    shocks, days = past.shocks()
    assert f"Its {days} returns from 2008-09-15 to 2008-10-10" in TEXT
    test = StressTest.of(
        Scenario(
            name="lehman",
            version=1,
            kind=ScenarioKind.HISTORICAL,
            shocks=[*shocks, Shock("fund", -0.05)],
            others=OtherSeries.MISSING,
            event_time_us=0,
        )
    )
    loss = test.of_portfolio("index").loss
    assert loss is not None
    assert loss == pytest.approx(-shocks[0].value, abs=0)
    assert f"add up to {-loss:.4f}" in TEXT
    assert f"has a `loss` of {loss:.4f}" in TEXT
    held = {"index": 100 * 1_000.0, "fund": -20_000.0}
    book = test.of_book(held, sum(held.values()))
    assert book.amount is not None
    assert f"loses {book.amount + 1_000:,.0f} - 1,000 = {book.amount:,.0f}" in TEXT
    assert f"a share of {book.loss:.4f}" in TEXT
