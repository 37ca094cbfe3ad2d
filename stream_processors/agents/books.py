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
    Scenario,
    SeriesReturns,
    SeriesState,
    SeriesWanted,
)
from schemas.keys import encode_key, scenario_key
from schemas.topics import (
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_SCENARIOS,
    RISK_SERIES,
)
from stream_processors.books.tree import BookTree
from stream_processors.messages import Admitted, tenant_of
from stream_processors.processor import Processor, Round, Rows
from stream_processors.risk.confidence import InvalidInput
from stream_processors.settings import ProcessorSettings
from stream_processors.stress import Scenarios

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Partition:
    """The trees of one partition number."""

    trees: dict[bytes, BookTree] = field(default_factory=dict)
    """By the key of the root."""
    scenarios: Scenarios = field(default_factory=Scenarios)
    """The stress scenarios in force."""
    changed: set[bytes] = field(default_factory=set)
    """The keys of the trees that changed in this round."""
    published: dict[bytes, tuple[int, str | None]] = field(default_factory=dict)
    """The time and the id of each book's last measured risk, by the key of its row."""


class Books(Processor):
    """Measures trees of books."""

    def __init__(self, settings: ProcessorSettings) -> None:
        super().__init__(
            "measure_books",
            (RISK_BOOKS, RISK_SERIES, RISK_SCENARIOS),
            (RISK_BOOK_STATE,),
            linger_s=settings.batch_within_s,
        )
        self._config = settings.book_config()
        self._partitions: dict[int, _Partition] = {}

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Replace the trees of a partition number."""
        del row_limits
        books: defaultdict[bytes, list[Book]] = defaultdict(list)
        series: defaultdict[bytes, list[SeriesState]] = defaultdict(list)
        simulated: defaultdict[bytes, list[BookRisk]] = defaultdict(list)
        scenarios = Scenarios.of_rows(rows[RISK_BOOK_STATE.name].values())
        here = self._partitions[number] = _Partition(scenarios=scenarios)
        for row in rows[RISK_BOOK_STATE.name].values():
            match row:
                case Book():
                    books[encode_key(row.root, row.tenant)].append(row)
                case SeriesState():
                    series[encode_key(row.root, row.tenant)].append(row)
                case BookRisk():
                    simulated[encode_key(row.root, row.tenant)].append(row)
                case _:
                    continue
        for risks in simulated.values():
            for risk in risks:
                row_key = simulated_row(risk.path, risk.tenant)
                here.published[row_key] = risk.as_of_us, risk.event_id
        for key, tree_books in books.items():
            tree = BookTree(tree_books[0].root, self._config, tree_books[0].tenant)
            try:
                tree.set_stress(here.scenarios.tests_of(tree.tenant))
                tree.restore(tree_books, series[key], simulated[key])
            except Exception:  # rows that are not of this system; they cost this tree only
                logger.exception("the rows of the tree %r cannot be restored", key)
            else:
                here.trees[key] = tree

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
                case Scenario():
                    self._put_scenario(here, record, tenant_of(message), this_round)
                case SeriesReturns():
                    key = encode_key(record.root, tenant_of(message))
                    if key in here.trees:
                        here.trees[key].add_returns(record.returns, record.lap, record.earlier)
                        here.changed.add(key)
                case _:
                    raise AssertionError(f"no input of books has a {type(record).__name__}")

    async def finish(self, this_round: Round) -> None:
        """Measure the trees that changed."""
        here = self._partitions[this_round.number]
        changed, here.changed = here.changed, set()
        for key in sorted(changed & here.trees.keys()):
            await self._measure(here, here.trees[key], this_round)

    def _put(self, here: _Partition, book: Book, message: Message, this_round: Round) -> None:
        """Put a book into its tree, and ask for the returns that the tree now needs."""
        tenant = tenant_of(message)
        key = encode_key(book.root, tenant)
        tree = here.trees.get(key) or BookTree(book.root, self._config, tenant)
        tree.set_stress(here.scenarios.tests_of(tenant))
        before = tree.series
        try:
            tree.put(book)
        except InvalidInput as error:
            letter = dead_letter(message, DeadLetterReason.INVALID, str(error))
            this_round.send(letter, tenant)
            return
        here.trees[key] = tree
        here.changed.add(key)
        for series_id in before ^ tree.series:
            request = SeriesWanted(
                series_id=series_id,
                root=book.root,
                wanted=series_id in tree.series,
                event_time_us=book.event_time_us,
            )
            this_round.send(request, tenant)
            if not request.wanted:
                this_round.put(RISK_BOOK_STATE, series_row(book.root, series_id, tenant), None)
        row = None if book.closed else replace(book, tenant=tenant)
        this_round.put(RISK_BOOK_STATE, book_row(book.path, tenant), row)

    @staticmethod
    def _put_scenario(
        here: _Partition, scenario: Scenario, tenant: str | None, this_round: Round
    ) -> None:
        """Put a stress scenario; all trees of its tenant are valued by it."""
        if not here.scenarios.put(scenario, tenant):
            return
        for key, tree in here.trees.items():
            if tree.tenant == tenant:
                tree.set_stress(here.scenarios.tests_of(tenant))
                here.changed.add(key)
        row = None if scenario.withdrawn else replace(scenario, tenant=tenant)
        this_round.put(RISK_BOOK_STATE, scenario_key(scenario.name, tenant), row)

    async def _measure(self, here: _Partition, tree: BookTree, this_round: Round) -> None:
        """Measure the books of a tree that changed."""
        # In a thread: a simulation of many series is slow, and spends most of its time in NumPy.
        risks, series, closed = await asyncio.to_thread(tree.changes)
        tenant = tree.tenant
        this_round.delete(RISK_BOOK_RISKS, [encode_key(path, tenant) for path in closed])
        for risk in risks:
            last_us, last_id = here.published.get(simulated_row(risk.path, tenant), (None, None))
            is_new = last_us != risk.as_of_us or last_id == risk.event_id
            this_round.send(risk if is_new else replace(risk, supersedes=last_id), tenant)
        for state in series:
            key = series_row(state.root, state.series_id, tenant)
            this_round.put(RISK_BOOK_STATE, key, state)
        for risk in risks:
            if risk.estimates:
                # Only the simulation is kept: the rest follows from the books and the returns.
                key = simulated_row(risk.path, tenant)
                here.published[key] = risk.as_of_us, risk.event_id
                this_round.put(
                    RISK_BOOK_STATE, key, replace(risk, parts=(), stress=(), tenant=tenant)
                )
        for path in closed:
            here.published.pop(simulated_row(path, tenant), None)
            this_round.put(RISK_BOOK_STATE, simulated_row(path, tenant), None)


def book_row(path: str, tenant: str | None) -> bytes:
    """Return the key of the row with a tenant's book."""
    return encode_key(f"book:{path}", tenant)


def series_row(root: str, series_id: str, tenant: str | None) -> bytes:
    """Return the key of the row with the returns of a series that a tenant's tree holds."""
    return encode_key(f"series:{root}/{series_id}", tenant)


def simulated_row(path: str, tenant: str | None) -> bytes:
    """Return the key of the row with the last simulation of a tenant's book."""
    return encode_key(f"simulated:{path}", tenant)
