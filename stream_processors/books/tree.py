"""A tree of books, such as desk, fund and firm: what each book holds, and what changed. Pure.

Books and returns arrive; the risk of every book that they changed leaves. A book holds amounts of
series, which are instruments or portfolios, and other books may be below it. A holding's value is
its quantity times its price, times the returns since the price was seen.

A book's VaR is that of all that is held in it and below it. So it is not the sum of its parts' VaR,
and the difference is the effect of diversification. A book whose parent is unknown is below the
root, so the root always contains every holding. Books are measured in
`stream_processors.books.measures`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isfinite
from typing import NamedTuple

import numpy as np

from schemas.events import Book, BookRisk, Holding, MeasureStatus, Return, RiskEstimate, SeriesState
from stream_processors.books.config import BookConfig
from stream_processors.books.measures import (
    SIMULATED,
    Part,
    ReturnTable,
    is_finite,
    join,
    measure_book,
    simulate,
)
from stream_processors.risk.confidence import InvalidInput
from stream_processors.risk.measures import VAR_95, finite
from stream_processors.risk.methods import Floats
from stream_processors.risk.window import APPLIED, ReturnWindow

DEPTH_MAX = 32
"""The most books above a book, including the root."""

_ANY_AGE_US = 1 << 62
"""The agent that measures returns has refused the late ones already."""


class Changes(NamedTuple):
    """The changes in a tree since they were last asked for."""

    risks: Sequence[BookRisk]
    """Of every book whose risk may differ."""
    series: Sequence[SeriesState]
    closed: Sequence[str]
    """The paths of books that no longer exist."""


class BookTree:
    """The books below one root, and the returns of the series that they hold."""

    def __init__(self, root: str, config: BookConfig, tenant: str | None = None) -> None:
        """Create a tree without books, of a tenant or of none."""
        self.root = root
        self.tenant = tenant
        self.books: dict[str, Book] = {}
        self.series: frozenset[str] = frozenset()
        """The series whose returns the tree needs."""
        self._config = config
        self._empty_root = Book(root=root, book_id=root, holdings=(), event_time_us=0)
        """The root book, if no event has described it."""
        self._windows: dict[str, ReturnWindow] = {}
        self._laps: dict[str, int] = {}
        """The lap of the replay that a series' window is of."""
        self._touched_books: set[str] = set()
        self._touched_series: set[str] = set()
        self._simulated: dict[str, tuple[int, Sequence[RiskEstimate]]] = {}
        """The time and the estimates of each book's last simulation."""

    def put(self, book: Book) -> None:
        """Add, replace or close a book.

        Raises:
            InvalidInput: a number is not finite, a price is not positive, a series is held twice,
                the book would be below itself, or the tree would be too deep.
        """
        before = self.books
        others = {book_id: other for book_id, other in before.items() if book_id != book.book_id}
        changed = self._around(book.book_id)
        if not book.closed:
            _check(book)
            self.books = others | {book.book_id: book}
            try:
                self._check_shape(book)
            except InvalidInput:
                self.books = before
                raise
        else:
            self.books = others
        changed |= self._around(book.book_id)
        self._update_series()
        self._touched_books |= changed
        for book_id in changed:
            self._simulated.pop(book_id, None)

    def add_returns(self, returns: Iterable[Return], lap: int = 0) -> None:
        """Add returns to the windows of the series that are held; ignore all others.

        Args:
            returns: the returns, in the log's order.
            lap: the lap of the replay that they are of; a higher one begins a window again.
        """
        for observation in returns:
            series_id = observation.portfolio_id
            if series_id not in self.series:
                continue
            window, present = self._windows.get(series_id), self._laps.get(series_id, 0)
            if lap < present:
                continue
            if window is None or lap > present:
                self._laps[series_id] = lap
                window = self._windows[series_id] = ReturnWindow(self._config.window)
            if window.add(observation, lateness_us=_ANY_AGE_US) in APPLIED:
                self._touched_series.add(series_id)

    def restore(
        self,
        books: Iterable[Book],
        series: Iterable[SeriesState],
        simulated: Iterable[BookRisk],
    ) -> None:
        """Continue from a stored state: books, windows of series, and last simulations."""
        self.books = {book.book_id: book for book in books}
        self._update_series()
        for state in series:
            self._windows[state.series_id] = ReturnWindow.restore(
                self._config.window, *ReturnWindow.unpack(state.window, state.observations)
            )
            self._laps[state.series_id] = state.lap
        for risk in simulated:
            estimates = [estimate for estimate in risk.estimates if estimate.method == SIMULATED]
            if estimates:
                self._simulated[risk.book_id] = estimates[0].as_of_us, estimates

    def changes(self) -> Changes:
        """Measure the books that changed since the last call; return all changes."""
        touched = self._touched_books | {
            book.book_id
            for book in self.books.values()
            if any(holding.series_id in self._touched_series for holding in book.holdings)
        }
        for book_id in tuple(touched):
            touched.update(self._above(self._book(book_id)))
        series = [self._state(name) for name in sorted(self._touched_series & self.series)]
        existing = {*self.books, self.root} if self.books else set()
        with np.errstate(all="ignore"):  # results that are not finite are found and marked
            risks = [self._risk(self._book(book_id)) for book_id in sorted(touched & existing)]
        closed = [f"{self.root}/{book_id}" for book_id in sorted(touched - existing)]
        self._touched_books, self._touched_series = set(), set()
        return Changes(risks, series, closed)

    def _state(self, series_id: str) -> SeriesState:
        window = self._windows[series_id]
        return SeriesState(
            root=self.root,
            series_id=series_id,
            window=window.pack(),
            observations=len(window),
            tenant=self.tenant,
            lap=self._laps.get(series_id, 0),
        )

    def _check_shape(self, book: Book) -> None:
        """Raise InvalidInput if a book that was put is below itself, or makes the tree too deep."""
        above = self._above(book)
        if book.book_id in above:
            raise InvalidInput(
                f"{book.book_id} would lie below itself: {' < '.join([book.book_id, *above])}"
            )
        deepest = max(len(self._above(other)) for other in self.books.values())
        if deepest > DEPTH_MAX:
            raise InvalidInput(
                f"with {book.book_id} a book would lie {deepest} levels below {self.root}; "
                f"a tree has at most {DEPTH_MAX}"
            )

    def _around(self, book_id: str) -> set[str]:
        """Return a book, those above it and those right below it; the root, if it is unknown."""
        book = self.books.get(book_id)
        if book is None:
            return {self.root}
        below = {child.book_id for child in self._children(book_id)}
        return {book_id, self.root, *self._above(book), *below}

    def _update_series(self) -> None:
        self.series = frozenset(
            holding.series_id for book in self.books.values() for holding in book.holdings
        )
        for series_id in self._windows.keys() - self.series:
            del self._windows[series_id]
            self._laps.pop(series_id, None)

    def _book(self, book_id: str) -> Book:
        return self.books.get(book_id, self._empty_root)

    def _parent(self, book: Book) -> str | None:
        if book.book_id == self.root:
            return None
        return book.parent if book.parent in self.books else self.root

    def _above(self, book: Book) -> list[str]:
        """Return the books above a book, the nearest first, up to the root or to a repetition."""
        above: list[str] = []
        parent = self._parent(book)
        while parent is not None and parent not in above:
            above.append(parent)
            parent = self._parent(self._book(parent))
        return above

    def _children(self, book_id: str) -> list[Book]:
        return [
            book
            for _, book in sorted(self.books.items())
            if self._parent(book) == book_id and book.book_id != book_id
        ]

    def _exposures(self, book: Book) -> dict[str, float]:
        """Return the value of each series that is held by a book or below it."""
        values = {holding.series_id: self._value(holding) for holding in book.holdings}
        for child in self._children(book.book_id):
            for series_id, value in self._exposures(child).items():
                values[series_id] = values.get(series_id, 0.0) + value
        return values

    def _value(self, holding: Holding) -> float:
        """Return a holding's present value."""
        value = holding.quantity * holding.price
        window = self._windows.get(holding.series_id)
        if window is None or not len(window) or window.newest_us <= holding.priced_us:
            return value
        later = np.array(window.times_us) > holding.priced_us
        return float(value * np.prod(1 + np.array(window.values)[later]))

    def _parts(self, book: Book) -> list[Part]:
        """Return a book's holdings, then the books right below it."""
        holdings = [
            Part(holding.series_id, is_book=False, values={holding.series_id: self._value(holding)})
            for holding in book.holdings
        ]
        children = [
            Part(child.book_id, is_book=True, values=self._exposures(child))
            for child in self._children(book.book_id)
        ]
        return [*holdings, *children]

    def _risk(self, book: Book) -> BookRisk:
        exposures = self._exposures(book)
        series = sorted(exposures)
        values = np.array([exposures[series_id] for series_id in series])
        value = finite(float(values.sum()))
        windows = [self._windows.get(series_id) for series_id in series]
        table = join(windows)
        days = 0 if table is None else len(table.times_us)
        risk = BookRisk(
            root=self.root,
            book_id=book.book_id,
            parent=self._parent(book),
            as_of_us=int(table.times_us[-1]) if table is not None and days else 0,
            status=MeasureStatus.INSUFFICIENT_DATA,
            observations=days,
            series=len(series),
            missing=[
                series_id for series_id in series if not len(self._windows.get(series_id, ()))
            ],
            value=value,
            nav=value if book.nav is None else book.nav,
        )
        minimum = max(self._config.observations_min, VAR_95.observations_min)
        if table is None or days < minimum:
            return risk
        try:
            measured = measure_book(risk, table, values, self._parts(book), self._config)
            simulated = self._simulate(risk, table, values)
        except InvalidInput:
            return replace(risk, status=MeasureStatus.UNAVAILABLE)
        if not is_finite(measured):
            return replace(risk, status=MeasureStatus.UNAVAILABLE)
        return replace(measured, estimates=[*measured.estimates, *simulated])

    def _simulate(
        self, risk: BookRisk, table: ReturnTable, values: Floats
    ) -> Sequence[RiskEstimate]:
        """Return a book's last simulation, or a new one if it is old or the book has changed."""
        known = self._simulated.get(risk.book_id)
        if known is not None:
            days_since = int((table.times_us > known[0]).sum())
            if days_since < self._config.simulate_every:
                return known[1]
        estimates = simulate(risk, table, values, self._config)
        self._simulated[risk.book_id] = int(table.times_us[-1]), estimates
        return estimates


def _check(book: Book) -> None:
    """Raise InvalidInput if a number in a book is out of its range, or a series is held twice."""
    seen: set[str] = set()
    for holding in book.holdings:
        series_id = holding.series_id
        if series_id in seen:
            raise InvalidInput(f"{series_id} is held twice by {book.book_id}; give its sum")
        seen.add(series_id)
        if not isfinite(holding.quantity):
            raise InvalidInput(f"the quantity of {series_id} is {holding.quantity}; give a number")
        if not (isfinite(holding.price) and holding.price > 0):
            raise InvalidInput(f"the price of {series_id} is {holding.price}; it must be positive")
    if book.nav is not None and not isfinite(book.nav):
        raise InvalidInput(f"the net asset value of {book.book_id} is {book.nav}; give a number")
