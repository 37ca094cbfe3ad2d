"""The worked example of a book in the documentation has the numbers that the processor computes."""

from pathlib import Path

from schemas.calendars import date_text
from schemas.events import Book, Holding, Return
from stream_processors.books.config import BookConfig
from stream_processors.books.tree import BookTree
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.methods import Simulation

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "risk.md"
DAY_US = 86_400_000_000
FIRST_DAY = 20_458
PRICED_US = (FIRST_DAY + 19) * DAY_US
OF_A = [-0.05, -0.04, -0.03, *[0.01, 0.0] * 2, 0.0, *[0.01, 0.0, -0.01] * 4, 0.01, 0.02]
OF_B = [-0.01, 0.02, *[0.01, 0.0] * 9, 0.05, -0.05]


def test_the_worked_book_has_the_numbers_that_the_page_says() -> None:
    config = BookConfig(250, 20, (ConfidenceLevel.of("0.95"),), Simulation(10_000, seed=0), 20)
    tree = BookTree("firm", config)
    holdings = [Holding("A", 10, 100.0, PRICED_US), Holding("B", -5, 80.0, PRICED_US)]
    tree.put(Book(root="firm", book_id="firm", holdings=holdings, event_time_us=0))
    for name, values in (("A", OF_A), ("B", OF_B)):
        tree.add_returns(
            [Return(name, (FIRST_DAY + day) * DAY_US, value) for day, value in enumerate(values)]
        )
    [risk] = tree.changes().risks
    a, b = risk.parts
    text = PAGE.read_text(encoding="utf-8").partition("### A worked example")[2]
    assert risk.var_95 is not None
    assert risk.es_95 is not None
    assert risk.undiversified_95 is not None
    assert risk.nav is not None
    amounts = {
        of.method: (of.var or 0.0) * risk.nav for of in risk.estimates if of.confidence == 0.95
    }
    errors = [of.var_error * risk.nav for of in risk.estimates if of.var_error is not None]
    assert a.marginal_95 is not None
    assert f"{a.marginal_95:.4f} for each unit" in text
    for number in (
        *(amounts["normal"], amounts["monte_carlo"], *errors),
        *(a.component_95, b.component_95, a.incremental_95, b.incremental_95),
        *(a.historical_es_95, b.historical_es_95),
        *(a.value, b.value, risk.net, risk.gross, -risk.undiversified_95),
        *(risk.amounts["var_95"], risk.amounts["es_95"], risk.diversification_95),
        *(a.var_95, b.var_95, a.historical_95, b.historical_95),
    ):
        assert f"{number:,.2f}" in text
    assert f"{risk.var_95:.2%}".replace("%", " %") in text
    assert f"{risk.es_95:.2%}".replace("%", " %") in text
    assert f"{risk.observations} days" in text
    assert f"of {risk.scenario_day}: " in text
    assert f"priced on {date_text(FIRST_DAY + 19)}" in text
