"""Stress scenarios: named shocks of series, by which portfolios and books are valued."""

from dataclasses import dataclass
from typing import NamedTuple

from schemas.bounds import Finite, Items, Name, ObservedUs, Real, SmallCount, Text


class Shock(NamedTuple):
    """The return of one series in a scenario."""

    series_id: Name
    value: Finite
    """As a fraction of the series' value; negative for a fall."""
    observations: SmallCount = 0
    """The returns that it is computed from; 0 for a shock that was given."""
    beta: Finite | None = None
    """The beta to the scenario's factor; None where the shock does not follow from one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A stress scenario from now on. Each partition of its topic has a copy of it.

    The shocks are computed once, when the scenario is put. So a loss is a function of the scenario
    and of today's holdings, whatever returns the log has lost since.
    """

    name: Name
    version: SmallCount
    """Counts how often the name was put or withdrawn."""
    kind: Name
    shocks: Items[Shock] = ()
    others: Name
    """How series without a shock are treated, as `OtherSeries` names it."""
    factor: Name | None = None
    """The series whose shock the betas multiply."""
    first_day: Name | None = None
    """The first day of the past that the scenario repeats, as `2008-09-15`."""
    last_day: Name | None = None
    """The last such day, inclusive."""
    days: SmallCount = 0
    """The number of these days on which a series has a return."""
    withdrawn: bool = False
    set_by: Name | None = None
    comment: Text = ""
    event_time_us: ObservedUs
    tenant: Name | None = None
    """The tenant in a processor's state; in an event, the header holds it."""
    calendar: Name | None = None
    """The calendar of these days; None for UTC."""


class StressLoss(NamedTuple):
    """The loss of a portfolio or book in one scenario."""

    scenario: Name
    version: SmallCount
    """The version of the scenario."""
    loss: Real | None = None
    """A fraction of net asset value; negative for a gain, None where it is unknown."""
    amount: Real | None = None
    """The same in the currency of the book; None for a portfolio."""
    missing: Items[Name] = ()
    """The series that are held and that the scenario does not shock."""
