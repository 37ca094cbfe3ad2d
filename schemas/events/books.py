"""Trees of books, such as desk, fund and firm, and their risk."""

from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.bounds import (
    Bytes,
    Count,
    DerivedId,
    Finite,
    InstantUs,
    Items,
    Name,
    ObservedUs,
    Real,
    SmallCount,
    Table,
)
from schemas.events.risk import Return, RiskEstimate
from schemas.events.stress import StressLoss


class Holding(NamedTuple):
    """A quantity of an instrument, or of a portfolio."""

    series_id: Name
    quantity: Finite
    price: Finite
    priced_us: InstantUs
    """The time of the price. After it, the price moves with the returns."""
    currency: Name | None = None
    """The currency of the price; None means the book's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The holdings of one book of a tree, from now on."""

    root: Name
    """The id of the tree's top book."""
    book_id: Name
    parent: Name | None = None
    """The id of the book above; None means the root."""
    holdings: Items[Holding]
    nav: Real | None = None
    """Net asset value; None means the holdings' value and the net asset values of the books below.
    """
    closed: bool = False
    set_by: Name | None = None
    event_time_us: ObservedUs
    tenant: Name | None = None
    """The tenant in a processor's state; in an event, the header holds it."""
    currency: Name | None = None
    """The currency of all amounts of the tree, such as USD; None if the book does not state it."""
    calendar: Name | None = None
    """The calendar that dates the tree's returns; None if the book does not state it."""
    missing: Name | None = None
    """The rule for days on which a series has no return; None means that of the book above."""

    @property
    def path(self) -> str:
        """The key: the root and the book's id."""
        return f"{self.root}/{self.book_id}"


class UnmovedPrice(NamedTuple):
    """A price of a series; returns that the tree does not have may have moved it."""

    priced_us: InstantUs
    until_us: InstantUs | None = None
    """The newest time of a return that the tree lacks; None if it has no returns yet."""


class MovedPrice(NamedTuple):
    """How far returns that a tree does not have moved a price."""

    series_id: Name
    priced_us: InstantUs
    until_us: InstantUs
    """The newest time of these returns; the tree has all later ones."""
    factor: Real
    since_us: InstantUs
    """All returns after this time are known: the price's time, unless the log begins later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesWanted:
    """A tree of books began or ceased to need the returns of a series, or how they moved prices."""

    series_id: Name
    root: Name
    wanted: bool
    event_time_us: ObservedUs
    prices: Items[UnmovedPrice] = ()
    """The prices whose moves by earlier returns the tree does not know."""
    anew: bool = False
    """Whether the series is to begin anew, since its past was rebuilt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesReturns:
    """Returns of the series that a tree of books needs."""

    root: Name
    returns: Items[Return]
    lap: SmallCount = 0
    """The lap of the replay that the returns are of."""
    earlier: Items[Name] = ()
    """The series whose earlier returns are not among these, in a first window."""
    moved: Items[MovedPrice] = ()
    """How far earlier returns moved the prices that were asked for."""
    rebuilt: Items[Name] = ()
    """The series whose past was rebuilt, so that the tree must ask for them anew."""
    anew: Items[Name] = ()
    """The series that begin anew with these returns."""

    @property
    def event_time_us(self) -> int:
        """The observation time of the newest return, or of the last one that moved a price."""
        times_us = (value.event_time_us for value in self.returns)
        return max(times_us, default=max((price.until_us for price in self.moved), default=0))


class CarriedPrice(NamedTuple):
    """How far returns that a series no longer keeps moved a price."""

    priced_us: InstantUs
    factor: Real
    is_whole: bool
    """Whether all returns after the price are known."""
    since_us: InstantUs | None = None
    """The factor is of the returns after this time; None for all after the price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesState:
    """A tree of books' returns of one series: its window, and those that may be corrected."""

    root: Name
    series_id: Name
    window: Bytes
    observations: SmallCount
    tenant: Name | None = None
    lap: SmallCount = 0
    """The lap of the replay that the window is of."""
    carried: Items[CarriedPrice] = ()
    dropped_us: InstantUs | None = None
    """The newest time of a return that is no longer kept, or that never was."""


class MissingDays(NamedTuple):
    """The days on which a series has no return, and others have."""

    series_id: Name
    first_day: Name | None
    """The first date with a return of the series; None if it has none."""
    last_day: Name | None
    missing_from: Name
    """The first date without a return."""
    missing_to: Name
    days: SmallCount
    """The number of days without a return."""


class StalePrice(NamedTuple):
    """A price that returns have moved which are not in the log any more."""

    series_id: Name
    priced_day: Name
    """The date of the price, in the calendar."""
    known_from: Name
    """The date from which the returns are known that moved it."""


class ExcludedSeries(NamedTuple):
    """A series that is left out of a book, since it has too few returns."""

    series_id: Name
    share: Finite
    """Its share of the book's gross value."""
    observations: SmallCount


class BookPart(NamedTuple):
    """The contribution of a holding or a child book to the book's risk, in currency."""

    part_id: Name
    is_book: bool
    value: Real
    var_95: Real
    """The VaR of the part alone."""
    marginal_95: Real | None
    """By the normal method, for each unit of value."""
    component_95: Real
    incremental_95: Real
    historical_95: Real
    """The part's loss in the scenario of the book's VaR."""
    historical_es_95: Real


@dataclass(frozen=True, slots=True, kw_only=True)
class BookRisk:
    """Risk of a book, with the contributions of its parts. VaR and ES are fractions of its NAV."""

    root: Name
    book_id: Name
    parent: Name | None = None
    as_of_us: InstantUs
    status: Name
    observations: SmallCount
    series: SmallCount
    """The number of series below the book."""
    missing: Items[Name]
    """The series without a return on a day that others have."""
    value: Real | None = None
    nav: Real | None = None
    """None where it is not finite."""
    var_95: Real | None = None
    es_95: Real | None = None
    var_99: Real | None = None
    es_99: Real | None = None
    amounts: Table[Real] = field(default_factory=dict)
    """VaR and ES in currency, by name."""
    undiversified_95: Real | None = None
    """The sum of the parts' own VaR, in currency."""
    scenario_us: InstantUs | None = None
    """The observation time of the scenario that the VaR at 95 % is taken from."""
    estimates: Items[RiskEstimate] = ()
    seed: Count = 0
    """The seed of the simulation."""
    parts: Items[BookPart] = ()
    tenant: Name | None = None
    """The tenant in a processor's state; in an event, the header holds it."""
    event_id: DerivedId | None = None
    """The same for the same risk of the same book."""
    supersedes: DerivedId | None = None
    """The `event_id` of the risk as of the same time that this one replaces."""
    reason: Name | None = None
    """Why the status is not `ok`, or why VaR and ES are given in currency only."""
    method: Name | None = None
    """The method of `var_95` to `es_99`."""
    gross: Real | None = None
    """The sum of the absolute values of the series."""
    net: Real | None = None
    """The sum of the values of the series."""
    currency: Name | None = None
    calendar: Name | None = None
    first_day: Name | None = None
    """The first date in the window, in the calendar."""
    last_day: Name | None = None
    scenario_day: Name | None = None
    """The date of the scenario that the VaR at 95 % is taken from."""
    corrections: SmallCount = 0
    """The number of returns in the windows that replaced another one."""
    missing_days: Items[MissingDays] = ()
    """The series without a return on a day that others have."""
    excluded: Items[ExcludedSeries] = ()
    """The series that are left out, since they have too few returns."""
    stale_prices: Items[Name] = ()
    """The series with a price that is older than the returns that are known."""
    missing_policy: Name | None = None
    """The rule for days on which a series has no return."""
    diversification_95: Real | None = None
    """The sum of the parts' own VaR less the VaR of the book, in currency."""
    stress: Items[StressLoss] = ()
    """The loss in each of the tenant's stress scenarios, by the scenario's name."""
    concentration: Real | None = None
    """The largest absolute value of a series, as a share of the gross value."""
    stale_price_days: Items[StalePrice] = ()
    """Of each price that is older than the returns that are known, from when on they are."""

    @property
    def path(self) -> str:
        """The key: the root and the book's id."""
        return f"{self.root}/{self.book_id}"

    @property
    def event_time_us(self) -> int:
        """The observation time of the newest return in the window."""
        return self.as_of_us
