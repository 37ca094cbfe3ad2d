"""Trees of books, such as desk, fund and firm, and their risk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.events.risk import Return, RiskEstimate


class Holding(NamedTuple):
    """A quantity of an instrument, or of a portfolio."""

    series_id: str
    quantity: float
    price: float
    priced_us: int
    """The time of the price. After it, the price moves with the returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The holdings of one book of a tree, from now on."""

    root: str
    """The id of the tree's top book."""
    book_id: str
    parent: str | None = None
    """The id of the book above; None means the root."""
    holdings: Sequence[Holding]
    nav: float | None = None
    """Net asset value; None means the sum of the holdings."""
    closed: bool = False
    set_by: str | None = None
    event_time_us: int
    tenant: str | None = None
    """The tenant in a processor's state; in an event, the header holds it."""

    @property
    def path(self) -> str:
        """The key: the root and the book's id."""
        return f"{self.root}/{self.book_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesWanted:
    """A tree of books began or ceased to need the returns of a series."""

    series_id: str
    root: str
    wanted: bool
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesReturns:
    """Returns of the series that a tree of books needs."""

    root: str
    returns: Sequence[Return]
    lap: int = 0
    """The lap of the replay that the returns are of."""

    @property
    def event_time_us(self) -> int:
        """The observation time of the newest return."""
        return max(value.event_time_us for value in self.returns)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesState:
    """A tree of books' window of the returns of one series."""

    root: str
    series_id: str
    window: bytes
    observations: int
    tenant: str | None = None
    lap: int = 0
    """The lap of the replay that the window is of."""


class BookPart(NamedTuple):
    """The contribution of a holding or a child book to the book's risk, in currency."""

    part_id: str
    is_book: bool
    value: float
    var_95: float
    """The VaR of the part alone."""
    marginal_95: float | None
    """By the normal method, for each unit of value."""
    component_95: float
    incremental_95: float
    historical_95: float
    """The part's loss in the scenario of the book's VaR."""
    historical_es_95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BookRisk:
    """Risk of a book, with the contributions of its parts. VaR and ES are fractions of its NAV."""

    root: str
    book_id: str
    parent: str | None = None
    as_of_us: int
    status: str
    observations: int
    series: int
    """The number of series below the book."""
    missing: Sequence[str]
    """The series without returns at the others' times."""
    value: float | None = None
    nav: float | None = None
    """None where the value is not finite."""
    var_95: float | None = None
    es_95: float | None = None
    var_99: float | None = None
    es_99: float | None = None
    amounts: Mapping[str, float] = field(default_factory=dict)
    """VaR and ES in currency, by name."""
    undiversified_95: float | None = None
    """The sum of the parts' own VaR, in currency."""
    scenario_us: int | None = None
    """The observation time of the scenario that the VaR at 95 % is taken from."""
    estimates: Sequence[RiskEstimate] = ()
    seed: int = 0
    """The seed of the simulation."""
    parts: Sequence[BookPart] = ()
    tenant: str | None = None
    """The tenant in a processor's state; in an event, the header holds it."""

    @property
    def path(self) -> str:
        """The key: the root and the book's id."""
        return f"{self.root}/{self.book_id}"

    @property
    def event_time_us(self) -> int:
        """The observation time of the newest return in the window."""
        return self.as_of_us
