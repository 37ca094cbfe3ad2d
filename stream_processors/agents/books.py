"""The processor that measures trees of books: holdings and returns in, each book's risk out.

A tree's books, and the returns of the series that it holds, are in one partition, its root's. The
returns come from the processor that measures them: asked for a series by a `SeriesWanted` event, it
sends the series' window, then each new return.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kafka_io.dead_letters import Message, dead_letter
from schemas.events import (
    Book,
    BookRisk,
    DeadLetterReason,
    SeriesReturns,
    SeriesState,
    SeriesWanted,
)
from schemas.keys import encode_key
from schemas.topics import RISK_BOOK_RISKS, RISK_BOOK_STATE, RISK_BOOKS, RISK_SERIES
from stream_processors.books.tree import BookTree
from stream_processors.messages import Admitted, tenant_of
from stream_processors.processor import Processor, Round, Rows
from stream_processors.risk.confidence import InvalidInput
from stream_processors.settings import ProcessorSettings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Partition:
    """The trees of one partition number."""

    trees: dict[str, BookTree] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    """The roots of the trees that changed in this round."""


class Books(Processor):
    """Measures trees of books."""

    def __init__(self, settings: ProcessorSettings) -> None:
        super().__init__(
            "measure_books",
            (RISK_BOOKS, RISK_SERIES),
            (RISK_BOOK_STATE,),
            linger_s=settings.batch_within_s,
        )
        self._config = settings.book_config()
        self._partitions: dict[int, _Partition] = {}

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Replace the trees of a partition number."""
        del row_limits
        books: defaultdict[str, list[Book]] = defaultdict(list)
        series: defaultdict[str, list[SeriesState]] = defaultdict(list)
        simulated: defaultdict[str, list[BookRisk]] = defaultdict(list)
        for row in rows[RISK_BOOK_STATE.name].values():
            match row:
                case Book():
                    books[row.root].append(row)
                case SeriesState():
                    series[row.root].append(row)
                case BookRisk():
                    simulated[row.root].append(row)
                case _:
                    continue
        here = self._partitions[number] = _Partition()
        for root, tree_books in books.items():
            tree = here.trees[root] = BookTree(root, self._config)
            tree.tenant = tree_books[0].tenant
            try:
                tree.restore(tree_books, series[root], simulated[root])
            except Exception:  # rows that are not of this system; they cost this tree only
                logger.exception("the rows of the tree %r cannot be restored", root)
                del here.trees[root]

    def forget(self, number: int) -> None:
        """Drop the trees of a partition number."""
        self._partitions.pop(number, None)

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        """Apply books and returns to their trees."""
        here = self._partitions[this_round.number]
        for message in messages:
            record = message.record
            match record:
                case Book():
                    self._put(here, record, message, this_round)
                    here.changed.add(record.root)
                case SeriesReturns():
                    if record.root in here.trees:
                        here.trees[record.root].add_returns(record.returns, record.lap)
                    here.changed.add(record.root)
                case _:
                    raise AssertionError(f"no input of books has a {type(record).__name__}")

    async def finish(self, this_round: Round) -> None:
        """Measure the trees that changed."""
        here = self._partitions[this_round.number]
        changed, here.changed = here.changed, set()
        for root in sorted(changed & here.trees.keys()):
            await self._measure(here.trees[root], this_round)

    def _put(self, here: _Partition, book: Book, message: Message, this_round: Round) -> None:
        """Put a book into its tree, and ask for the returns that the tree now needs."""
        tenant = tenant_of(message)
        tree = here.trees.get(book.root) or BookTree(book.root, self._config)
        if tree.books and tree.tenant != tenant:
            error_text = f"{book.root} belongs to another tenant"
            this_round.send(dead_letter(message, DeadLetterReason.FOREIGN, error_text))
            return
        before = tree.series
        try:
            tree.put(book)
        except InvalidInput as error:
            this_round.send(dead_letter(message, DeadLetterReason.INVALID, str(error)))
            return
        tree.tenant = tenant
        here.trees[book.root] = tree
        for series_id in before ^ tree.series:
            request = SeriesWanted(
                series_id=series_id,
                root=book.root,
                wanted=series_id in tree.series,
                event_time_us=book.event_time_us,
            )
            this_round.send(request, tenant)
            if not request.wanted:
                this_round.put(RISK_BOOK_STATE, _series_key(book.root, series_id), None)
        row = None if book.closed else replace(book, tenant=tenant)
        this_round.put(RISK_BOOK_STATE, _key(book), row)

    async def _measure(self, tree: BookTree, this_round: Round) -> None:
        """Measure the books of a tree that changed."""
        # In a thread: a simulation of many series is slow, and spends most of its time in NumPy.
        risks, series, closed = await asyncio.to_thread(tree.changes)
        this_round.delete(RISK_BOOK_RISKS, closed)
        for risk in risks:
            this_round.send(risk, tree.tenant)
        for state in series:
            key = _series_key(state.root, state.series_id)
            this_round.put(RISK_BOOK_STATE, key, state)
        for risk in risks:
            if risk.estimates:
                # Only the simulation is kept: the rest follows from the books and the returns.
                row = replace(risk, parts=(), tenant=tree.tenant)
                this_round.put(RISK_BOOK_STATE, _simulated_key(risk.path), row)
        for path in closed:
            this_round.put(RISK_BOOK_STATE, _simulated_key(path), None)


def _key(book: Book) -> bytes:
    return encode_key(f"book:{book.path}")


def _series_key(root: str, series_id: str) -> bytes:
    return encode_key(f"series:{root}/{series_id}")


def _simulated_key(path: str) -> bytes:
    return encode_key(f"simulated:{path}")
