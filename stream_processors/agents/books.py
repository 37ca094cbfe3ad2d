"""The processor of trees of books: holdings, returns and limits in, risk and alerts out.

A tree's books, and the returns of the series that it holds, are in one partition, its root's. The
returns come from the processor that measures them: asked for a series by a `SeriesWanted` event, it
sends the series' window, then each new return.

Messages are taken by their time in the log, and a tree is measured after each of them. So measures
and alerts do not depend on how messages arrive, or come together in rounds. When a rebuild of a
partition is done, the processor continues from the rebuilt trees.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from uuid import NAMESPACE_URL, uuid5

from kafka_io import reader
from kafka_io.dead_letters import Message, dead_letter, log_time_us
from kafka_io.reader import ConsumedRecord
from kafka_io.settings import ProducerSettings
from schemas.erasures import Erasures
from schemas.events import (
    AlertAck,
    Book,
    BookRisk,
    DeadLetterReason,
    EntityType,
    PortfolioState,
    ProcessorPositions,
    RebuildDone,
    RiskAlert,
    RiskLimits,
    Scenario,
    SeriesReturns,
    SeriesState,
    SeriesWanted,
)
from schemas.keys import encode_key, scenario_key
from schemas.topics import (
    PROCESSOR_POSITIONS,
    RISK_ACKS,
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_LIMITS,
    RISK_OPEN,
    RISK_REBUILDS,
    RISK_SCENARIOS,
    RISK_SERIES,
    TopicPartition,
)
from stream_processors.books.alerts import BookAlerts, brings_newer_day
from stream_processors.books.tree import BookTree
from stream_processors.kafka_adapter import BOOKS_GROUP, positions_key
from stream_processors.messages import Admitted, tenant_of
from stream_processors.processor import Processor, Round, Rows, total_alerts
from stream_processors.risk.alert_events import is_closed, open_alert
from stream_processors.risk.confidence import InvalidInput
from stream_processors.risk.limited import place_of
from stream_processors.risk.scope import Scope
from stream_processors.risk.thresholds import InvalidRule
from stream_processors.sent_alerts import read_sent
from stream_processors.settings import ProcessorSettings
from stream_processors.stress import Scenarios

logger = logging.getLogger(__name__)

ORDERED = (RISK_LIMITS, RISK_ACKS, RISK_SCENARIOS, RISK_BOOKS, RISK_SERIES)
"""A risk is judged by the limits and acknowledgements, and follows from the scenarios, holdings and
returns, that were written before it; of equal times, this is the order."""

_TICK_S = 1.0
_ANY_OFFSET = 1 << 62


@dataclass(slots=True)
class _Partition:
    """The trees of one partition number."""

    trees: dict[bytes, BookTree] = field(default_factory=dict)
    """By the key of the root."""
    scenarios: Scenarios = field(default_factory=Scenarios)
    """The stress scenarios in force."""
    last_offsets: dict[str, int] = field(default_factory=dict)
    """The offset of the last message of each ordered topic that was read, by its catalogue name."""
    rebuilds: list[RebuildDone] = field(default_factory=list)
    read_us: int = 0
    """The time in the log of the last message that was read: all before it were."""
    published: dict[bytes, BookRisk] = field(default_factory=dict)
    """The last risk of each book that was measured, without its parts, by the key of its row."""
    alerts: dict[bytes, BookAlerts] = field(default_factory=dict)
    """The limits and alerts of books, by the key of the row with a book's limits."""
    open_alerts: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """The open alerts by severity and acknowledgement, as of the last round."""
    has_new_alerts: bool = True
    """Whether alerts were sent since they were counted."""


class Books(Processor):
    """Measures trees of books."""

    def __init__(self, settings: ProcessorSettings) -> None:
        super().__init__(
            "measure_books",
            ORDERED if settings.rebuild_version else (*ORDERED, RISK_REBUILDS),
            (RISK_BOOK_STATE,),
            linger_s=settings.batch_within_s,
            tick_s=_TICK_S,
            merged=ORDERED,
        )
        self._settings = settings
        self._config = settings.book_config()
        self._catalogue = {settings.topic_prefix + topic.name: topic.name for topic in ORDERED}
        self._series_topic = settings.topic_prefix + RISK_SERIES.name
        self._scope = None
        """The tenant whose books are rebuilt; None if this worker rebuilds nothing."""
        if settings.rebuild_version:
            self._scope = Scope(settings.rebuild_tenant)
        self._erased = Erasures.parse(settings.rebuild_erased)
        self._partitions: dict[int, _Partition] = {}

    def open_alerts(self) -> Mapping[tuple[str, bool], int]:
        """Return the number of open alerts of books."""
        return total_alerts(here.open_alerts for here in list(self._partitions.values()))

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Replace the trees of a partition number."""
        here = self._partitions[number] = self._restored(number, rows, row_limits)
        here.last_offsets = {topic.name: row_limits[topic.name] - 1 for topic in ORDERED}
        self._count_alerts(here)

    def _restored(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> _Partition:
        """Return the trees in the rows of a partition number."""
        books: defaultdict[bytes, list[Book]] = defaultdict(list)
        series: defaultdict[bytes, list[SeriesState]] = defaultdict(list)
        simulated: defaultdict[bytes, list[BookRisk]] = defaultdict(list)
        scenarios = Scenarios.of_rows(rows[RISK_BOOK_STATE.name].values())
        here = _Partition(scenarios=scenarios)
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
        for risk in chain(*simulated.values()):
            here.published[simulated_row(risk.path, risk.tenant)] = risk
        self._restore_limits(here, number, rows, row_limits)
        for key, tree_books in books.items():
            tree = BookTree(tree_books[0].root, self._config, tree_books[0].tenant)
            try:
                tree.set_stress(here.scenarios.tests_of(tree.tenant))
                tree.restore(tree_books, series[key], simulated[key])
            except Exception:  # rows that are not of this system; they cost this tree only
                logger.exception("the rows of the tree %r cannot be restored", key)
            else:
                here.trees[key] = tree
        return here

    def _restore_limits(
        self, here: _Partition, number: int, rows: Rows, row_limits: Mapping[str, int]
    ) -> None:
        """Continue from the limits and alerts of books, whose last risks are known."""
        for key, row in rows[RISK_BOOK_STATE.name].items():
            if isinstance(row, PortfolioState):
                state = replace(
                    row,
                    limits_offset=min(row.limits_offset, row_limits[RISK_LIMITS.name] - 1),
                    acks_offset=min(row.acks_offset, row_limits[RISK_ACKS.name] - 1),
                )
                last = here.published.get(simulated_row(row.portfolio_id, row.tenant))
                try:
                    book = BookAlerts.unpack(state, self._source(number), last)
                except Exception:  # a row that is not of this system; it costs this book's only
                    logger.exception("the limits %r cannot be restored", key)
                else:
                    here.alerts[key] = book

    def forget(self, number: int) -> None:
        """Drop the trees of a partition number."""
        self._partitions.pop(number, None)

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        """Apply books and returns to their trees."""
        here = self._partitions[this_round.number]
        for message in messages:
            if isinstance(message.record, RebuildDone):
                here.rebuilds.append(message.record)
                continue
            here.read_us = log_time_us(message)
            here.last_offsets[self._catalogue[message.topic]] = message.offset
            tenant = tenant_of(message)
            if self._scope is not None and not self._scope.covers("", tenant):
                continue
            if not self._erased.covers(tenant, log_time_us(message)):
                await self._apply(here, message, this_round)

    async def _apply(self, here: _Partition, message: Admitted, this_round: Round) -> None:
        """Apply a message to the trees and limits that it is about."""
        record = message.record
        match record:
            case Book():
                await self._put(here, record, message, this_round)
            case Scenario():
                await self._put_scenario(here, record, message, this_round)
            case SeriesReturns():
                await self._add_returns(here, record, message, this_round)
            case RiskLimits() | AlertAck():
                if record.entity_type == EntityType.BOOK:
                    self._apply_limits(here, record, message, this_round)
            case _:
                raise AssertionError(f"no input of books has a {type(record).__name__}")

    def needs_tick(self, number: int, now_us: int) -> bool:
        """Return whether something may be due, by this clock or by the log's."""
        return self.needs_time(number, max(now_us, self._partitions[number].read_us))

    def needs_time(self, number: int, now_us: int) -> bool:
        """Return whether an alert or the end of a temporary limit may be due."""
        here = self._partitions.get(number)
        return here is not None and any(book.due_us <= now_us for book in here.alerts.values())

    async def tick(self, this_round: Round) -> None:
        """Alert where measures are missing, and let temporary limits end, by the log's time."""
        here = self._partitions[this_round.number]
        until_us = max(here.read_us, this_round.read_until_us or 0)
        for book in here.alerts.values():
            if book.due_us <= until_us:
                self._send_alerts(here, book, book.tick(until_us), this_round)

    async def finish(self, this_round: Round) -> None:
        """Take over what was rebuilt, and count the open alerts if they may have changed."""
        here = self._partitions[this_round.number]
        rebuilds, here.rebuilds = here.rebuilds, []
        for done in rebuilds:
            await self._take_over(here, done, this_round)
        if here.has_new_alerts:
            self._count_alerts(here)

    @staticmethod
    def _count_alerts(here: _Partition) -> None:
        here.has_new_alerts = False
        here.open_alerts = Counter(
            kind for book in here.alerts.values() for kind in book.open_alerts()
        )

    async def _put(self, here: _Partition, book: Book, message: Message, this_round: Round) -> None:
        """Put a book into its tree, and ask for the returns that the tree now needs."""
        tenant = tenant_of(message)
        key = encode_key(book.root, tenant)
        tree = here.trees.get(key) or BookTree(book.root, self._config, tenant)
        tree.set_stress(here.scenarios.tests_of(tenant))
        before = tree.series
        known = {series_id: tree.unmoved_prices(series_id) for series_id in before}
        try:
            tree.put(book)
        except InvalidInput as error:
            letter = dead_letter(message, DeadLetterReason.INVALID, str(error))
            this_round.send(letter, tenant)
            return
        here.trees[key] = tree
        for series_id in sorted(before | tree.series):
            is_wanted = series_id in tree.series
            prices = tree.unmoved_prices(series_id) if is_wanted else ()
            if (series_id in before) == is_wanted and set(prices) <= set(known[series_id]):
                continue
            request = SeriesWanted(
                series_id=series_id,
                root=book.root,
                wanted=is_wanted,
                event_time_us=book.event_time_us,
                prices=prices,
            )
            self._ask(request, tenant, this_round)
            if not request.wanted:
                this_round.put(RISK_BOOK_STATE, series_row(book.root, series_id, tenant), None)
        row = None if book.closed else replace(book, tenant=tenant)
        this_round.put(RISK_BOOK_STATE, book_row(book.path, tenant), row)
        await self._measure(here, tree, this_round, message)

    def _ask(self, request: SeriesWanted, tenant: str | None, this_round: Round) -> None:
        """Ask for the returns of a series; a rebuild reads what the log has of the answers."""
        if self._scope is None:
            this_round.send(request, tenant)

    async def _add_returns(
        self, here: _Partition, record: SeriesReturns, message: Message, this_round: Round
    ) -> None:
        """Add returns to a tree, and ask anew for the series whose past was rebuilt."""
        tree = here.trees.get(encode_key(record.root, tenant_of(message)))
        if tree is None:
            return
        for series_id in record.rebuilt:
            if series_id in tree.series:
                request = SeriesWanted(
                    series_id=series_id,
                    root=tree.root,
                    wanted=True,
                    event_time_us=record.event_time_us,
                    prices=tree.prices_of(series_id),
                    anew=True,
                )
                self._ask(request, tree.tenant, this_round)
        if record.returns:
            tree.add_returns(record.returns, record.lap, record.earlier, record.moved, record.anew)
            await self._measure(here, tree, this_round, message)

    async def _put_scenario(
        self, here: _Partition, scenario: Scenario, message: Message, this_round: Round
    ) -> None:
        """Put a stress scenario; all trees of its tenant are valued by it."""
        tenant = tenant_of(message)
        if not here.scenarios.put(scenario, tenant):
            return
        for tree in here.trees.values():
            if tree.tenant == tenant:
                tree.set_stress(here.scenarios.tests_of(tenant))
                await self._measure(here, tree, this_round, message)
        row = None if scenario.withdrawn else replace(scenario, tenant=tenant)
        this_round.put(RISK_BOOK_STATE, scenario_key(scenario.name, tenant), row)

    def _apply_limits(
        self, here: _Partition, record: RiskLimits | AlertAck, message: Message, this_round: Round
    ) -> None:
        """Apply limits of a book, or an acknowledgement of one of its alerts."""
        tenant = tenant_of(message)
        path = record.portfolio_id if isinstance(record, RiskLimits) else record.entity_id
        key = limits_row(path, tenant)
        book = here.alerts.get(key)
        if book is None:
            if isinstance(record, AlertAck):
                return  # a book without limits has no alert
            book = BookAlerts(path, self._source(this_round.number), tenant)
            last = here.published.get(simulated_row(path, tenant))
            if last is not None:
                book.judge(last, message.offset, log_time_us(message))  # by no limits yet
        book.source = TopicPartition(message.topic, message.partition)
        try:
            if isinstance(record, RiskLimits):
                alerts = book.set_limits(record, message.offset, log_time_us(message))
            else:
                alerts = book.acknowledge(record, message.offset, log_time_us(message))
        except InvalidRule as error:
            this_round.send(dead_letter(message, DeadLetterReason.INVALID, str(error)), tenant)
            return
        here.alerts[key] = book
        self._send_alerts(here, book, alerts, this_round)

    @staticmethod
    def _send_alerts(
        here: _Partition, book: BookAlerts, alerts: Sequence[RiskAlert], this_round: Round
    ) -> None:
        """Send alerts of a book, and write its limits with them."""
        here.has_new_alerts |= bool(alerts)
        for alert in alerts:
            this_round.send(alert, book.tenant)
            if is_closed(alert):
                this_round.delete(RISK_OPEN, [encode_key(alert.alert_id, book.tenant)])
            else:
                this_round.send(open_alert(alert, book.tenant), book.tenant)
        this_round.must_end |= bool(alerts)
        this_round.put(RISK_BOOK_STATE, limits_row(book.path, book.tenant), book.pack())

    def _source(self, number: int) -> TopicPartition:
        return TopicPartition(self._series_topic, number)

    async def _measure(
        self,
        here: _Partition,
        tree: BookTree,
        this_round: Round,
        message: Message,
    ) -> None:
        """Measure the books of a tree that a message changed, and judge them by their limits."""
        offset, log_us = message.offset, log_time_us(message)
        # In a thread: a simulation of many series is slow, and spends most of its time in NumPy.
        risks, series, closed = await asyncio.to_thread(tree.changes)
        tenant, topic = tree.tenant, self._catalogue[message.topic]
        place = f"{topic}/{place_of(message.partition, offset)}"
        identified = [
            _with_own_id(risk, here.published.get(simulated_row(risk.path, tenant)), topic, place)
            for risk in risks
        ]
        for risk in self._write_risks(here, tenant, identified, this_round):
            book = self._judged(here, risk.path, tenant, message)
            if book is not None:
                alerts = book.judge(risk, offset, log_us, topic)
                self._send_alerts(here, book, alerts, this_round)
        for state in series:
            key = series_row(state.root, state.series_id, tenant)
            this_round.put(RISK_BOOK_STATE, key, state)
        self._delete_risks(here, tenant, closed, this_round)
        for path in closed:
            book = self._judged(here, path, tenant, message)
            if book is not None:
                self._send_alerts(here, book, book.close(offset, log_us), this_round)

    @staticmethod
    def _write_risks(
        here: _Partition, tenant: str | None, risks: Sequence[BookRisk], this_round: Round
    ) -> Sequence[BookRisk]:
        """Send the risks of books, and write their rows; return them as they were sent."""
        replacing = [
            _superseding(risk, here.published.get(simulated_row(risk.path, tenant)))
            for risk in risks
        ]
        for risk in replacing:
            this_round.send(risk, tenant)
            if risk.estimates:
                # The simulation and what alerts judge are kept: the parts follow from the books.
                key = simulated_row(risk.path, tenant)
                stress = [loss._replace(missing=()) for loss in risk.stress]
                row = here.published[key] = replace(risk, parts=(), stress=stress, tenant=tenant)
                this_round.put(RISK_BOOK_STATE, key, row)
        return replacing

    @staticmethod
    def _delete_risks(
        here: _Partition, tenant: str | None, paths: Collection[str], this_round: Round
    ) -> None:
        """Delete the risks of books that no longer exist."""
        this_round.delete(RISK_BOOK_RISKS, [encode_key(path, tenant) for path in paths])
        for path in paths:
            here.published.pop(simulated_row(path, tenant), None)
            this_round.put(RISK_BOOK_STATE, simulated_row(path, tenant), None)

    async def _take_over(self, here: _Partition, done: RebuildDone, this_round: Round) -> None:
        """Continue from the rebuilt trees of a partition.

        The rebuild may be of one tenant, or of no books, and trees are newer: those that it does
        not have stay as they are. The messages that the present trees have read, and the rebuild
        has not, are applied to the rebuilt trees; what follows from them was sent before.
        """
        number = done.partition
        rows, unread = await self._read_rebuilt(here, done)
        # The offsets in rows are those of this log.
        rebuilt = self._restored(number, rows, dict.fromkeys(here.last_offsets, _ANY_OFFSET))
        # A tree whose books are closed has no rows but those of its limits.
        known = {
            *rebuilt.trees,
            *(_root_key(book.path, book.tenant) for book in rebuilt.alerts.values()),
        }
        before = Round(number, "")
        assert this_round.gate is not None
        for record in unread:
            message = this_round.gate.admit(record)
            if isinstance(message, Admitted) and concerns(message, known):
                await self._apply(rebuilt, message, before)
        await self._replace_alerts(here, rebuilt, this_round)
        for key, tree in rebuilt.trees.items():
            await self._replace_tree(here, key, rebuilt, done.version, this_round)
            here.trees[key] = tree
        logger.info(
            "took over %d trees of books of partition %d from rebuild %s",
            *(len(rebuilt.trees), number, done.version),
        )

    async def _read_rebuilt(
        self, here: _Partition, done: RebuildDone
    ) -> tuple[Rows, Sequence[ConsumedRecord]]:
        """Return the rows of a rebuild, and the messages that only the present trees have read."""
        settings, number = self._settings, done.partition
        source = self._reader_settings(settings.topic_prefix)
        prefix = settings.written_prefix(done.version)
        anew = self._reader_settings(prefix)
        positions_name, rows_name = prefix + PROCESSOR_POSITIONS.name, prefix + RISK_BOOK_STATE.name
        # The worker of the rebuild may still go on. A message that is in the rows and among the
        # unread ones changes nothing; one in neither would be lost.
        positions = await reader.read_rows({positions_name: PROCESSOR_POSITIONS}, number, anew)
        saved = positions[positions_name].get(positions_key(BOOKS_GROUP, number))
        if not isinstance(saved, ProcessorPositions):
            return {RISK_BOOK_STATE.name: {}}, ()  # it has no books
        rows = (await reader.read_rows({rows_name: RISK_BOOK_STATE}, number, anew))[rows_name]
        unread: list[tuple[int, ConsumedRecord]] = []
        ranks = {topic.name: rank for rank, topic in enumerate(ORDERED)}
        for at in saved.positions:
            span = range(at.next_offset, here.last_offsets[at.topic] + 1)
            name = settings.topic_prefix + at.topic
            found = await reader.read_between(name, number, span, source) if span else ()
            unread += [(ranks[at.topic], record) for record in found]
        unread.sort(key=lambda of: (of[1].timestamp, of[0], of[1].offset))
        return {RISK_BOOK_STATE.name: rows}, [record for _, record in unread]

    async def _replace_alerts(
        self, here: _Partition, rebuilt: _Partition, this_round: Round
    ) -> None:
        """Continue from rebuilt limits and alerts, and tell how these differ from the present."""
        unknown = {}
        for key, book in rebuilt.alerts.items():
            known = here.alerts[key].open_alert_ids if key in here.alerts else frozenset()
            ids = book.open_alert_ids - known
            if ids:
                unknown[encode_key(book.path, book.tenant)] = ids
        sent = await read_sent(unknown, self._reader_settings(self._settings.topic_prefix))
        for key, book in rebuilt.alerts.items():
            of_book = sent.get(encode_key(book.path, book.tenant), {})
            alerts = book.take_over(here.alerts.get(key), of_book)
            here.alerts[key] = book
            self._send_alerts(here, book, alerts, this_round)

    async def _replace_tree(
        self, here: _Partition, key: bytes, rebuilt: _Partition, version: str, this_round: Round
    ) -> None:
        """Publish the measures of a rebuilt tree, and write its rows in place of the present."""
        tree, present = rebuilt.trees[key], here.trees.get(key)
        tenant = tree.tenant
        for book_id in () if present is None else present.books.keys() - tree.books.keys():
            this_round.put(RISK_BOOK_STATE, book_row(f"{tree.root}/{book_id}", tenant), None)
        for book in tree.books.values():
            row = replace(book, tenant=tenant)
            this_round.put(RISK_BOOK_STATE, book_row(book.path, tenant), row)
        closed = set() if present is None else present.paths - tree.paths
        for series_id in frozenset() if present is None else present.series - tree.series:
            this_round.put(RISK_BOOK_STATE, series_row(tree.root, series_id, tenant), None)
        tree.set_stress(here.scenarios.tests_of(tenant))
        tree.touch()
        changes = await asyncio.to_thread(tree.changes)
        identified = [
            _with_id_of(risk, rebuilt.published.get(simulated_row(risk.path, tenant)), version)
            for risk in changes.risks
        ]
        self._write_risks(here, tenant, identified, this_round)
        for state in tree.states():
            row_key = series_row(state.root, state.series_id, tenant)
            this_round.put(RISK_BOOK_STATE, row_key, state)
        self._delete_risks(here, tenant, closed, this_round)

    def _reader_settings(self, prefix: str) -> ProducerSettings:
        servers = self._settings.bootstrap_servers
        return ProducerSettings(bootstrap_servers=servers, topic_prefix=prefix)

    @staticmethod
    def _judged(
        here: _Partition, path: str, tenant: str | None, message: Message
    ) -> BookAlerts | None:
        """Return the limits of a book that a message has changed; None where it has none."""
        book = here.alerts.get(limits_row(path, tenant))
        if book is not None:
            book.source = TopicPartition(message.topic, message.partition)
        return book


def _root_key(path: str, tenant: str | None) -> bytes:
    """Return the key of the root of a book's tree."""
    return encode_key(path.partition("/")[0], tenant)


def concerns(message: Admitted, trees: Container[bytes]) -> bool:
    """Return whether a message is about one of some trees, or a scenario, which is about all."""
    match message.record:
        case Book(root=path) | SeriesReturns(root=path):
            pass
        case RiskLimits(portfolio_id=path) | AlertAck(entity_id=path):
            pass
        case _:
            return True
    return _root_key(path, tenant_of(message)) in trees


def _with_own_id(risk: BookRisk, last: BookRisk | None, topic: str, place: str) -> BookRisk:
    """Return a risk with an id that no earlier one of the book has had.

    A risk that does not follow from a newer day may have been there before, as when holdings are
    put back, or a book is closed and put again. So its id has the place of the record.

    Args:
        risk: the risk.
        last: the risk before it, if there is one.
        topic: the catalogue's name of the record's topic.
        place: the record's topic and offset.
    """
    if last is not None and brings_newer_day(risk, last, topic):
        return risk
    return replace(risk, event_id=str(uuid5(NAMESPACE_URL, f"{risk.event_id}:{place}")))


def _with_id_of(risk: BookRisk, rebuilt: BookRisk | None, version: str) -> BookRisk:
    """Return a risk with the id that it has in a rebuild; it has none if it was not measured."""
    if rebuilt is not None:
        return replace(risk, event_id=rebuilt.event_id)
    return replace(risk, event_id=str(uuid5(NAMESPACE_URL, f"{risk.event_id}:rebuild/{version}")))


def _superseding(risk: BookRisk, last: BookRisk | None) -> BookRisk:
    """Return a risk that says which one as of the same time it replaces.

    The same risk, measured again, replaces what it has replaced before.
    """
    if last is None or last.as_of_us != risk.as_of_us:
        return risk
    is_same = last.event_id == risk.event_id
    return replace(risk, supersedes=last.supersedes if is_same else last.event_id)


def book_row(path: str, tenant: str | None) -> bytes:
    """Return the key of the row with a tenant's book."""
    return encode_key(f"book:{path}", tenant)


def series_row(root: str, series_id: str, tenant: str | None) -> bytes:
    """Return the key of the row with the returns of a series that a tenant's tree holds."""
    return encode_key(f"series:{root}/{series_id}", tenant)


def limits_row(path: str, tenant: str | None) -> bytes:
    """Return the key of the row with the limits and alerts of a tenant's book."""
    return encode_key(f"limits:{path}", tenant)


def simulated_row(path: str, tenant: str | None) -> bytes:
    """Return the key of the row with the last simulation of a tenant's book."""
    return encode_key(f"simulated:{path}", tenant)
