"""Numbers of trees of books equal those of a naive model, which sees the final data only."""

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
import pytest
from scipy import stats

from schemas.events import Book, BookPart, BookRisk, Holding, Return
from stream_processors.books.tree import BookTree
from stream_processors.settings import ProcessorSettings

DAY_US = 86_400_000_000
SERIES = ("A", "B", "C", "D")
WINDOW = 250
SETTINGS = ProcessorSettings(risk_methods=("historical",), risk_draws=20_000)

Returns = Mapping[str, Mapping[int, float]]
"""The final return of each day, by series."""
Values = Mapping[str, float]
"""The value of each series."""


def drawn(dice: np.random.Generator) -> tuple[Returns, Sequence[Return]]:
    """Return final returns, and messages of them: late, corrected, and with days missing."""
    days = int(dice.integers(120, 420))
    final: dict[str, dict[int, float]] = {name: {} for name in SERIES}
    sent: list[tuple[float, Return]] = []
    for rank, name in enumerate(SERIES, 1):
        for day in range(1, days + 1):
            if rank > 1 and dice.random() < 0.03:  # a few days are missing
                continue
            value = final[name][day] = float(dice.normal(0.0003, 0.01 * rank))
            late = day + 5 * dice.random()
            if dice.random() < 0.05:
                mistaken = float(dice.normal(0, 0.3))
                sent += [(day, Return(name, day * DAY_US, mistaken, 1))]
                sent += [(late, Return(name, day * DAY_US, value, 2))]
            else:
                sent += [(late, Return(name, day * DAY_US, value, 1))]
    return final, [observed for _, observed in sorted(sent, key=lambda of: of[0])]


def books(dice: np.random.Generator, last_day: int) -> Sequence[Book]:
    """Return two books of random holdings, some short, with prices of random days."""
    made = []
    for name in ("x", "y"):
        held = [series for series in SERIES if dice.random() < 0.8] or ["A"]
        holdings = [
            Holding(
                series,
                float(dice.normal(20, 80)),
                float(dice.uniform(5, 50)),
                int(dice.integers(1, last_day)) * DAY_US,
            )
            for series in held
        ]
        nav = float(dice.uniform(1e4, 1e5)) if dice.random() < 0.3 else None
        made.append(Book(root="firm", book_id=name, holdings=holdings, nav=nav, event_time_us=0))
    return made


def value_of(holding: Holding, final: Returns) -> float:
    value = holding.quantity * holding.price
    for day, observed in sorted(final[holding.series_id].items()):
        if day * DAY_US > holding.priced_us:
            value *= 1 + observed
    return value


def days_of(series: Values, final: Returns) -> list[int]:
    """Return the days in the windows of all series."""
    common: set[int] = set.intersection(*({*sorted(final[name])[-WINDOW:]} for name in series))
    begins = [sorted(final[name])[-WINDOW] for name in series if len(final[name]) > WINDOW]
    return sorted(day for day in common if day >= max(begins, default=0))


def tail_of(pnl: np.ndarray, percent: int) -> tuple[float, float]:
    """Return VaR and ES of a profit and loss by their definitions."""
    losses = np.sort(-pnl)
    var = float(losses[ceil(len(losses) * percent / 100) - 1])
    excess = float(np.maximum(losses - var, 0).sum())
    return var, var + excess / (len(losses) * (1 - percent / 100))


def check(risk: BookRisk, parts: Mapping[str, Values], nav: float, final: Returns) -> None:
    """Compare a book's numbers with those of its parts' values."""
    values: dict[str, float] = {}
    for of_part in parts.values():
        for name, value in of_part.items():
            values[name] = values.get(name, 0.0) + value
    days = days_of(values, final)
    pnls = {
        part_id: np.array([sum(final[name][day] * of[name] for name in of) for day in days])
        for part_id, of in parts.items()
    }
    pnl = np.sum(list(pnls.values()), axis=0)
    gross = sum(map(abs, values.values()))
    assert risk.observations == len(days)
    assert (risk.value, risk.nav, risk.gross) == pytest.approx((sum(values.values()), nav, gross))
    assert risk.concentration == pytest.approx(max(map(abs, values.values())) / gross)
    for percent in (95, 99):
        var, es = tail_of(pnl, percent)
        assert risk.amounts[f"var_{percent}"] == pytest.approx(var, rel=1e-9)
        assert risk.amounts[f"es_{percent}"] == pytest.approx(es, rel=1e-9)
        share = getattr(risk, f"var_{percent}")
        assert share == (pytest.approx(var / nav) if nav > 1e-9 * gross else None)
    alone = 0.0
    for part in risk.parts:
        check_part(part, pnls[part.part_id], pnl)
        alone += part.var_95
    assert risk.undiversified_95 == pytest.approx(alone)
    if nav > 1e-9 * gross:
        check_simulation(risk, values, days, final)


def check_part(part: BookPart, own: np.ndarray, pnl: np.ndarray) -> None:
    z = stats.norm.ppf(0.95)
    count, tail = len(pnl), len(pnl) * 0.05
    var, _ = tail_of(pnl, 95)
    assert part.var_95 == pytest.approx(tail_of(own, 95)[0])
    component = -own.mean() + z * np.cov(own, pnl)[0, 1] / pnl.std(ddof=1)
    assert part.component_95 == pytest.approx(component, rel=1e-7)
    rest = pnl - own
    normal, without = (-of.mean() + z * of.std(ddof=1) for of in (pnl, rest))
    assert part.incremental_95 == pytest.approx(normal - without, rel=1e-6, abs=1e-9)
    at_var = float(-own[np.isclose(-pnl, var, rtol=1e-12, atol=0)].mean())
    assert part.historical_95 == pytest.approx(at_var)
    worse = np.argsort(pnl)[: count - ceil(count * 95 / 100)]
    of_tail = float(-own[worse].sum()) + (tail - len(worse)) * at_var
    assert part.historical_es_95 == pytest.approx(of_tail / tail)


def check_simulation(risk: BookRisk, values: Values, days: Sequence[int], final: Returns) -> None:
    """A simulation is within five of its standard errors of the normal deviation's VaR."""
    names = sorted(values)
    table = np.array([[final[name][day] for name in names] for day in days])
    held = np.array([values[name] for name in names])
    deviation = np.sqrt(held @ np.atleast_2d(np.cov(table, rowvar=False)) @ held)
    [found] = [of for of in risk.estimates if (of.method, of.confidence) == ("monte_carlo", 0.95)]
    assert risk.nav is not None
    assert found.var is not None
    assert found.var_error is not None
    expected = stats.norm.ppf(0.95) * deviation / risk.nav
    assert abs(found.var - expected) < 5 * found.var_error


@pytest.mark.parametrize("seed", range(8))
def test_every_number_of_a_tree_is_that_of_the_naive_model(seed: int) -> None:
    dice = np.random.default_rng(seed)
    final, sent = drawn(dice)
    tree, held = BookTree("firm", SETTINGS.book_config()), books(dice, max(final["A"]))
    for book in held:
        tree.put(book)
    for start in range(0, len(sent), 25):
        tree.add_returns(sent[start : start + 25])
    risks = {risk.book_id: risk for risk in tree.changes().risks}
    assert {risk.status for risk in risks.values()} == {"ok"}
    values = {
        book.book_id: {holding.series_id: value_of(holding, final) for holding in book.holdings}
        for book in held
    }
    navs = {
        book.book_id: sum(values[book.book_id].values()) if book.nav is None else book.nav
        for book in held
    }
    for book_id, of_book in values.items():
        parts = {name: {name: value} for name, value in of_book.items()}
        check(risks[book_id], parts, navs[book_id], final)
    check(risks["firm"], values, sum(navs.values()), final)
