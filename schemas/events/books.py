"""Trees of books, such as desk, fund and firm, and their risk."""

from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.bounds import (
    Bytes,
    Count,
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


class Holding(NamedTuple):
    """A quantity of an instrument, or of a portfolio."""

    series_id: Name
    quantity: Finite
    price: Finite
    priced_us: InstantUs
    """The time of the price. After it, the price moves with the returns."""


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
    """Net asset value; None means the sum of the holdings."""
    closed: bool = False
    set_by: Name | None = None
    event_time_us: ObservedUs
    tenant: Name | None = None
    """The tenant in a processor's state; in an event, the header holds it."""

    @property
    def path(self) -> str:
        """The key: the root and the book's id."""
        return f"{self.root}/{self.book_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesWanted:
    """A tree of books began or ceased to need the returns of a series."""

    series_id: Name
    root: Name
    wanted: bool
    event_time_us: ObservedUs


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesReturns:
    """Returns of the series that a tree of books needs."""

    root: Name
    returns: Items[Return]
    lap: SmallCount = 0
    """The lap of the replay that the returns are of."""

    @property
    def event_time_us(self) -> int:
        """The observation time of the newest return."""
        return max(value.event_time_us for value in self.returns)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesState:
    """A tree of books' window of the returns of one series."""

    root: Name
    series_id: Name
    window: Bytes
    observations: SmallCount
    tenant: Name | None = None
    lap: SmallCount = 0
    """The lap of the replay that the window is of."""


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
    """The series without returns at the others' times."""
    value: Real | None = None
    nav: Real | None = None
    """None where the value is not finite."""
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

    @property
    def path(self) -> str:
        """The key: the root and the book's id."""
        return f"{self.root}/{self.book_id}"

    @property
    def event_time_us(self) -> int:
        """The observation time of the newest return in the window."""
        return self.as_of_us
