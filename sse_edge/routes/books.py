"""Trees of books: their holdings, and their risk.

Setting the holdings or the limits of a book writes an event. A processor then measures the book and
all books above it, measures them again with every return of their holdings, and judges them by
their limits.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Self

from fastapi import APIRouter, Path, Request
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from kafka_io.clock import now_us
from schemas.calendars import parse_calendar
from schemas.events import (
    Book,
    BookMetric,
    BookRisk,
    EntityType,
    Holding,
    RiskLimits,
)
from schemas.instants import from_datetime, to_rfc3339
from schemas.topics import RISK_BOOKS, RISK_LIMITS
from schemas.vocabularies import STRESS_LOSS, STRESS_LOSS_AMOUNT
from sse_edge.caller import Scope
from sse_edge.errors import InvalidParameter, NoSuchThing
from sse_edge.http.dependencies import rows_of, subject_of
from sse_edge.http.quotas import refuse_beyond
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import write
from sse_edge.routes.limits import (
    LIMITS_MAX,
    SCENARIO,
    Comment,
    Positive,
    Thresholds,
    limit_of,
    shown_limit,
)
from sse_edge.routes.views import ViewsDep
from sse_edge.streams.dialects.mystocks import book_risk

_HOLDINGS_MAX = 500

router = APIRouter(prefix="/api/v1/books", tags=["risk"])

_Name = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^/]+$")]
Root = Annotated[
    str,
    Path(
        min_length=1,
        max_length=120,
        pattern=r"^[^/]+$",
        description="The top book of the tree.",
    ),
]
BookId = Annotated[
    str,
    Path(min_length=1, max_length=120, pattern=r"^[^/]+$", description="The name of the book."),
]
_Currency = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{2,11}$")]
_MISSING = r"^(drop_day|zero|proxy:.+)$"
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Metric = Annotated[
    str,
    Field(pattern=rf"^({'|'.join(BookMetric)}|({STRESS_LOSS}|{STRESS_LOSS_AMOUNT}){SCENARIO})$"),
]


class HoldingRequest(BaseModel):
    """A quantity of an instrument, or of a portfolio, that has returns."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    series_id: Annotated[str, Field(min_length=1, max_length=256)]
    """The name under which the returns of the instrument or portfolio are published."""
    quantity: _Number
    """The number of units; negative for a short position."""
    price: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """The price of a unit, in the currency of the tree."""
    priced_at: AwareDatetime | None = None
    """The time of the price, by default now. After it, the price moves with the returns."""
    currency: _Currency | None = None
    """The currency of the price, which must be that of the book."""


class BookRequest(BaseModel):
    """All holdings of a book, and the book above it."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {
                    "parent": "equities",
                    "holdings": [
                        {"series_id": "AAPL", "quantity": 100, "price": 190.0},
                        {"series_id": "IBM", "quantity": -50, "price": 140.0},
                    ],
                    "nav": 50_000,
                }
            ]
        },
    )

    parent: _Name | None = None
    """The book above; without one, it is the root."""
    holdings: Annotated[list[HoldingRequest], Field(max_length=_HOLDINGS_MAX)] = []
    """All holdings of the book, at most one of each series."""
    nav: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Net asset value, in the same currency; by default the value of the holdings and the net asset
    values of the books right below."""
    currency: _Currency | None = None
    """The currency of all amounts, such as `USD`. All books of a tree have the same one."""
    calendar: Annotated[str, Field(max_length=256)] | None = None
    """The calendar that dates the tree's returns: a time zone and, unless days end at midnight, the
    time at which they do, as in `America/New_York 17:00`; by default the processors' setting."""
    missing: Annotated[str, Field(max_length=256, pattern=_MISSING)] | None = None
    """The rule for days on which only some series have a return: `drop_day`, `zero` or
    `proxy:SERIES`; by default as for the book above, and for the root the processors' setting."""

    @field_validator("calendar")
    @classmethod
    def _names_a_zone(cls, calendar: str | None) -> str | None:
        if calendar is not None:
            parse_calendar(calendar)
        return calendar

    @field_validator("holdings")
    @classmethod
    def _once_each(cls, holdings: list[HoldingRequest]) -> list[HoldingRequest]:
        names = [holding.series_id for holding in holdings]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is held twice; give the sum")
        return holdings

    @model_validator(mode="after")
    def _in_one_currency(self) -> Self:
        currency = self.currency
        for holding in self.holdings:
            currency = currency or holding.currency
            if holding.currency not in (None, currency):
                raise ValueError(
                    f"{holding.series_id} is in {holding.currency}, and the book in {currency}; "
                    "a book has one currency"
                )
        return self


class BookLimit(Thresholds):
    """The limit of one metric of a book."""

    metric: _Metric
    """The limited metric: a fraction of the net asset value, an amount in the book's currency,
    `concentration`, the largest absolute value of a series as a share of the gross value,
    `stress_loss:NAME`, the loss in the stress scenario of that name as a fraction, or
    `stress_loss_amount:NAME`, the same as an amount."""


class BookLimitsRequest(BaseModel):
    """All limits of a book."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    limits: Annotated[list[BookLimit], Field(max_length=LIMITS_MAX)]
    """The limits, at most one of each metric; without any, the book raises no alerts."""
    stale_after_s: Positive | None = None
    """The seconds without a measure of a newer day after which an alert is raised; by default
    never."""
    comment: Comment = ""
    """The reason; the log keeps it."""

    @field_validator("limits")
    @classmethod
    def _of_each_metric_once(cls, limits: list[BookLimit]) -> list[BookLimit]:
        metrics = [limit.metric for limit in limits]
        for metric in metrics:
            if metrics.count(metric) > 1:
                raise ValueError(f"there are two limits of {metric}; give one")
        return limits


@router.put(
    "/{root}/{book_id}",
    dependencies=[require(Scope.LIMITS)],
    summary="Set the holdings of a book",
    responses={503: {"description": "Kafka is unavailable."}},
)
async def put_book(
    request: Request, views: ViewsDep, root: Root, book_id: BookId, body: BookRequest
) -> dict[str, object]:
    """Replace all holdings of a book. The book with the root's name is the top of the tree."""
    rows: Sequence[Book] = await rows_of(request, views.books)
    present = {(book.root, book.book_id) for book in rows if not book.closed}
    refuse_beyond(views.settings.books_max, present, (root, book_id), "books")
    time_us = now_us()
    holdings = [
        Holding(
            holding.series_id,
            holding.quantity,
            holding.price,
            time_us if holding.priced_at is None else from_datetime(holding.priced_at),
            holding.currency,
        )
        for holding in body.holdings
    ]
    book = Book(
        root=root,
        book_id=book_id,
        parent=body.parent,
        holdings=holdings,
        nav=body.nav,
        set_by=subject_of(request),
        event_time_us=time_us,
        currency=body.currency,
        calendar=body.calendar,
        missing=body.missing,
    )
    _refuse_others(book, rows)
    await _put(request, book)
    return _shown(book)


@router.delete("/{root}/{book_id}", dependencies=[require(Scope.LIMITS)], summary="Close a book")
async def close_book(request: Request, root: Root, book_id: BookId) -> dict[str, object]:
    """Remove a book's holdings. The books below it belong to the root from now on."""
    book = Book(
        root=root,
        book_id=book_id,
        holdings=(),
        closed=True,
        set_by=subject_of(request),
        event_time_us=now_us(),
    )
    await _put(request, book)
    return {"root": root, "book_id": book_id, "status": "closed"}


@router.put(
    "/{root}/{book_id}/limits",
    dependencies=[require(Scope.LIMITS)],
    summary="Set a book's limits",
    responses={503: {"description": "Kafka is unavailable."}},
)
async def set_limits(
    request: Request, views: ViewsDep, root: Root, book_id: BookId, body: BookLimitsRequest
) -> dict[str, object]:
    """Replace all limits of a book. The processor judges its risk by the new ones at once."""
    rows = await rows_of(request, views.limits)
    limited = {row.portfolio_id for row in rows if row.limits}
    path = f"{root}/{book_id}"
    most = views.settings.limited_portfolios_max
    refuse_beyond(most, limited, path, "portfolios and books with limits")
    limits = _limits(request, root, book_id, body)
    await write(request, limits, home=(RISK_LIMITS, root))
    return _shown_limits(limits)


@router.delete(
    "/{root}/{book_id}/limits",
    dependencies=[require(Scope.LIMITS)],
    summary="Withdraw a book's limits",
)
async def withdraw_limits(request: Request, root: Root, book_id: BookId) -> dict[str, object]:
    """Withdraw all limits of a book; its alerts clear."""
    limits = _limits(request, root, book_id, BookLimitsRequest(limits=[]))
    await write(request, limits, home=(RISK_LIMITS, root))
    return _shown_limits(limits)


@router.get("/{root}/{book_id}/limits", summary="Get a book's limits")
async def limits_of(
    request: Request, views: ViewsDep, root: Root, book_id: BookId
) -> dict[str, object]:
    """Return the limits that were set last; 404 if there are none."""
    for limits in await rows_of(request, views.limits):
        is_book = limits.entity_type == EntityType.BOOK
        is_set = bool(limits.limits or limits.stale_after_s)
        if is_book and limits.portfolio_id == f"{root}/{book_id}" and is_set:
            return _shown_limits(limits)
    raise NoSuchThing("no limits were set for this book; PUT to the same path sets them")


@router.get("", summary="List all books with their holdings")
async def all_books(request: Request, views: ViewsDep) -> list[dict[str, object]]:
    """Books are listed by tree and name."""
    books: Sequence[Book] = await rows_of(request, views.books)
    return [_shown(book) for book in sorted(books, key=lambda book: book.path) if not book.closed]


@router.get("/{root}", summary="Get the risk of each book of a tree")
async def tree(request: Request, views: ViewsDep, root: Root) -> list[dict[str, object]]:
    """Return the last risk of each book, the root first, as the `books` stream has it."""
    risks: Sequence[BookRisk] = await rows_of(request, views.book_risks)
    found = [risk for risk in risks if risk.root == root]
    if not found:
        raise NoSuchThing(
            f"no book of {root[:60]!r} has been measured; GET /api/v1/books lists all"
        )
    ordered = sorted(found, key=lambda risk: (risk.parent is not None, risk.book_id))
    return [dict(book_risk(risk).data) for risk in ordered]


def _refuse_others(book: Book, rows: Sequence[Book]) -> None:
    """Refuse a book with another currency or calendar than the books of its tree state.

    Raises:
        InvalidParameter: it has.
    """
    others = [
        other
        for other in rows
        if other.root == book.root and other.book_id != book.book_id and not other.closed
    ]
    currencies = _currencies(book)
    for other in others:
        for stated in _currencies(other):
            if currencies and stated not in currencies:
                raise InvalidParameter(
                    "currency",
                    f"{book.book_id} is in {currencies[0]}, and {other.book_id} of the same tree "
                    f"in {stated}; a tree has one currency",
                )
        if None not in (book.calendar, other.calendar) and other.calendar != book.calendar:
            raise InvalidParameter(
                "calendar",
                f"{book.book_id} has {book.calendar}, and {other.book_id} of the same tree "
                f"{other.calendar}; a tree has one calendar",
            )


def _currencies(book: Book) -> Sequence[str]:
    stated = [book.currency, *(holding.currency for holding in book.holdings)]
    return [currency for currency in stated if currency is not None]


async def _put(request: Request, book: Book) -> None:
    # A tree's books share a partition, so that one processor has all of them.
    await write(request, book, home=(RISK_BOOKS, book.root))


def _limits(request: Request, root: str, book_id: str, body: BookLimitsRequest) -> RiskLimits:
    return RiskLimits(
        portfolio_id=f"{root}/{book_id}",
        limits=[limit_of(limit) for limit in body.limits],
        stale_after_s=body.stale_after_s,
        set_by=subject_of(request),
        comment=body.comment,
        event_time_us=now_us(),
        entity_type=EntityType.BOOK,
    )


def _shown_limits(limits: RiskLimits) -> dict[str, object]:
    return {
        "path": limits.portfolio_id,
        "limits": [shown_limit(limit) for limit in limits.limits],
        "stale_after_s": limits.stale_after_s,
        "comment": limits.comment,
        "set_by": limits.set_by,
        "set_at": to_rfc3339(limits.event_time_us),
    }


def _shown(book: Book) -> dict[str, object]:
    shown: dict[str, object] = asdict(book)
    for name in ("closed", "tenant", "event_time_us"):
        del shown[name]
    shown["holdings"] = [
        {
            "series_id": holding.series_id,
            "quantity": holding.quantity,
            "price": holding.price,
            "priced_at": to_rfc3339(holding.priced_us),
            "currency": holding.currency,
        }
        for holding in book.holdings
    ]
    shown["set_at"] = to_rfc3339(book.event_time_us)
    return shown
