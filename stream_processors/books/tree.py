"""Trees of books, such as desk, fund and firm: what each may lose, and which of its parts does it.

A book holds so much of some series, instruments or portfolios, and books lie below it. Its P&L is
hypothetical: what all that is held below today would have gained or lost on each past day,
pnl_t = sum(value_i r_i,t), a holding's value being its quantity times its price, moved since then
by its returns. VaR and ES of a book are those of its P&L, so they are not the sum of its parts':
the difference is what diversification is worth.

A day counts where all series below have a return: none is made up. A book whose parent is not known
lies below the root, so that nothing that is held is missing at the top.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.events import Book, BookPart, BookRisk, Holding, Return, RiskEstimate, SeriesState
from stream_processors.risk.confidence import InvalidInput, Level
from stream_processors.risk.decomposition import historical_parts, normal_parts
from stream_processors.risk.measures import VAR_95, VAR_99, Outcome, ReturnWindow, Status, finite
from stream_processors.risk.methods import Floats, Simulation, historical, monte_carlo
from stream_processors.risk.moments import Estimate, Normal

DEPTH_MAX = 32
"""Books between a tree's root and its lowest, which is included."""

_ANY_AGE_US = 1 << 62
"""Whoever sent a return has judged whether it came in time."""
_LEVELS = (VAR_95, VAR_99)
_SIMULATED = "monte_carlo"
_TAKEN = (Outcome.ACCEPTED, Outcome.CORRECTED)

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BookConfig:
    """How books are measured."""

    window: int
    observations_min: int
    levels: tuple[Level, ...]
    """Confidence levels of the methods."""
    simulation: Simulation
    simulate_every: int
    """How many days lie between two simulations of a book."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Returns of some series on the days that all of them have."""

    times_us: Times
    """Shape (days,)."""
    returns: Floats
    """Shape (days, series)."""


class Changes(NamedTuple):
    """What has changed in a tree."""

    risks: Sequence[BookRisk]
    """Of every book whose risk is another now."""
    series: Sequence[SeriesState]
    closed: Sequence[str]
    """Paths of books that there are no more."""


class BookTree:
    """The books below one root, and the returns of what they hold."""

    def __init__(self, root: str, config: BookConfig) -> None:
        """Have no books yet."""
        self.root = root
        self.tenant: str | None = None
        """Whose it is."""
        self.books: dict[str, Book] = {}
        self._config = config
        self.series: frozenset[str] = frozenset()
        """What the tree needs the returns of."""
        self._top = Book(root=root, book_id=root, holdings=(), event_time_us=0)
        """The root, where nobody says what it holds itself."""
        self._windows: dict[str, ReturnWindow] = {}
        self._touched_books: set[str] = set()
        self._touched_series: set[str] = set()
        self._simulated: dict[str, tuple[int, Sequence[RiskEstimate]]] = {}
        """By book: on which day it was, and what it said."""

    def put(self, book: Book) -> None:
        """Have a book hold something else from now on, or nothing any more.

        Raises:
            InvalidInput: a number is not finite, a price not positive, a series named twice, the
                book would lie below itself, or the tree be too deep.
        """
        before = self.books
        others = {name: one for name, one in before.items() if name != book.book_id}
        changed = self._around(book.book_id)
        if not book.closed:
            _check(book)
            self.books = others | {book.book_id: book}
            above = self._above(book)
            if book.book_id in above:
                self.books = before
                raise InvalidInput(
                    f"{book.book_id} would lie below itself: {' < '.join([book.book_id, *above])}"
                )
            deepest = max(len(self._above(one)) for one in self.books.values())
            if deepest > DEPTH_MAX:
                self.books = before
                raise InvalidInput(
                    f"with {book.book_id} a book would lie {deepest} levels below {self.root}; "
                    f"a tree has at most {DEPTH_MAX}"
                )
        else:
            self.books = others
        changed |= self._around(book.book_id)
        self._look_at_series()
        self._touched_books |= changed
        for one in changed:
            self._simulated.pop(one, None)

    def take_all(self, returns: Iterable[Return]) -> None:
        """Take in returns of series; of those that are not held, nothing is kept."""
        for one in returns:
            if one.portfolio_id not in self.series:
                continue
            window = self._windows.get(one.portfolio_id)
            if window is None:
                window = self._windows[one.portfolio_id] = ReturnWindow(self._config.window)
            if window.add(one, lateness_us=_ANY_AGE_US) in _TAKEN:
                self._touched_series.add(one.portfolio_id)

    def restore(
        self,
        books: Iterable[Book],
        series: Iterable[SeriesState],
        simulated: Iterable[BookRisk],
    ) -> None:
        """Go on from what was kept."""
        self.books = {one.book_id: one for one in books}
        self._look_at_series()
        for state in series:
            self._restore_series(state)
        for risk in simulated:
            found = [one for one in risk.estimates if one.method == _SIMULATED]
            if found:
                self._simulated[risk.book_id] = found[0].as_of_us, found

    def _restore_series(self, state: SeriesState) -> None:
        self._windows[state.series_id] = ReturnWindow.of(
            self._config.window, *ReturnWindow.unpack(state.window, state.observations)
        )

    def changes(self) -> Changes:
        """What has changed since this was asked last."""
        touched = self._touched_books | {
            book.book_id
            for book in self.books.values()
            if any(one.series_id in self._touched_series for one in book.holdings)
        }
        for book_id in tuple(touched):
            touched.update(self._above(self._book(book_id)))
        series = [self._state(one) for one in sorted(self._touched_series & self.series)]
        there = {*self.books, self.root} if self.books else set()
        with np.errstate(all="ignore"):  # numbers beyond all others are looked for
            risks = [self._risk(self._book(one)) for one in sorted(touched & there)]
        closed = [f"{self.root}/{one}" for one in sorted(touched - there)]
        self._touched_books, self._touched_series = set(), set()
        return Changes(risks, series, closed)

    def _state(self, series_id: str) -> SeriesState:
        window = self._windows[series_id]
        return SeriesState(
            root=self.root,
            series_id=series_id,
            window=window.pack(),
            observations=len(window),
        )

    def _around(self, book_id: str) -> set[str]:
        """A book, if there is one, those above it, and those right below it."""
        book = self.books.get(book_id)
        if book is None:
            return {self.root}
        below = {one.book_id for one in self._children(book_id)}
        return {book_id, self.root, *self._above(book), *below}

    def _look_at_series(self) -> None:
        self.series = frozenset(
            one.series_id for book in self.books.values() for one in book.holdings
        )
        for gone in self._windows.keys() - self.series:
            del self._windows[gone]

    def _book(self, book_id: str) -> Book:
        return self.books.get(book_id, self._top)

    def _parent(self, book: Book) -> str | None:
        if book.book_id == self.root:
            return None
        return book.parent if book.parent in self.books else self.root

    def _above(self, book: Book) -> list[str]:
        """The books above one, the nearest first; up to the root, or to one that comes again."""
        found: list[str] = []
        above = self._parent(book)
        while above is not None and above not in found:
            found.append(above)
            above = self._parent(self._book(above))
        return found

    def _children(self, book_id: str) -> list[Book]:
        return [
            one
            for _, one in sorted(self.books.items())
            if self._parent(one) == book_id and one.book_id != book_id
        ]

    def _exposures(self, book: Book) -> dict[str, float]:
        """The value of each series that is held by a book or below it."""
        found = {one.series_id: self._value(one) for one in book.holdings}
        for child in self._children(book.book_id):
            for series_id, value in self._exposures(child).items():
                found[series_id] = found.get(series_id, 0.0) + value
        return found

    def _value(self, holding: Holding) -> float:
        """A holding's value today."""
        value = holding.quantity * holding.price
        window = self._windows.get(holding.series_id)
        if window is None or not len(window) or window.newest_us <= holding.priced_us:
            return value
        later = np.array(window.times_us) > holding.priced_us
        return float(value * np.prod(1 + np.array(window.values)[later]))

    def _table(self, series: Sequence[str]) -> _Table | None:
        """Their returns; None where one has none."""
        windows = [self._windows.get(one) for one in series]
        known = [one for one in windows if one is not None and len(one)]
        if len(known) < len(series) or not series:
            return None
        times = [np.array(one.times_us) for one in known]
        values = [np.array(one.values) for one in known]
        if all(np.array_equal(times[0], one) for one in times[1:]):
            return _Table(times[0], np.column_stack(values))
        common: Times = reduce(np.intersect1d, times)
        columns = [one[np.isin(at, common)] for at, one in zip(times, values, strict=True)]
        return _Table(common, np.column_stack(columns))

    def _risk(self, book: Book) -> BookRisk:
        exposures = self._exposures(book)
        series = sorted(exposures)
        values = np.array([exposures[one] for one in series])
        value = finite(float(values.sum()))
        table = self._table(series)
        days = 0 if table is None else len(table.times_us)
        risk = BookRisk(
            root=self.root,
            book_id=book.book_id,
            parent=self._parent(book),
            as_of_us=int(table.times_us[-1]) if table is not None and days else 0,
            status=Status.INSUFFICIENT_DATA,
            observations=days,
            series=len(series),
            missing=[one for one in series if not len(self._windows.get(one, ()))],
            value=value,
            nav=value if book.nav is None else book.nav,
        )
        minimum = max(self._config.observations_min, VAR_95.observations_min)
        if table is None or days < minimum:
            return risk
        try:
            measured = self._measured(risk, book, table, values)
        except InvalidInput:
            measured = None
        if measured is None or not _is_finite(measured):
            return replace(risk, status=Status.UNAVAILABLE)
        return measured

    def _measured(self, risk: BookRisk, book: Book, table: _Table, values: Floats) -> BookRisk:
        pnl = _finite_all(table.returns @ values)
        amounts: dict[str, float] = {}
        for level in _LEVELS:
            if len(pnl) >= max(level.observations_min, self._config.observations_min):
                percent = f"{float(level.confidence) * 100:g}"
                found = historical(pnl, level)
                amounts |= {f"var_{percent}": found.var, f"es_{percent}": found.es}
        parts = self._parts(book, table)
        var_95 = amounts["var_95"]
        scenario = table.times_us[np.flatnonzero(pnl == -var_95)[-1]]
        shares = {name: _share(amount, risk.nav) for name, amount in amounts.items()}
        return replace(
            risk,
            status=Status.DEGENERATE if np.ptp(pnl) == 0 else Status.OK,
            var_95=shares["var_95"],
            es_95=shares["es_95"],
            var_99=shares.get("var_99"),
            es_99=shares.get("es_99"),
            amounts=amounts,
            undiversified_95=sum(one.var_95 for one in parts),
            scenario_us=int(scenario),
            estimates=[
                *self._estimates(pnl, risk),
                *self._simulation(book, table, values, risk),
            ],
            seed=self._config.simulation.seed,
            parts=parts,
        )

    def _parts(self, book: Book, table: _Table) -> list[BookPart]:
        """Holdings, then the books below; their amounts add up to the book's."""
        named = [(one.series_id, False, {one.series_id: self._value(one)}) for one in book.holdings]
        named += [(one.book_id, True, self._exposures(one)) for one in self._children(book.book_id)]
        if not named:
            return []
        series = sorted({name for _, _, exposures in named for name in exposures})
        held = np.array([[one.get(name, 0.0) for _, _, one in named] for name in series])
        pnls = _finite_all(table.returns @ held)
        ones = np.ones(len(named))
        covariance = np.atleast_2d(np.cov(pnls, rowvar=False))
        normal = normal_parts(ones, pnls.mean(axis=0), covariance, VAR_95)
        past = historical_parts(ones, pnls, VAR_95)
        return [
            BookPart(
                part_id=name,
                is_book=is_book,
                value=(value := sum(exposures.values())),
                var_95=historical(pnls[:, at], VAR_95).var,
                marginal_95=None if value == 0 else float(normal.component[at]) / value,
                component_95=float(normal.component[at]),
                incremental_95=float(normal.incremental[at]),
                historical_95=float(past.var[at]),
                historical_es_95=float(past.es[at]),
            )
            for at, (name, is_book, exposures) in enumerate(named)
        ]

    def _estimates(self, pnl: Floats, risk: BookRisk) -> Iterator[RiskEstimate]:
        mean, deviation = float(pnl.mean()), float(pnl.std(ddof=1))
        for level in self._config.levels:
            confidence = float(level.confidence)
            if len(pnl) >= level.observations_min:
                yield _estimate("historical", confidence, historical(pnl, level), risk)
            yield _estimate("normal", confidence, Normal(level).of(mean, deviation), risk)

    def _simulation(
        self, book: Book, table: _Table, values: Floats, risk: BookRisk
    ) -> Sequence[RiskEstimate]:
        """Monte Carlo on a slower clock: every so many days, and when the book has changed."""
        day = int(table.times_us[-1])
        known = self._simulated.get(book.book_id)
        if known is not None:
            since = int((table.times_us > known[0]).sum())
            if since < self._config.simulate_every:
                return known[1]
        covariance = np.atleast_2d(np.cov(table.returns, rowvar=False))
        found = [
            _estimate(
                _SIMULATED,
                float(level.confidence),
                monte_carlo(values, covariance, level, self._config.simulation),
                risk,
            )
            for level in self._config.levels
        ]
        self._simulated[book.book_id] = day, found
        return found


def _estimate(method: str, confidence: float, found: Estimate, risk: BookRisk) -> RiskEstimate:
    var, es = _share(found.var, risk.nav), _share(found.es, risk.nav)
    status = "ok" if var is not None else "unavailable"
    return RiskEstimate(method, confidence, 1, status, risk.as_of_us, var, es)


def _share(amount: float, nav: float | None) -> float | None:
    """Of net asset value; None where there is none, as of what is dollar-neutral."""
    return None if nav is None or nav == 0 else finite(amount / nav)


def _finite_all(numbers: Floats) -> Floats:
    """The same.

    Raises:
        InvalidInput: one is beyond all numbers.
    """
    if not np.isfinite(numbers).all():
        raise InvalidInput("amounts must be finite")
    return numbers


def _is_finite(risk: BookRisk) -> bool:
    """Whether all amounts are numbers that an event may have."""
    amounts = [*risk.amounts.values(), risk.undiversified_95 or 0.0]
    of_parts = [one for part in risk.parts for one in part if isinstance(one, float)]
    return all(map(isfinite, chain(amounts, of_parts)))


def _check(book: Book) -> None:
    seen: set[str] = set()
    for one in book.holdings:
        if one.series_id in seen:
            raise InvalidInput(f"{one.series_id} is held twice by {book.book_id}; give its sum")
        seen.add(one.series_id)
        if not isfinite(one.quantity):
            raise InvalidInput(f"the quantity of {one.series_id} is {one.quantity}; give a number")
        if not (isfinite(one.price) and one.price > 0):
            raise InvalidInput(f"the price of {one.series_id} is {one.price}; it must be positive")
    if book.nav is not None and not isfinite(book.nav):
        raise InvalidInput(f"the net asset value of {book.book_id} is {book.nav}; give a number")
