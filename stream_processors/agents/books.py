"""The agent that measures trees of books: holdings and returns in, each book's risk out.

A tree's books, and the returns of the series that it holds, are in one partition, its root's. The
returns come from the agent that measures them: asked for a series by a `SeriesWanted` event, it
sends the series' window, then each new return.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import faust

from schemas.events import (
    Book,
    BookRisk,
    DeadLetter,
    DeadLetterReason,
    Event,
    Record,
    SeriesReturns,
    SeriesState,
    SeriesWanted,
)
from schemas.topics import RISK_BOOK_RISKS, RISK_BOOK_STATE, RISK_BOOKS, RISK_SERIES
from stream_processors.books.tree import BookTree
from stream_processors.faust_adapter import (
    StateTable,
    Writer,
    finish_before_stopping,
    process_batches,
)
from stream_processors.messages import Message, dead_letter, decode_message, tenant_of
from stream_processors.risk.confidence import InvalidInput
from stream_processors.settings import ProcessorSettings

logger = logging.getLogger(__name__)


def add_books(app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
    """Add the measuring of books to a worker."""
    trees = _Trees(app, settings, writer)

    @app.agent(writer.topic(RISK_BOOKS, RISK_SERIES), name="measure_books")
    async def measure_books(stream: Any) -> None:
        await process_batches(
            stream, trees.process, records_max=1_000, within_s=settings.batch_within_s
        )


@dataclass(slots=True)
class _Batch:
    """The results of a batch of messages, before they are sent."""

    events: list[tuple[Event, str | None]] = field(default_factory=list)
    """The events, each with its tenant."""
    rows: dict[bytes, tuple[int, Record | None]] = field(default_factory=dict)
    """The rows of the state, by key: the partition, and the record or None to delete it."""
    closed: list[str] = field(default_factory=list)
    """The paths of closed books."""


class _Trees:
    """The trees in the partitions that this worker has."""

    def __init__(self, app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
        self._writer = writer
        self._config = settings.book_config()
        self._trees: dict[str, BookTree] = {}
        self._states = StateTable(app, writer, RISK_BOOK_STATE)
        self._states.on_recover(self._recover)
        self._lock = asyncio.Lock()
        finish_before_stopping(app, self._lock)

    async def process(self, messages: Sequence[Message]) -> None:
        """Apply messages, and measure the trees that changed; returns when Kafka has it all."""
        async with self._lock:
            batch = _Batch()
            partitions: dict[str, int] = {}
            for message in messages:
                record: Book | SeriesReturns | DeadLetter
                record = decode_message(message, Book, SeriesReturns)
                match record:
                    case Book():
                        self._put(record, message, batch)
                        partitions[record.root] = message.partition
                    case SeriesReturns():
                        if record.root in self._trees:
                            self._trees[record.root].add_returns(record.returns)
                        partitions[record.root] = message.partition
                    case DeadLetter():
                        batch.events.append((record, None))
            for root, partition in partitions.items():
                if root in self._trees:
                    await self._measure(self._trees[root], partition, batch)
            await self._writer.send_each(batch.events)
            await self._writer.delete(RISK_BOOK_RISKS, batch.closed)
            await self._states.write(batch.rows)

    def _put(self, book: Book, message: Message, batch: _Batch) -> None:
        """Put a book into its tree, and ask for the returns that the tree now needs."""
        tenant = tenant_of(message)
        tree = self._trees.get(book.root) or BookTree(book.root, self._config)
        if tree.books and tree.tenant != tenant:
            error_text = f"{book.root} belongs to another tenant"
            batch.events.append((dead_letter(message, DeadLetterReason.FOREIGN, error_text), None))
            return
        before = tree.series
        try:
            tree.put(book)
        except InvalidInput as error:
            batch.events.append((dead_letter(message, DeadLetterReason.INVALID, str(error)), None))
            return
        tree.tenant = tenant
        self._trees[book.root] = tree
        for series_id in before ^ tree.series:
            request = SeriesWanted(
                series_id=series_id,
                root=book.root,
                wanted=series_id in tree.series,
                event_time_us=book.event_time_us,
            )
            batch.events.append((request, tenant))
            if not request.wanted:
                batch.rows[_series_key(book.root, series_id)] = message.partition, None
        row = None if book.closed else replace(book, tenant=tenant)
        batch.rows[_key(book)] = message.partition, row

    async def _measure(self, tree: BookTree, partition: int, batch: _Batch) -> None:
        """Measure the books of a tree that changed."""
        # In a thread: a simulation of many series is slow, and spends most of its time in NumPy.
        risks, series, closed = await asyncio.to_thread(tree.changes)
        batch.closed += closed
        batch.events += [(risk, tree.tenant) for risk in risks]
        rows = batch.rows
        rows |= {_series_key(state.root, state.series_id): (partition, state) for state in series}
        rows |= {
            # Only the simulation is kept: the rest follows from the books and the returns.
            _simulated_key(risk.path): (partition, replace(risk, parts=()))
            for risk in risks
            if risk.estimates
        }
        rows |= {_simulated_key(path): (partition, None) for path in closed}

    async def _recover(self) -> None:
        books: defaultdict[str, list[Book]] = defaultdict(list)
        series: defaultdict[str, list[SeriesState]] = defaultdict(list)
        simulated: defaultdict[str, list[BookRisk]] = defaultdict(list)
        for _, book in self._states.recovered(Book):
            books[book.root].append(book)
        for _, state in self._states.recovered(SeriesState):
            series[state.root].append(state)
        for _, risk in self._states.recovered(BookRisk):
            simulated[risk.root].append(risk)
        async with self._lock:
            self._trees.clear()
            for root, tree_books in books.items():
                tree = self._trees[root] = BookTree(root, self._config)
                tree.tenant = tree_books[0].tenant
                tree.restore(tree_books, series[root], simulated[root])
        logger.info("recovered %d trees of books", len(self._trees))


def _key(book: Book) -> bytes:
    return f"book:{book.path}".encode()


def _series_key(root: str, series_id: str) -> bytes:
    return f"series:{root}/{series_id}".encode()


def _simulated_key(path: str) -> bytes:
    return f"simulated:{path}".encode()
