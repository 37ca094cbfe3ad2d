"""A tree of books, such as desk, fund and firm: what each book holds, and what changed. Pure.

Books and returns arrive; the risk of every book that they changed leaves. A book holds amounts of
series, which are instruments or portfolios, and other books may be below it. A holding's value is
its quantity times its price, times the returns since the price was seen.

A book's VaR is that of all that is held in it and below it. So it is not the sum of its parts' VaR,
and the difference is the effect of diversification. A book whose parent is unknown is below the
root, so the root always contains every holding. Books are measured in
`stream_processors.books.measures`.

The net asset value of a book is the stated one, else the value of its own holdings and the net
asset values of the books right below. A tree has one currency and one calendar, which any of its
books may state.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from dataclasses import replace
from math import isfinite
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from schemas.calendars import Calendar, InvalidCalendar, date_text, parse_calendar
from schemas.events import (
    Book,
    BookRisk,
    ExcludedSeries,
    Holding,
    MeasureStatus,
    MovedPrice,
    Return,
    RiskEstimate,
    SeriesState,
    StalePrice,
    UnmovedPrice,
)
from stream_processors.books.config import BookConfig
from stream_processors.books.days import Joined, MissingPolicy, ReturnTable, join
from stream_processors.books.measures import (
    SIMULATED,
    Part,
    is_finite,
    measure_book,
    simulate,
)
from stream_processors.books.series import SeriesHistory
from stream_processors.risk.confidence import InvalidInput
from stream_processors.risk.measures import VAR_95, finite
from stream_processors.risk.methods import Floats
from stream_processors.stress import StressTest

DEPTH_MAX = 32
"""The most books above a book, including the root."""

EXCLUDED_MAX = 0.05
"""Series with too few returns are left out of a book if they are less than this share of its gross
value; else the book is not measured."""

METHOD = "historical"
"""The method of a book's VaR and ES."""


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
        self._series: dict[str, SeriesHistory] = {}
        self._calendar = config.calendar
        self._stress: Sequence[StressTest] = ()
        self._touched_books: set[str] = set()
        self._touched_series: set[str] = set()
        self._revised_series: set[str] = set()
        """The series of which a return that is not the newest one was added or corrected."""
        self._simulated: dict[str, tuple[int, Sequence[RiskEstimate]]] = {}
        """The time and the estimates of each book's last simulation."""

    def put(self, book: Book) -> None:
        """Add, replace or close a book.

        Raises:
            InvalidInput: a number is not finite, a price is not positive, a series is held twice,
                the book would be below itself, the tree would be too deep, or it would have two
                currencies or calendars.
        """
        before = self.books
        others = {book_id: other for book_id, other in before.items() if book_id != book.book_id}
        changed = self._around(book.book_id)
        if not book.closed:
            _check(book)
            _check_agreement(book, others.values())
            self.books = others | {book.book_id: book}
            try:
                self._check_shape(book)
            except InvalidInput:
                self.books = before
                raise
        else:
            self.books = others
        changed |= self._around(book.book_id)
        changed.update(self._below(book.book_id))
        if _conventions(self.books) != _conventions(before):
            changed.update(self.books)
        self._update_series()
        self._touched_books |= changed
        for book_id in changed:
            self._simulated.pop(book_id, None)

    def set_stress(self, tests: Sequence[StressTest]) -> None:
        """Set the stress scenarios that all books are valued by."""
        if tests != self._stress:
            self._stress = tests
            self.touch()

    @property
    def paths(self) -> AbstractSet[str]:
        """The paths of the books that are measured."""
        return {f"{self.root}/{book_id}" for book_id in self._existing}

    @property
    def _existing(self) -> AbstractSet[str]:
        return {*self.books, self.root} if self.books else set()

    def states(self) -> Sequence[SeriesState]:
        """Return the states of all series that have returns."""
        return [self._state(series_id) for series_id in sorted(self._series)]

    def touch(self) -> None:
        """Let all books be measured, as if each had changed."""
        self._touched_books |= self._existing

    def add_returns(
        self,
        returns: Sequence[Return],
        lap: int = 0,
        earlier: Iterable[str] = (),
        moved: Iterable[MovedPrice] = (),
        anew: Iterable[str] = (),
    ) -> None:
        """Add returns to the series that are held; ignore all others.

        Args:
            returns: the returns, in the log's order.
            lap: the lap of the replay that they are of; a higher one begins a window again.
            earlier: the series that have returns which are older than all of these.
            moved: how far such returns moved prices.
            anew: the series of which all that is known is forgotten first.
        """
        self._revised_series |= self._series.keys() & set(anew)
        for series_id in anew:
            self._series.pop(series_id, None)
        without_earlier = set(earlier)
        firsts = _first_times(returns, without_earlier) if without_earlier else {}
        for observation in returns:
            series_id = observation.portfolio_id
            if series_id not in self.series:
                continue
            series = self._series.get(series_id)
            if series is not None and lap < series.lap:
                continue
            if series is None or lap > series.lap:
                series = self._series[series_id] = self._new_series(series_id)
                series.lap = lap
            if series_id in firsts:
                series.mark_earlier(firsts.pop(series_id))
            is_newest = series.is_newest(observation.event_time_us)
            if series.add(observation):
                self._touched_series.add(series_id)
                if not is_newest:
                    self._revised_series.add(series_id)
        self._move_prices(moved, lap)

    def _move_prices(self, moved: Iterable[MovedPrice], lap: int) -> None:
        for price in moved:
            series = self._series.get(price.series_id)
            if series is not None and series.lap == lap and series.move_price(price):
                self._touched_series.add(price.series_id)
                self._revised_series.add(price.series_id)

    def unmoved_prices(self, series_id: str) -> Sequence[UnmovedPrice]:
        """Return the prices of a series that returns which the tree lacks may have moved."""
        series = self._series.get(series_id)
        return self.prices_of(series_id) if series is None else series.unmoved_prices()

    def prices_of(self, series_id: str) -> Sequence[UnmovedPrice]:
        """Return all prices of a series, as if the tree had no returns of it."""
        times_us = self._prices().get(series_id, ())
        return [UnmovedPrice(time_us) for time_us in sorted(set(times_us))]

    def restore(
        self,
        books: Iterable[Book],
        series: Iterable[SeriesState],
        simulated: Iterable[BookRisk],
    ) -> None:
        """Continue from a stored state: books, windows of series, and last simulations."""
        self.books = {book.book_id: book for book in books}
        self._calendar = self._stated_calendar()
        for state in series:
            self._series[state.series_id] = SeriesHistory.restore(
                state, self._config.window, self._config.lateness_us, self._calendar
            )
        self._update_series()
        for risk in simulated:
            estimates = [estimate for estimate in risk.estimates if estimate.method == SIMULATED]
            if estimates:
                self._simulated[risk.book_id] = estimates[0].as_of_us, estimates

    def changes(self) -> Changes:
        """Measure the books that changed since the last call; return all changes."""
        touched = self._touched_books | self._holders(self._touched_series)
        for book_id in tuple(touched):
            touched.update(self._above(self._book(book_id)))
        for book_id in self._holders(self._revised_series):
            # All methods take a correction at once.
            for revised in (book_id, *self._above(self._book(book_id))):
                self._simulated.pop(revised, None)
        series = [self._state(name) for name in sorted(self._touched_series & self.series)]
        existing = self._existing
        with np.errstate(all="ignore"):  # results that are not finite are found and marked
            risks = [self._risk(self._book(book_id)) for book_id in sorted(touched & existing)]
        closed = [f"{self.root}/{book_id}" for book_id in sorted(touched - existing)]
        self._touched_books, self._touched_series, self._revised_series = set(), set(), set()
        return Changes(risks, series, closed)

    def _holders(self, series: AbstractSet[str]) -> set[str]:
        """Return the books that hold one of some series, or take its returns for missing ones."""
        if not series:
            return set()
        return {
            book.book_id
            for book in self.books.values()
            if any(holding.series_id in series for holding in book.holdings)
            or self._policy(book).proxy in series
        }

    def _state(self, series_id: str) -> SeriesState:
        return self._series[series_id].pack(self.root, self.tenant)

    def _new_series(self, series_id: str) -> SeriesHistory:
        config = self._config
        series = SeriesHistory(series_id, config.window, config.lateness_us, self._calendar)
        series.set_prices(self._prices().get(series_id, ()))
        return series

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

    def _below(self, book_id: str) -> list[str]:
        """Return a book and all books below it; none if it is unknown."""
        if book_id not in self.books:
            return []
        found = [book_id]
        for above in found:
            found += [child.book_id for child in self._children(above)]
        return found

    def _update_series(self) -> None:
        held = {holding.series_id for book in self.books.values() for holding in book.holdings}
        proxies = {self._policy(book).proxy for book in self.books.values()}
        self.series = frozenset(held | {proxy for proxy in proxies if proxy is not None})
        for series_id in self._series.keys() - self.series:
            del self._series[series_id]
        # A series that is held again begins without returns.
        self._touched_series &= self._series.keys()
        self._revised_series &= self._series.keys()
        prices = self._prices()
        self._calendar = self._stated_calendar()
        for series_id, series in self._series.items():
            series.set_prices(prices.get(series_id, ()))
            series.set_calendar(self._calendar)

    def _prices(self) -> Mapping[str, Sequence[int]]:
        """Return the times at which each series is priced."""
        prices: defaultdict[str, list[int]] = defaultdict(list)
        for book in self.books.values():
            for holding in book.holdings:
                prices[holding.series_id].append(holding.priced_us)
        return prices

    def _stated_calendar(self) -> Calendar:
        stated = _conventions(self.books)[1]
        return self._config.calendar if stated is None else parse_calendar(stated)

    def _policy(self, book: Book) -> MissingPolicy:
        """Return what a missing return counts in a book: as it says, or as the one above does."""
        for book_id in (book.book_id, *self._above(book)):
            stated = self._book(book_id).missing
            if stated is not None:
                return MissingPolicy.parse(stated)
        return MissingPolicy.parse(self._config.missing)

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
        series = self._series.get(holding.series_id)
        return value if series is None else value * series.factor_since(holding.priced_us)

    def _nav(self, book: Book) -> float:
        """Return a book's net asset value: a stated one wins over a sum."""
        if book.nav is not None:
            return book.nav
        own = sum(self._value(holding) for holding in book.holdings)
        return own + sum(self._nav(child) for child in self._children(book.book_id))

    def _stale_prices(self, book: Book) -> dict[str, StalePrice]:
        """Return the prices at or below a book that are older than what is known, by series."""
        stale: dict[str, StalePrice] = {}
        for holding in book.holdings:
            series = self._series.get(holding.series_id)
            since_us = None if series is None else series.known_since(holding.priced_us)
            if since_us is not None:
                days = map(self._calendar.day_of, (holding.priced_us, since_us + 1))
                stale[holding.series_id] = StalePrice(holding.series_id, *map(date_text, days))
        for child in self._children(book.book_id):
            for series_id, price in self._stale_prices(child).items():
                known = stale.get(series_id, price)
                stale[series_id] = min(known, price, key=lambda price: price.priced_day)
        return stale

    def _parts(self, book: Book, names: AbstractSet[str]) -> list[Part]:
        """Return a book's holdings, then the books right below it, with some series' values."""
        parts = []
        for holding in book.holdings:
            if holding.series_id in names:
                values = {holding.series_id: self._value(holding)}
                parts.append(Part(holding.series_id, is_book=False, values=values))
        for child in self._children(book.book_id):
            exposures = self._exposures(child)
            values = {name: value for name, value in exposures.items() if name in names}
            whole = sum(exposures.values())
            parts.append(Part(child.book_id, is_book=True, values=values, value=whole))
        return parts

    def _join(self, book: Book, series: Iterable[str]) -> Joined:
        policy = self._policy(book)
        found = {
            series_id: self._series[series_id].daily() if series_id in self._series else None
            for series_id in series
        }
        proxy = None
        if policy.proxy is not None and policy.proxy in self._series:
            proxy = self._series[policy.proxy].daily()
        return join(found, policy, self._minimum, proxy)

    @property
    def _minimum(self) -> int:
        """The fewest days with which a series is in a book, and with which a book is measured."""
        return max(self._config.observations_min, VAR_95.observations_min)

    def _risk(self, book: Book) -> BookRisk:
        exposures = self._exposures(book)
        joined = self._join(book, exposures)
        risk = self._unmeasured(book, exposures, joined)
        if risk.reason is not None or joined.table is None:
            return _with_event_id(risk)
        values = np.array([exposures[series_id] for series_id in joined.names])
        parts = self._parts(book, set(joined.names))
        try:
            measured = measure_book(risk, joined.table, values, parts, self._config)
            simulated = self._simulate(risk, joined.table, values)
        except InvalidInput:
            measured, simulated = risk, ()
        if not measured.amounts or not is_finite(measured):
            unavailable = replace(risk, status=MeasureStatus.UNAVAILABLE, reason="not_finite")
            return _with_event_id(unavailable)
        return _with_event_id(replace(measured, estimates=[*measured.estimates, *simulated]))

    def _unmeasured(self, book: Book, exposures: Mapping[str, float], joined: Joined) -> BookRisk:
        """Return a book's risk as far as it is known before it is measured."""
        value = float(np.sum(list(exposures.values())))
        gross = float(np.sum(np.abs(list(exposures.values()))))
        shares = {
            series_id: abs(exposures[series_id]) / gross if gross > 0 else 0.0
            for series_id in joined.short
        }
        dates = joined.dates
        days = 0 if dates is None else len(dates.days)
        is_small = sum(shares.values()) < EXCLUDED_MAX
        reason = None
        if not exposures:
            reason = "no_holdings"
        elif joined.table is None or not is_small:
            # The days that all series have; those of one that is too large to be left out are few.
            reason, days = "series_too_short", min([days, *joined.short.values()])
        elif days < self._minimum:
            reason = "too_few_days"
        has_days = dates is not None and len(dates.days) > 0
        stale = self._stale_prices(book)
        nav = finite(self._nav(book))
        return BookRisk(
            root=self.root,
            book_id=book.book_id,
            parent=self._parent(book),
            as_of_us=int(dates.times_us[-1]) if dates is not None and has_days else 0,
            status=MeasureStatus.INSUFFICIENT_DATA,
            observations=days,
            series=len(exposures),
            missing=[missing.series_id for missing in joined.missing],
            value=finite(value),
            nav=nav,
            reason=reason,
            method=METHOD,
            gross=finite(gross),
            net=finite(value),
            currency=_conventions(self.books)[0],
            calendar=self._calendar.name,
            first_day=date_text(int(dates.days[0])) if dates is not None and has_days else None,
            last_day=date_text(int(dates.days[-1])) if dates is not None and has_days else None,
            corrections=sum(
                self._series[name].corrections for name in exposures if name in self._series
            ),
            missing_days=joined.missing,
            excluded=[
                ExcludedSeries(series_id, shares[series_id], count)
                for series_id, count in joined.short.items()
                if is_small
            ],
            concentration=_concentration(exposures, gross),
            stale_prices=sorted(stale),
            stale_price_days=[price for _, price in sorted(stale.items())],
            missing_policy=self._policy(book).name,
            stress=[test.of_book(exposures, nav) for test in self._stress],
        )

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


def _first_times(returns: Iterable[Return], wanted: AbstractSet[str]) -> dict[str, int]:
    """Return the time of the oldest return of each wanted series."""
    firsts: dict[str, int] = {}
    for series_id, time_us, _, _ in returns:
        if series_id in wanted:
            firsts[series_id] = min(firsts.get(series_id, time_us), time_us)
    return firsts


def _concentration(exposures: Mapping[str, float], gross: float) -> float | None:
    """Return the largest absolute value of a series, as a share of the gross value."""
    return finite(max(map(abs, exposures.values())) / gross) if gross > 0 else None


def _with_event_id(risk: BookRisk) -> BookRisk:
    """Return a risk with its id, which follows from what was measured."""
    content: tuple[object, ...] = (
        *(risk.status, risk.reason, risk.observations, risk.value, risk.nav, risk.gross),
        *(sorted(risk.amounts.items()), risk.scenario_us, risk.corrections, risk.first_day),
        *(list(risk.missing_days), list(risk.excluded), list(risk.stale_prices)),
    )
    if risk.stress:
        content = (*content, list(risk.stress))
    name = f"book-risk:{risk.path}:{risk.as_of_us}:{content!r}"
    return replace(risk, event_id=str(uuid5(NAMESPACE_URL, name)))


def _currencies(book: Book) -> list[str]:
    """Return the currencies that a book and its holdings state."""
    stated = [book.currency, *(holding.currency for holding in book.holdings)]
    return list(dict.fromkeys(currency for currency in stated if currency is not None))


def _conventions(books: Mapping[str, Book]) -> tuple[str | None, str | None]:
    """Return the currency and the calendar of a tree; None for what no book of it states."""
    currencies = (currency for book in books.values() for currency in _currencies(book))
    calendars = (book.calendar for book in books.values() if book.calendar is not None)
    return next(currencies, None), next(calendars, None)


def _check_agreement(book: Book, others: Iterable[Book]) -> None:
    """Raise InvalidInput if a book has two currencies, or others than the tree's books state."""
    currency = book.currency
    for holding in book.holdings:
        currency = currency or holding.currency
        if holding.currency is not None and holding.currency != currency:
            raise InvalidInput(
                f"{holding.series_id} is in {holding.currency}, and the book {book.book_id} in "
                f"{currency}; a book has one currency"
            )
    for other in others:
        for stated in _currencies(other):
            if currency is not None and stated != currency:
                raise InvalidInput(
                    f"{book.book_id} is in {currency}, and {other.book_id} of the same tree in "
                    f"{stated}; a tree has one currency"
                )
        if None not in (book.calendar, other.calendar) and other.calendar != book.calendar:
            raise InvalidInput(
                f"{book.book_id} has the calendar {book.calendar}, and {other.book_id} of the same "
                f"tree {other.calendar}; a tree has one calendar"
            )


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
    if book.missing is not None:
        MissingPolicy.parse(book.missing)
    if book.calendar is not None:
        try:
            parse_calendar(book.calendar)
        except InvalidCalendar as error:
            raise InvalidInput(str(error)) from error
    if book.nav is not None and not isfinite(book.nav):
        raise InvalidInput(f"the net asset value of {book.book_id} is {book.nav}; give a number")
