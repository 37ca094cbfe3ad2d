"""The agent that measures trees of books: what is held, and its returns, become each book's risk.

A tree's books and the returns of what they hold share a partition, its root's. The returns come
from the agent that measures them: asked for a series, it sends the window, then what comes.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import faust

from schemas.events import (
    Book,
    BookRisk,
    DeadLetter,
    Event,
    Record,
    SeriesReturns,
    SeriesState,
    SeriesWanted,
)
from schemas.topics import RISK_BOOK_RISKS, RISK_BOOK_STATE, RISK_BOOKS, RISK_SERIES
from stream_processors.books.tree import BookTree
from stream_processors.faust_adapter import StateTable, Writer, finish_before_stopping
from stream_processors.messages import Message, dead_letter, decode_message, tenant_of
from stream_processors.risk.confidence import InvalidInput
from stream_processors.settings import ProcessorSettings

logger = logging.getLogger(__name__)


def add_books(app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
    """Add the measuring of books to a worker."""
    trees = _Trees(app, settings, writer)

    @app.agent(writer.topic(RISK_BOOKS, RISK_SERIES), name="measure_books")
    async def measure_books(stream: Any) -> None:
        async for events in stream.noack_take(1000, within=settings.batch_within_s):
            await trees.take([event.message for event in events])
            for event in events:
                await stream.ack(event)


class _Trees:
    """The trees of the partitions that this worker has."""

    def __init__(self, app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
        self._writer = writer
        self._config = settings.books()
        self._trees: dict[str, BookTree] = {}
        self._states = StateTable(app, writer, RISK_BOOK_STATE)
        self._states.on_recover(self._recover)
        self._one_at_a_time = asyncio.Lock()
        finish_before_stopping(app, self._one_at_a_time)

    async def take(self, messages: Iterable[Message]) -> None:
        """Measure what has changed; when this returns, Kafka has all that follows from it."""
        async with self._one_at_a_time:
            told: list[tuple[Event, str | None]] = []
            rows: dict[bytes, tuple[int, Record | None]] = {}
            closed: list[str] = []
            homes: dict[str, int] = {}
            for message in messages:
                record: Book | SeriesReturns | DeadLetter
                record = decode_message(message, Book, SeriesReturns)
                match record:
                    case Book():
                        self._put(record, message, told, rows)
                        homes[record.root] = message.partition
                    case SeriesReturns():
                        if record.root in self._trees:
                            self._trees[record.root].take_all(record.returns)
                        homes[record.root] = message.partition
                    case DeadLetter():
                        told.append((record, None))
            for root, partition in homes.items():
                if root in self._trees:
                    closed += await self._measure(self._trees[root], partition, told, rows)
            await self._writer.send_each(told)
            await self._writer.delete(RISK_BOOK_RISKS, closed)
            await self._states.write(rows)

    def _put(
        self,
        book: Book,
        message: Message,
        told: list[tuple[Event, str | None]],
        rows: dict[bytes, tuple[int, Record | None]],
    ) -> None:
        """Change a tree; what it needs to know from now on is asked for."""
        tenant = tenant_of(message)
        tree = self._trees.get(book.root) or BookTree(book.root, self._config)
        if tree.books and tree.tenant != tenant:
            wrong = f"{book.root} is another tenant's"
            told.append((dead_letter(message, "foreign", wrong), None))
            return
        before = tree.series
        try:
            tree.put(book)
        except InvalidInput as error:
            told.append((dead_letter(message, "invalid", str(error)), None))
            return
        tree.tenant = tenant
        self._trees[book.root] = tree
        for series_id in before ^ tree.series:
            wanted = SeriesWanted(
                series_id=series_id,
                root=book.root,
                wanted=series_id in tree.series,
                event_time_us=book.event_time_us,
            )
            told.append((wanted, tenant))
            if not wanted.wanted:
                rows[_series_key(book.root, series_id)] = message.partition, None
        row = None if book.closed else replace(book, tenant=tenant)
        rows[_key(book)] = message.partition, row

    async def _measure(
        self,
        tree: BookTree,
        partition: int,
        told: list[tuple[Event, str | None]],
        rows: dict[bytes, tuple[int, Record | None]],
    ) -> Iterable[str]:
        """Measure what has changed in a tree; the paths of books that are closed."""
        # A thread, since a simulation of many series takes a while, most of it in NumPy.
        risks, series, closed = await asyncio.to_thread(tree.changes)
        told += [(risk, tree.tenant) for risk in risks]
        rows |= {_series_key(one.root, one.series_id): (partition, one) for one in series}
        rows |= {
            # Its simulation is what cannot be had again from books and returns.
            _simulated_key(risk.path): (partition, replace(risk, parts=()))
            for risk in risks
            if risk.estimates
        }
        rows |= {_simulated_key(path): (partition, None) for path in closed}
        return closed

    async def _recover(self) -> None:
        books: defaultdict[str, list[Book]] = defaultdict(list)
        series: defaultdict[str, list[SeriesState]] = defaultdict(list)
        simulated: defaultdict[str, list[BookRisk]] = defaultdict(list)
        for _, book in self._states.recovered(Book):
            books[book.root].append(book)
        for _, one in self._states.recovered(SeriesState):
            series[one.root].append(one)
        for _, risk in self._states.recovered(BookRisk):
            simulated[risk.root].append(risk)
        async with self._one_at_a_time:
            self._trees.clear()
            for root, some in books.items():
                tree = self._trees[root] = BookTree(root, self._config)
                tree.tenant = some[0].tenant
                tree.restore(some, series[root], simulated[root])
        logger.info("recovered %d trees of books", len(self._trees))


def _key(book: Book) -> bytes:
    return f"book:{book.path}".encode()


def _series_key(root: str, series_id: str) -> bytes:
    return f"series:{root}/{series_id}".encode()


def _simulated_key(path: str) -> bytes:
    return f"simulated:{path}".encode()
