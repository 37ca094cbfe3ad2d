"""Trees of books over HTTP: what is held where, and what each may lose.

What a book holds is an event; a processor measures it and all books above at once, and again with
every return of what they hold.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from kafka_io.clock import now_us
from schemas.events import Book, BookRisk, Holding
from schemas.instants import from_datetime, to_rfc3339
from schemas.topics import RISK_BOOKS
from sse_edge.errors import NoSuchThing
from sse_edge.http.stream_response import write
from sse_edge.routes.desk import all_of, who_asks
from sse_edge.routes.views import Views
from sse_edge.streams.dialects.mystocks import book_risk

_HOLDINGS_MAX = 500

router = APIRouter(prefix="/api/v1/books", tags=["risk"])

_Name = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^/]+$")]
Root = Annotated[str, Path(min_length=1, max_length=120, pattern=r"^[^/]+$")]
BookId = Annotated[str, Path(min_length=1, max_length=120, pattern=r"^[^/]+$")]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class Held(BaseModel):
    """So much of an instrument, or of a portfolio, whose returns come in."""

    model_config = ConfigDict(extra="forbid")

    series_id: Annotated[str, Field(min_length=1, max_length=256)]
    quantity: _Number
    price: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    priced_at: AwareDatetime | None = None
    """When the price was that; from then on it moves with the returns. Left out: now."""


class Holdings(BaseModel):
    """All that a book holds itself, and the book above it."""

    model_config = ConfigDict(
        extra="forbid",
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
    holdings: Annotated[list[Held], Field(max_length=_HOLDINGS_MAX)] = []
    nav: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @field_validator("holdings")
    @classmethod
    def _once_each(cls, holdings: list[Held]) -> list[Held]:
        names = [one.series_id for one in holdings]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is held twice; give its sum")
        return holdings


@router.put(
    "/{root}/{book_id}",
    summary="Say what a book holds",
    responses={503: {"description": "No broker."}},
)
async def put_book(
    request: Request, root: Root, book_id: BookId, wanted: Holdings
) -> dict[str, object]:
    """In place of all that it held; a book of the root's own name is the top of the tree."""
    time_us = now_us()
    holdings = [
        Holding(
            one.series_id,
            one.quantity,
            one.price,
            time_us if one.priced_at is None else from_datetime(one.priced_at),
        )
        for one in wanted.holdings
    ]
    book = Book(
        root=root,
        book_id=book_id,
        parent=wanted.parent,
        holdings=holdings,
        nav=wanted.nav,
        set_by=who_asks(request),
        event_time_us=time_us,
    )
    await _put(request, book)
    return _shown(book)


@router.delete("/{root}/{book_id}", summary="Close a book")
async def close_book(request: Request, root: Root, book_id: BookId) -> dict[str, object]:
    """It holds nothing any more; books below it lie below the root from now on."""
    book = Book(
        root=root,
        book_id=book_id,
        holdings=(),
        closed=True,
        set_by=who_asks(request),
        event_time_us=now_us(),
    )
    await _put(request, book)
    return {"root": root, "book_id": book_id, "status": "closed"}


@router.get("", summary="All books, and what they hold")
async def all_books(request: Request) -> list[dict[str, object]]:
    """By tree and name."""
    views: Views = request.app.state.views
    books: Sequence[Book] = await all_of(request, views.books)
    return [_shown(one) for one in sorted(books, key=lambda one: one.path) if not one.closed]


@router.get("/{root}", summary="A tree: what each book may lose")
async def tree(request: Request, root: Root) -> list[dict[str, object]]:
    """The latest of each book of a tree, the root first, as its stream has it."""
    views: Views = request.app.state.views
    risks: Sequence[BookRisk] = await all_of(request, views.book_risks)
    found = [one for one in risks if one.root == root]
    if not found:
        raise NoSuchThing(
            f"no book of {root[:60]!r} has been measured; GET /api/v1/books lists all"
        )
    ordered = sorted(found, key=lambda one: (one.parent is not None, one.book_id))
    return [dict(book_risk(one).data) for one in ordered]


async def _put(request: Request, book: Book) -> None:
    # A tree's books share a partition: whoever measures it has all of them.
    await write(request, book, home=(RISK_BOOKS, book.root))


def _shown(book: Book) -> dict[str, object]:
    shown: dict[str, object] = asdict(book)
    for name in ("closed", "tenant", "event_time_us"):
        del shown[name]
    shown["holdings"] = [
        {
            "series_id": one.series_id,
            "quantity": one.quantity,
            "price": one.price,
            "priced_at": to_rfc3339(one.priced_us),
        }
        for one in book.holdings
    ]
    shown["set_at"] = to_rfc3339(book.event_time_us)
    return shown
