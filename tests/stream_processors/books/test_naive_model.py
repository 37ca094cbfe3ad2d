"""Numbers of trees of books equal those of a naive model, which sees the final data only."""

from collections.abc import Mapping, Sequence, Set as AbstractSet
from dataclasses import replace
from datetime import date
from math import ceil
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from schemas.events import Book, BookPart, BookRisk, Holding, Return
from stream_processors.books.tree import BookTree
from stream_processors.settings import ProcessorSettings

DAY_US = 86_400_000_000
SERIES = ("A", "B", "C", "D")
WINDOW, LEAST = 250, 100
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
        begin, end = 1, days
        if rank > 2 and dice.random() < 0.4:  # one that is new, or has ended
            begin, end = sorted(dice.integers(1, days + 1, size=2).tolist())
        for day in range(begin, end + 1):
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
                float(dice.normal(20, 80)) * (0.02 if dice.random() < 0.3 else 1),
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


class Lines(NamedTuple):
    """The returns of a book's series, line by line."""

    returns: Returns
    """Of the series that are measured, on the days that count."""
    days: Sequence[int]
    short: AbstractSet[str]
    """The series that have too few returns."""
    missing: Mapping[str, Sequence[int]]
    """The days on which a series has no return, and others have."""


def days_of(windows: Returns, final: Returns) -> list[int]:
    """Return the days on which a series has a return, in the windows of all that are full."""
    begins = [min(windows[name]) for name in windows if len(final[name]) > WINDOW]
    days = {day for of in windows.values() for day in of}
    return sorted(day for day in days if day >= max(begins, default=0))


def lines_of(held: Values, final: Returns, policy: str) -> Lines:
    """Line up the returns of series by the policy for missing ones."""
    windows = {name: dict(sorted(of.items())[-WINDOW:]) for name, of in final.items() if of}
    known = {name: windows[name] for name in held if name in windows}
    enough = {name: of for name, of in known.items() if len(of) >= LEAST}
    days = days_of(enough or known, final)
    if policy == "drop_day":
        enough = {name: of for name, of in enough.items() if len(of.keys() & {*days}) >= LEAST}
        days = days_of(enough or known, final)
        filled = enough
    else:
        of_proxy = windows["A"] if policy == "proxy:A" else dict.fromkeys(days, 0.0)
        named = held if policy == "proxy:A" else known
        fill = {day: of_proxy[day] for day in days if day in of_proxy}
        filled = {name: fill | known.get(name, {}) for name in named}
    measured = {name: of for name, of in filled.items() if len(of.keys() & {*days}) >= LEAST}
    return Lines(
        measured,
        [day for day in days if measured and all(day in of for of in measured.values())],
        held.keys() - measured.keys(),
        {
            name: lacking
            for name in held
            if (lacking := [day for day in days if day not in known.get(name, {})])
        },
    )


def tail_of(pnl: np.ndarray, percent: int) -> tuple[float, float]:
    """Return VaR and ES of a profit and loss by their definitions."""
    losses = np.sort(-pnl)
    var = float(losses[ceil(len(losses) * percent / 100) - 1])
    excess = float(np.maximum(losses - var, 0).sum())
    return var, var + excess / (len(losses) * (1 - percent / 100))


def check(
    risk: BookRisk, parts: Mapping[str, Values], nav: float, final: Returns, policy: str
) -> None:
    """Compare a book's numbers with those of its parts' values."""
    values: dict[str, float] = {}
    for of_part in parts.values():
        for name, value in of_part.items():
            values[name] = values.get(name, 0.0) + value
    gross = sum(map(abs, values.values()))
    assert (risk.value, risk.nav, risk.gross) == pytest.approx((sum(values.values()), nav, gross))
    assert risk.concentration == pytest.approx(max(map(abs, values.values())) / gross)
    lines = lines_of(values, final, policy)
    missing = {
        of.series_id: (of.days, day_of(of.missing_from), day_of(of.missing_to))
        for of in risk.missing_days
    }
    assert missing == {name: (len(of), of[0], of[-1]) for name, of in lines.missing.items()}
    excluded = {name: abs(values[name]) / gross for name in lines.short}
    if not lines.days or sum(excluded.values()) >= 0.05:
        assert (risk.status, risk.reason) == ("insufficient_data", "series_too_short")
        assert (risk.amounts, risk.var_95, risk.es_99) == ({}, None, None)
        return
    assert {of.series_id: of.share for of in risk.excluded} == pytest.approx(excluded)
    if len(lines.days) < LEAST:
        assert (risk.status, risk.reason) == ("insufficient_data", "too_few_days")
        return
    assert (risk.status, risk.observations) == ("ok", len(lines.days))
    check_measures(risk, parts, nav, lines)


def day_of(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def check_measures(risk: BookRisk, parts: Mapping[str, Values], nav: float, lines: Lines) -> None:
    """Compare the measures with those of the lines."""
    returns, days = lines.returns, lines.days
    pnls = {
        part_id: np.array(
            [sum(returns[name][day] * of[name] for name in of if name in returns) for day in days]
        )
        for part_id, of in parts.items()
    }
    pnl = np.sum(list(pnls.values()), axis=0)
    assert risk.gross is not None
    has_nav = nav > 1e-9 * risk.gross
    for percent in (95, 99):
        var, es = tail_of(pnl, percent)
        assert risk.amounts[f"var_{percent}"] == pytest.approx(var, rel=1e-9)
        assert risk.amounts[f"es_{percent}"] == pytest.approx(es, rel=1e-9)
        share = getattr(risk, f"var_{percent}")
        assert share == (pytest.approx(var / nav) if has_nav else None)
    alone = 0.0
    for part in risk.parts:
        check_part(part, pnls[part.part_id], pnl)
        alone += part.var_95
    assert risk.undiversified_95 == pytest.approx(alone)
    if has_nav:
        values = {name: sum(of.get(name, 0.0) for of in parts.values()) for name in returns}
        check_simulation(risk, values, lines)


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


def check_simulation(risk: BookRisk, values: Values, lines: Lines) -> None:
    """A simulation is within six of its standard errors of the normal deviation's VaR."""
    names = sorted(values)
    table = np.array([[lines.returns[name][day] for name in names] for day in lines.days])
    held = np.array([values[name] for name in names])
    deviation = np.sqrt(held @ np.atleast_2d(np.cov(table, rowvar=False)) @ held)
    [found] = [of for of in risk.estimates if (of.method, of.confidence) == ("monte_carlo", 0.95)]
    assert risk.nav is not None
    assert found.var is not None
    assert found.var_error is not None
    expected = stats.norm.ppf(0.95) * deviation / risk.nav
    assert abs(found.var - expected) < 6 * found.var_error


@given(st.integers(0, 2**32), st.sampled_from(["drop_day", "drop_day", "zero", "proxy:A"]))
@settings(max_examples=25, deadline=None)
def test_every_number_of_a_tree_is_that_of_the_naive_model(seed: int, policy: str) -> None:
    dice = np.random.default_rng(seed)
    final, sent = drawn(dice)
    config = replace(SETTINGS.book_config(), missing=policy)
    tree, held = BookTree("firm", config), books(dice, max(final["A"]))
    for book in held:
        tree.put(book)
    for start in range(0, len(sent), 25):
        tree.add_returns(sent[start : start + 25])
    risks = {risk.book_id: risk for risk in tree.changes().risks}
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
        check(risks[book_id], parts, navs[book_id], final, policy)
    check(risks["firm"], values, sum(navs.values()), final, policy)
