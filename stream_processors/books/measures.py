"""Measure one book: VaR, ES and parts of its hypothetical profit and loss. Pure.

The values of the series that a book holds, and the series' returns, arrive; a `BookRisk` leaves.
The P&L of a day is what today's holdings would have gained or lost on it,
pnl_t = sum(value_i r_i,t). Amounts are in the book's currency; VaR and ES are shares of its net
asset value, where that is positive.

The tree that a book is in, and the values of its holdings, are in `stream_processors.books.tree`;
which days count is in `stream_processors.books.days`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import isfinite
from typing import NamedTuple

import numpy as np

from schemas.calendars import date_text
from schemas.events import BookPart, BookRisk, MeasureStatus, RiskEstimate
from stream_processors.books.config import BookConfig
from stream_processors.books.days import ReturnTable
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.decomposition import historical_parts, normal_parts
from stream_processors.risk.measures import VAR_95, VAR_99, finite
from stream_processors.risk.methods import Floats, historical, sampling_error, simulated
from stream_processors.risk.moments import Estimate, Normal

SIMULATED = "monte_carlo"
_LEVELS = (VAR_95, VAR_99)

NAV_MIN = 1e-9
"""The least net asset value, as a share of the gross value, that fractions are given of."""

NO_POSITIVE_NAV = "no_positive_nav"


class Part(NamedTuple):
    """A part of a book: a holding of its own, or a book below it."""

    part_id: str
    is_book: bool
    values: Mapping[str, float]
    """The value of each series in it that the book is measured with."""
    value: float | None = None
    """The value of all that it holds; None for the sum of these."""


def measure_book(
    risk: BookRisk, table: ReturnTable, values: Floats, parts: Sequence[Part], config: BookConfig
) -> BookRisk:
    """Measure a book by the historical and the normal method.

    Args:
        risk: the book, not measured yet.
        table: the returns of the series in it and below it.
        values: of these series, shape (series,).
        parts: the holdings and the books right below.
        config: how to measure.

    Returns:
        The book, measured.

    Raises:
        InvalidInput: an amount is not finite.
    """
    pnl = _require_finite(table.returns @ values)
    amounts: dict[str, float] = {}
    for level in _LEVELS:
        if len(pnl) >= max(level.observations_min, config.observations_min):
            percent = f"{level.number * 100:g}"
            estimate = historical(pnl, level)
            amounts |= {f"var_{percent}": estimate.var, f"es_{percent}": estimate.es}
    book_parts = _measure_parts(parts, table)
    scenario = np.flatnonzero(pnl == -amounts["var_95"])[-1]
    undiversified = sum(part.var_95 for part in book_parts)
    shares = {name: _share(amount, risk) for name, amount in amounts.items()}
    return replace(
        risk,
        status=MeasureStatus.DEGENERATE if np.ptp(pnl) == 0 else MeasureStatus.OK,
        reason=None if has_positive_nav(risk) else NO_POSITIVE_NAV,
        var_95=shares["var_95"],
        es_95=shares["es_95"],
        var_99=shares.get("var_99"),
        es_99=shares.get("es_99"),
        amounts=amounts,
        undiversified_95=undiversified,
        diversification_95=finite(undiversified - amounts["var_95"]) if book_parts else None,
        scenario_us=int(table.times_us[scenario]),
        scenario_day=date_text(int(table.days[scenario])),
        estimates=list(_estimates(pnl, risk, config)),
        seed=config.simulation.seed,
        parts=book_parts,
    )


def simulate(
    risk: BookRisk, table: ReturnTable, values: Floats, config: BookConfig
) -> list[RiskEstimate]:
    """Estimate a book's VaR and ES by Monte Carlo, at each level.

    Raises:
        InvalidInput: the covariance of the returns is not finite.
    """
    covariance = np.atleast_2d(np.cov(table.returns, rowvar=False))
    pnl = simulated(values, covariance, config.simulation)
    return [_simulated_event(pnl, level, risk) for level in config.levels]


def has_positive_nav(risk: BookRisk) -> bool:
    """Return whether a book's net asset value is positive, also beside what the book holds.

    A net-short or dollar-neutral book has none, unless its net asset value is stated.
    """
    return risk.nav is not None and risk.nav > NAV_MIN * (risk.gross or 0.0)


def is_finite(risk: BookRisk) -> bool:
    """Return whether all amounts are finite, as an event's must be."""
    amounts = [*risk.amounts.values(), risk.undiversified_95 or 0.0]
    of_parts = [value for part in risk.parts for value in part if isinstance(value, float)]
    return all(map(isfinite, chain(amounts, of_parts)))


def _measure_parts(parts: Sequence[Part], table: ReturnTable) -> list[BookPart]:
    """Decompose a book's VaR and ES into amounts of its parts, which add up."""
    if not parts:
        return []
    # The columns of the table are all series of the parts, by name.
    series = sorted({name for part in parts for name in part.values})
    held = np.array([[part.values.get(name, 0.0) for part in parts] for name in series])
    pnls = _require_finite(table.returns @ held)
    weights = np.ones(len(parts))
    covariance = np.atleast_2d(np.cov(pnls, rowvar=False))
    is_constant = np.ptp(pnls, axis=0) == 0
    covariance[is_constant] = covariance[:, is_constant] = 0.0  # without rounding errors
    normal = normal_parts(weights, pnls.mean(axis=0), covariance, VAR_95)
    past = historical_parts(weights, pnls, VAR_95)
    return [
        BookPart(
            part_id=part.part_id,
            is_book=part.is_book,
            value=sum(part.values.values()) if part.value is None else part.value,
            var_95=historical(pnls[:, index], VAR_95).var,
            marginal_95=_marginal(float(normal.component[index]), sum(part.values.values())),
            component_95=float(normal.component[index]),
            incremental_95=float(normal.incremental[index]),
            historical_95=float(past.var[index]),
            historical_es_95=float(past.es[index]),
        )
        for index, part in enumerate(parts)
    ]


def _marginal(component: float, value: float) -> float | None:
    return None if value == 0 else component / value + 0.0


def _estimates(pnl: Floats, risk: BookRisk, config: BookConfig) -> Iterator[RiskEstimate]:
    mean, deviation = float(pnl.mean()), float(pnl.std(ddof=1))
    if np.ptp(pnl) == 0:  # no rounding error shall move the mean of equal days
        mean, deviation = float(pnl[0]), 0.0
    for level in config.levels:
        confidence = level.number
        if len(pnl) >= level.observations_min:
            yield _event("historical", confidence, historical(pnl, level), risk)
        else:
            insufficient = MeasureStatus.INSUFFICIENT_DATA
            yield RiskEstimate("historical", confidence, 1, insufficient, risk.as_of_us)
        yield _event("normal", confidence, Normal(level).estimate(mean, deviation), risk)


def _event(method: str, confidence: float, estimate: Estimate, risk: BookRisk) -> RiskEstimate:
    var, es = _share(estimate.var, risk), _share(estimate.es, risk)
    status = MeasureStatus.OK if var is not None else MeasureStatus.UNAVAILABLE
    return RiskEstimate(method, confidence, 1, status, risk.as_of_us, var, es)


def _simulated_event(pnl: Floats, level: ConfidenceLevel, risk: BookRisk) -> RiskEstimate:
    """Return an estimate with its standard errors, which fall with the root of the draws."""
    error = sampling_error(pnl, level)
    event = _event(SIMULATED, level.number, historical(pnl, level), risk)
    return event._replace(var_error=_share(error.var, risk), es_error=_share(error.es, risk))


def _share(amount: float, risk: BookRisk) -> float | None:
    """Return an amount as a share of a book's net asset value; None if that is not positive."""
    return finite(amount / risk.nav) if risk.nav is not None and has_positive_nav(risk) else None


def _require_finite(numbers: Floats) -> Floats:
    if not np.isfinite(numbers).all():
        raise InvalidInput("amounts must be finite")
    return numbers
