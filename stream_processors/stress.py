"""Losses of portfolios and books in stress scenarios. Pure.

Scenarios arrive, of several tenants; the loss of a series or of holdings in each of them leaves. A
portfolio is a series: its loss is its shock. A book's loss is that of today's holdings,
-sum(value_i shock_i). The shocks are in the scenario, so a loss needs no past returns.

Where a scenario shocks only a part of a book, the loss is known if the other holdings are less than
5 % of the book's gross value; they are named in any case.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isfinite

from schemas.events import OtherSeries, Record, Scenario, StressLoss

MISSING_SHARE_MAX = 0.05
"""The share of a book's gross value from which on a loss without it is unknown."""
NAV_SHARE_MIN = 1e-9
"""The share of gross value that net asset value must exceed: a share of less has no meaning."""
MISSING_NAMED_MAX = 100
"""The most series that a loss names as missing, so that it fits into an event."""


@dataclass(frozen=True, slots=True)
class StressTest:
    """A scenario, ready to value holdings."""

    name: str
    version: int
    shocks: Mapping[str, float]
    """The return of each series."""
    others_are_unmoved: bool
    """Whether a series without a shock has a return of zero; else its loss is unknown."""

    @classmethod
    def of(cls, scenario: Scenario) -> "StressTest":
        """Return the test of a scenario."""
        return cls(
            scenario.name,
            scenario.version,
            {shock.series_id: shock.value for shock in scenario.shocks},
            scenario.others == OtherSeries.ZERO,
        )

    def of_portfolio(self, portfolio_id: str) -> StressLoss:
        """Return the loss of a portfolio, as a fraction of its net asset value."""
        shock = self._shock(portfolio_id)
        if shock is None:
            return StressLoss(self.name, self.version, missing=[portfolio_id])
        return StressLoss(self.name, self.version, _loss(shock))

    def of_book(self, values: Mapping[str, float], nav: float | None) -> StressLoss:
        """Return the loss of a book.

        Args:
            values: the present value of each series in the book and below it.
            nav: its net asset value; None where a share of it has no meaning.
        """
        shocks = {series_id: self._shock(series_id) for series_id in sorted(values)}
        missing = [series_id for series_id, shock in shocks.items() if shock is None]
        amount = None
        gross = fsum(map(abs, values.values()))
        left_out = fsum(abs(values[series_id]) for series_id in missing)
        if not missing or left_out < MISSING_SHARE_MAX * gross:
            moved = [values[name] * shock for name, shock in shocks.items() if shock is not None]
            amount = _finite(_sum(moved))
        has_nav = nav is not None and nav > NAV_SHARE_MIN * gross
        share = None
        if amount is not None and nav is not None and has_nav:
            share = _finite(amount / nav)
        return StressLoss(
            self.name,
            self.version,
            None if share is None else _loss(share),
            None if amount is None else _loss(amount),
            missing[:MISSING_NAMED_MAX],
        )

    def _shock(self, series_id: str) -> float | None:
        return self.shocks.get(series_id, 0.0 if self.others_are_unmoved else None)


class Scenarios:
    """The scenarios in force, by tenant."""

    def __init__(self) -> None:
        """Start without scenarios."""
        self._by_tenant: dict[str | None, dict[str, Scenario]] = {}
        self._tests: dict[str | None, Sequence[StressTest]] = {}

    @classmethod
    def of_rows(cls, rows: Iterable[Record]) -> "Scenarios":
        """Return the scenarios among the rows of a processor's state."""
        scenarios = cls()
        for row in rows:
            if isinstance(row, Scenario):
                scenarios.put(row, row.tenant)
        return scenarios

    def put(self, scenario: Scenario, tenant: str | None) -> bool:
        """Take a scenario of a tenant, unless a newer one is known; return whether it was taken.

        Two edges may write versions of one scenario at the same time, in another order in each
        partition. So the higher version counts, and of equal ones the one that was made later.
        """
        of_tenant = self._by_tenant.setdefault(tenant, {})
        known = of_tenant.get(scenario.name)
        if known is not None and _rank(scenario) <= _rank(known):
            return False
        if known is None and scenario.withdrawn:
            return False
        if scenario.withdrawn:
            del of_tenant[scenario.name]
        else:
            of_tenant[scenario.name] = scenario
        self._tests.pop(tenant, None)
        return True

    def tests_of(self, tenant: str | None) -> Sequence[StressTest]:
        """Return the tests of a tenant's scenarios, by name."""
        tests = self._tests.get(tenant)
        if tests is None:
            found = self._by_tenant.get(tenant, {})
            tests = self._tests[tenant] = [StressTest.of(found[name]) for name in sorted(found)]
        return tests


def _rank(scenario: Scenario) -> tuple[int, int]:
    return scenario.version, scenario.event_time_us


def _loss(value: float) -> float:
    return 0.0 - value  # -0.0 is never published


def _sum(numbers: Sequence[float]) -> float:
    try:
        return fsum(numbers)
    except (OverflowError, ValueError):  # beyond all numbers, or of opposite infinities
        return float("nan")


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
