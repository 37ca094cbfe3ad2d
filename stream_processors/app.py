"""Faust moves the events; what they mean is decided in the pure modules beside this one.

Six agents:

- `measure_returns`: returns become measures and alerts, by limits that may change, and people
  acknowledge the alerts;
- `follow_training.tasks`, `follow_backtest.jobs`: how far each task and job is, and where its
  story stands;
- `form_candles`: trades become candles;
- `tally_events`: what happened is counted for each partition and window;
- `total_windows`: a window's tallies become a `dashboard_update`.

What holds for ever: a record is acknowledged after everything that follows from it is in Kafka, in
this order: alerts and measures, state, acknowledgement. So a crash at any point loses nothing; what
is read again is skipped by the position in the state, or written again under the same id.

Faust acknowledges a record whose agent failed. Hence `noack_take`, acknowledging by hand, and a
supervisor under which an exception stops the worker.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from tempfile import gettempdir
from typing import Any, TypeVar

import faust
import sdnotify
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP
from mode import CrashingSupervisor

from schemas.codec import decode, encode
from schemas.errors import Undecodable
from schemas.events import (
    AlertAck,
    BacktestProgress,
    CandleState,
    DeadLetter,
    Event,
    JobState,
    OpenAlert,
    PortfolioState,
    Record,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskLimits,
    StoryState,
    TradeBatch,
    TrainingProgress,
    WindowTally,
)
from schemas.headers import TENANT, Headers, headers_of
from schemas.topics import (
    BACKTEST_EVENTS,
    BACKTEST_JOBS,
    DASHBOARD_TALLIES,
    DEAD_LETTERS,
    MARKET_FORMING,
    MARKET_TRADES,
    PARTITIONS,
    PORTFOLIO_RETURNS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_LIMITS,
    RISK_OPEN,
    RISK_STATE,
    TRAINING_EVENTS,
    TRAINING_TASKS,
    Topic,
    key_of,
    topic_of,
)
from stream_processors.alerts import Source
from stream_processors.candles import SymbolCandles
from stream_processors.measures import Outcome
from stream_processors.risk import PortfolioRisk, Position, RiskConfig
from stream_processors.settings import ProcessorSettings
from stream_processors.stories import follow, follow_job
from stream_processors.thresholds import InvalidRule
from stream_processors.tumbling import Partition, Tallying, Totalling

log = logging.getLogger(__name__)

SOURCE = "/stream_processors"

R = TypeVar("R")

_KEPT_BYTES_MAX = 512 * 1024
"""Of a value that goes to the dead letters: one that filled a record would not fit in another."""

_BUFFERED_MESSAGES_MAX = 100_000
_TRADE_BATCHES_MAX = 20
_LOOK_AT_CLOCK_S = 1.0
_TURN_RECORDS = 8
_CLOSE_EVERY_S = 0.25
_TALLY_DELAY_US = 300_000
"""How long a record may be under way from the broker to a worker that has read everything."""
_TOTAL_DELAY_US = 1_000_000
"""How long a window's tallies may be under way."""


def build_app(settings: ProcessorSettings) -> faust.App:
    """The worker's app: agents, table and timers, ready to be started."""
    app = faust.App(
        f"{settings.topic_prefix}tapewire",
        broker=[f"kafka://{server}" for server in settings.bootstrap_servers.split(",")],
        store="memory://",
        datadir=f"{gettempdir()}/{settings.topic_prefix}tapewire-faust",  # made, and left empty
        topic_disable_leader=True,
        topic_allow_declare=False,  # the catalogue provisions, with its own settings
        topic_partitions=PARTITIONS,
        web_enabled=False,
        worker_redirect_stdouts=False,
        agent_supervisor=CrashingSupervisor,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        broker_commit_interval=1.0,
        consumer_group_instance_id=f"{settings.topic_prefix}{settings.worker_id}",
        consumer_auto_offset_reset="earliest",
        producer_linger=0.01,
        producer_max_batch_size=1 << 19,
        producer_acks=-1,
        # Records of open windows are held on purpose; whoever takes over reads them again.
        stream_wait_empty=False,
        table_standby_replicas=0,
        cython_optimizations=True,
    )
    transport: Any = app.transport
    transport.Consumer = _RewindingConsumer
    writer = _Writer(app, settings)
    _add_risk(app, settings, writer)
    _add_stories(app, writer, TRAINING_EVENTS, TRAINING_TASKS, _followed_task)
    _add_stories(app, writer, BACKTEST_EVENTS, BACKTEST_JOBS, _followed_job)
    _add_candles(app, writer)
    _add_dashboard(app, settings, writer)

    @app.task
    async def widen_the_producer_buffer() -> None:
        # At its default of 100 a take's worth of state rows stalls, with a warning for each.
        app.producer.buffer.max_messages = _BUFFERED_MESSAGES_MAX

    @app.on_rebalance_complete.connect(weak=False)
    async def ready(*_: object, **__: object) -> None:
        sdnotify.SystemdNotifier().notify("READY=1\nSTATUS=measuring, judging and counting")

    return app


_FETCH_WAIT_S = 0.2
"""How long a fetch waits for records, and so, at most, a rewind for a fetch."""


class _RewindingConsumer(Consumer):
    """Goes back to what was committed with nothing under way from further on.

    Before it recovers its tables Faust fetches from all partitions, and throws away. It then seeks
    back while a fetch may still be under way. Records of such a fetch, delivered after the seek,
    move the place that it has read up to past everything that it is about to read: it drops that
    without a word, as read before.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._nothing_under_way = asyncio.Event()
        self._nothing_under_way.set()

    async def rewind(self) -> None:
        """Stop the flow, and stand where was committed; Faust resumes the flow when it is ready."""
        self.stop_flow()
        await self._nothing_under_way.wait()
        await self.perform_seek()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the committed offsets, or to the beginning.

        Faust stays where it is in a partition that nothing was committed for: a worker killed in
        its first second, and started again, would never see what was thrown away.
        """
        committed: Mapping[TP, int] = await super().seek_to_committed()
        await self.seek_wait({one: 0 for one, offset in committed.items() if not offset})
        return committed

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Fetch, and deliver."""
        try:
            async for one in super().getmany(min(timeout, _FETCH_WAIT_S)):
                yield one
        finally:
            self._nothing_under_way.set()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        self._nothing_under_way.clear()
        # The set is Faust's own, which it empties under the fetch; an empty one means all.
        return await super()._getmany(active_partitions and set(active_partitions), timeout)


class _Writer:
    """Sends events to their topics, and waits until Kafka has them."""

    def __init__(self, app: faust.App, settings: ProcessorSettings) -> None:
        self._prefix = settings.topic_prefix
        self._app = app

    def topic(self, *topics: Topic, **options: Any) -> Any:
        """The catalogue's topics as one of Faust's, of raw bytes."""
        names = [self._prefix + topic.name for topic in topics]
        return self._app.topic(
            *names,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            **options,
        )

    async def send_all(self, events: Iterable[Event]) -> None:
        """Send events in order; when this returns, all are acknowledged."""
        await self.send_each((event, None) for event in events)

    async def send_each(
        self, events: Iterable[tuple[Event, str | None]], closed_alerts: Iterable[str] = ()
    ) -> None:
        """As `send_all`, each with the tenant whose it is; then forget alerts that are over."""
        sent: list[Awaitable[object]] = [await self._send(*one) for one in events]
        sent += [await self.put(RISK_OPEN, one.encode(), None) for one in closed_alerts]
        for delivered in sent:
            await delivered

    async def _send(self, event: Event, tenant: str | None) -> Awaitable[object]:
        value = encode(event)
        headers = headers_of(event, value, SOURCE, tenant=tenant)
        # A letter lies where the record that it is about would lie.
        key = event.key if isinstance(event, DeadLetter) else key_of(event)
        return await self.put(topic_of(event), key, value, headers=headers)

    async def put(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> Awaitable[object]:
        """Hand a record to the producer; what is returned ends when it is acknowledged.

        Past Faust's topics and tables, whose bookkeeping for a record costs as much again.
        """
        producer = await self._app.maybe_start_producer()
        name = self._prefix + topic.name
        delivered: Awaitable[object] = await producer.send(
            name, key, value, partition, timestamp=None, headers=headers
        )
        return delivered


def _add_risk(app: faust.App, settings: ProcessorSettings, writer: _Writer) -> None:
    config = settings.risk()
    returns_topic = settings.topic_prefix + PORTFOLIO_RETURNS.name
    portfolios: dict[str, PortfolioRisk] = {}
    states = _States(app, writer, RISK_STATE)

    one_at_a_time = asyncio.Lock()

    @states.on_recover
    async def recover() -> None:
        # A round that goes on meanwhile would go on from a state without its own beginning.
        async with one_at_a_time:
            portfolios.clear()
            for _, state in states.recovered():
                assert isinstance(state, PortfolioState)
                portfolios[state.portfolio_id] = PortfolioRisk.unpack(state, config, returns_topic)
        log.info("recovered %d portfolios", len(portfolios))
        consumer: Any = app.consumer
        await consumer.rewind()

    window_us = int(settings.dashboard_window_s * 1_000_000)

    async def publish(round_: "_Round") -> None:
        await writer.send_each(round_.events(), round_.closed_alerts())
        rows = {
            portfolio_id.encode(): (risk.source.partition, risk.pack())
            for portfolio_id, risk in round_.changed.items()
        }
        await states.keep(rows)

    @app.agent(writer.topic(PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS), name="measure_returns")
    async def measure_returns(stream: Any) -> None:
        async for events in stream.noack_take(
            settings.batch_records_max, within=settings.batch_within_s
        ):
            async with one_at_a_time:
                round_ = _Round(portfolios, config, returns_topic, window_us)
                for number, event in enumerate(events):
                    round_.take(event)
                    if number % _TURN_RECORDS == 0:
                        await asyncio.sleep(0)  # others, and what arrives, have a turn
                await publish(round_)
                for event in events:
                    await stream.ack(event)

    @app.timer(_LOOK_AT_CLOCK_S)
    async def look_at_the_clock() -> None:
        async with one_at_a_time:
            round_ = _Round(portfolios, config, returns_topic, window_us)
            round_.tick(time.time_ns() // 1000)
            await publish(round_)


def _add_stories(
    app: faust.App,
    writer: _Writer,
    events: Topic,
    kept_in: Topic,
    followed: Callable[[Any, Any], Record | None],
) -> None:
    """Keep where each story of a topic stands, in a compacted one.

    Args:
        app: the worker's.
        writer: makes topics.
        events: whose keys' stories are followed.
        kept_in: where their states go.
        followed: the state after a message, where it changes: from the one before, and the message.
    """
    stories: dict[bytes, Record] = {}
    states = _States(app, writer, kept_in)

    @states.on_recover
    async def recover() -> None:
        stories.clear()
        stories.update(states.recovered())

    @app.agent(writer.topic(events), name=f"follow_{kept_in.name}")
    async def follow_stories(stream: Any) -> None:
        async for steps in stream.noack_take(1000, within=0.02):
            changed = _changes(stories, [step.message for step in steps], followed)
            await states.keep(changed)
            for step in steps:
                await stream.ack(step)


def _changes(
    stories: dict[bytes, Record],
    messages: Iterable[Any],
    followed: Callable[[Any, Any], Record | None],
) -> dict[bytes, tuple[int, Record | None]]:
    """Apply messages; for each story that changed its partition, and its state if it has one."""
    changed: dict[bytes, tuple[int, Record | None]] = {}
    for message in messages:
        if _is_removal(message):
            stories.pop(message.key, None)
            changed[message.key] = message.partition, None
            continue
        state = followed(stories.get(message.key), message)
        if state is not None:
            stories[message.key] = state
            changed[message.key] = message.partition, state
    return changed


def _is_removal(message: Any) -> bool:
    event = _event(message)
    return isinstance(event, BacktestProgress) and bool(event.job and event.job.kind == "removed")


def _followed_task(known: StoryState | None, message: Any) -> StoryState | None:
    event = _event(message)
    if not isinstance(event, TrainingProgress):
        return None
    return follow(known, message.key.decode(), event, message.partition, message.offset)


def _followed_job(known: JobState | None, message: Any) -> JobState | None:
    event = _event(message)
    if not isinstance(event, BacktestProgress):
        return None
    return follow_job(known, event, message.partition, message.offset)


def _event(message: Any) -> Record | None:
    try:
        return decode(message.value)
    except Undecodable:
        return None  # `tally_events` writes the letter


def _add_candles(app: faust.App, writer: _Writer) -> None:
    symbols: dict[str, SymbolCandles] = {}
    states = _States(app, writer, MARKET_FORMING)

    @states.on_recover
    async def recover() -> None:
        symbols.clear()
        for _, state in states.recovered():
            assert isinstance(state, CandleState)
            symbols[state.symbol] = SymbolCandles(state.symbol, state)

    @app.agent(writer.topic(MARKET_TRADES), name="form_candles")
    async def form_candles(stream: Any) -> None:
        async for events in stream.noack_take(_TRADE_BATCHES_MAX, within=0.02):
            changed: dict[bytes, tuple[int, SymbolCandles]] = {}
            told: list[Event] = []
            for event in events:
                batch = _decoded(event.message, TradeBatch)
                if isinstance(batch, DeadLetter):
                    told.append(batch)
                    continue
                symbol = symbols.setdefault(batch.symbol, SymbolCandles(batch.symbol))
                taken = symbol.take(batch)
                told += taken.closed
                told += [
                    _dead_letter(event.message, one.reason, one.error, index=one.index)
                    for one in taken.refused
                ]
                changed[batch.symbol.encode()] = event.message.partition, symbol
            await writer.send_all(told)
            await states.keep(
                {key: (home, symbol.pack()) for key, (home, symbol) in changed.items()}
            )
            for event in events:
                await stream.ack(event)


class _States:
    """A table of records, and the compacted topic that keeps it."""

    def __init__(self, app: faust.App, writer: _Writer, topic: Topic) -> None:
        self._writer, self._topic = writer, topic
        self._table = app.Table(
            topic.name.replace(".", "_"),
            partitions=PARTITIONS,
            key_type=bytes,
            value_type=bytes,
            # As Faust makes its own: not acknowledged, and with room for recovery to run ahead.
            changelog_topic=writer.topic(
                topic, acks=False, internal=True, allow_empty=True, maxsize=131_072
            ),
        )
        self.on_recover = self._table.on_recover

    def recovered(self) -> Iterable[tuple[bytes, Record]]:
        """Everything that is there, by its key."""
        return ((key, decode(value)) for key, value in self._table.data.items())

    async def keep(self, rows: Mapping[bytes, tuple[int, Record | None]]) -> None:
        """Write records, each to its partition; when this returns, all are acknowledged."""
        written = []
        for key, (partition, record) in rows.items():
            value = None if record is None else encode(record)
            written.append(await self._writer.put(self._topic, key, value, partition))
            if value is None:
                self._table.data.pop(key, None)
            else:
                self._table.data[key] = value
        for delivered in written:
            await delivered


_REJECTED = Outcome.REJECTED


class _Count:
    """Returns of one partition in one window."""

    __slots__ = ("first_offset", "last_offset", "returns")

    def __init__(self, first_offset: int) -> None:
        self.first_offset = self.last_offset = first_offset
        self.returns = 0

    def add(self, offset: int, returns: int) -> None:
        """Count some of a record."""
        self.last_offset = offset
        self.returns += returns


class _Round:
    """What follows from one take of records."""

    def __init__(
        self,
        portfolios: dict[str, PortfolioRisk],
        config: RiskConfig,
        returns_topic: str,
        window_us: int,
    ) -> None:
        self._portfolios = portfolios
        self._config = config
        self._returns_topic = returns_topic
        self._window_us = window_us
        self._counted: dict[tuple[int, int], _Count] = {}
        """What was taken in, by partition and window."""
        self._measured: Counter[int] = Counter()
        """How many measures were said, by partition."""
        self.changed: dict[str, PortfolioRisk] = {}
        self.alerts: list[tuple[RiskAlert, str | None]] = []
        """Each with the tenant whose it is."""
        self.dead: list[DeadLetter] = []

    def take(self, event: Any) -> None:
        """Apply one record: returns, limits, or an acknowledgement."""
        message = event.message
        record: ReturnBatch | RiskLimits | AlertAck | DeadLetter
        record = _decoded(message, ReturnBatch, RiskLimits, AlertAck)
        match record:
            case ReturnBatch():
                self._take_returns(message, record.returns)
            case RiskLimits():
                self._take_limits(message, record)
            case AlertAck():
                risk = self._risk_of(record.entity_id, message)
                self._tell(risk, risk.acknowledge(record, message.offset))
            case DeadLetter():
                self.dead.append(record)

    def tick(self, now_us: int) -> None:
        """Look at the clock."""
        for risk in self._portfolios.values():
            alerts = risk.tick(now_us)
            if alerts:
                self.changed[risk.portfolio_id] = risk
                self._tell(risk, alerts)

    def events(self) -> Iterable[tuple[Event, str | None]]:
        """Everything that is to be told, each with the tenant whose it is."""
        yield from ((one, None) for one in self.dead)
        yield from self.alerts
        yield from self.open_alerts()
        yield from self.measures()
        yield from ((one, None) for one in self.tallies())

    def open_alerts(self) -> Iterable[tuple[Event, str | None]]:
        """The last step of each alert that is not over."""
        last = {alert.alert_id: (alert, tenant) for alert, tenant in self.alerts}
        return [
            (_as_open(alert), tenant)
            for alert, tenant in last.values()
            if alert.state not in _CLOSING
        ]

    def closed_alerts(self) -> list[str]:
        """The alerts that are over."""
        last = {alert.alert_id: alert.state for alert, _ in self.alerts}
        return [alert_id for alert_id, state in last.items() if state in _CLOSING]

    def measures(self) -> Iterable[tuple[Event, str | None]]:
        """The last measure of each portfolio that changed."""
        for risk in self.changed.values():
            measure = risk.measure_event()
            if measure is not None:
                self._measured[risk.source.partition] += 1
                yield measure, risk.tenant

    def tallies(self) -> Iterable[WindowTally]:
        """How many returns were taken in, and measures said, in which window."""
        newest = dict(sorted(self._counted))
        for (partition, start), count in self._counted.items():
            counts = {"returns": count.returns}
            if newest[partition] == start:
                counts["risk_measures"] = self._measured[partition]
            yield WindowTally(
                window_start_us=start,
                window_us=self._window_us,
                counts=counts,
                source_topic=self._returns_topic,
                source_partition=partition,
                last_offset=count.last_offset,
                first_offset=count.first_offset,
            )

    def _take_limits(self, message: Any, limits: RiskLimits) -> None:
        risk = self._risk_of(limits.portfolio_id, message)
        if risk.position.offset >= 0 and risk.tenant != _tenant(message):
            wrong = f"{limits.portfolio_id} is another tenant's"
            self.dead.append(_dead_letter(message, "foreign", wrong))
            return
        try:
            self._tell(risk, risk.set_limits(limits, message.offset))
        except InvalidRule as error:
            self.dead.append(_dead_letter(message, "invalid", str(error)))

    def _take_returns(self, message: Any, returns: Sequence[Return]) -> None:
        tenant, offset, taken = _tenant(message), message.offset, 0
        portfolios, changed = self._portfolios, self.changed
        for index, one in enumerate(returns):
            risk = portfolios.get(one.portfolio_id)
            if risk is None:
                risk = self._risk_of(one.portfolio_id, message)
            outcome, alerts = risk.apply(one, Position(offset, index))
            if outcome is None:
                continue
            taken += 1
            risk.tenant = tenant
            changed[one.portfolio_id] = risk
            if alerts:
                self._tell(risk, alerts)
            if outcome is _REJECTED:
                self.dead.append(_refused_return(message, index, one))
        if taken:
            self._count(message).add(offset, taken)

    def _count(self, message: Any) -> "_Count":
        at_us = _log_time_us(message)
        key = message.partition, at_us - at_us % self._window_us
        count = self._counted.get(key)
        if count is None:
            count = self._counted[key] = _Count(message.offset)
        return count

    def _risk_of(self, portfolio_id: str, message: Any) -> PortfolioRisk:
        risk = self._portfolios.get(portfolio_id)
        if risk is None:
            source = Source(self._returns_topic, message.partition)
            risk = self._portfolios[portfolio_id] = PortfolioRisk(
                portfolio_id, self._config, source
            )
        self.changed[portfolio_id] = risk
        return risk

    def _tell(self, risk: PortfolioRisk, alerts: Iterable[RiskAlert]) -> None:
        self.alerts += [(alert, risk.tenant) for alert in alerts]


_CLOSING = frozenset({"cleared", "stale_cleared"})


def _tenant(message: Any) -> str | None:
    """Whose a record is, by its header."""
    for name, value in message.headers or ():
        if name == TENANT:
            return str(value.decode())
    return None


def _as_open(alert: RiskAlert) -> OpenAlert:
    return OpenAlert(
        alert_id=alert.alert_id,
        entity_id=alert.entity_id,
        alert_type=alert.alert_type,
        rule_id=alert.rule_id,
        state=alert.state,
        level=alert.level,
        severity=alert.severity,
        message=alert.message,
        acknowledged=alert.state == "acknowledged",
        event_time_us=alert.event_time_us,
    )


def _add_dashboard(app: faust.App, settings: ProcessorSettings, writer: _Writer) -> None:
    counting = _Counting(app, settings, writer)

    @app.agent(writer.topic(*_COUNTED), name="tally_events")
    async def tally_events(stream: Any) -> None:
        async for events in stream.noack_take(1000, within=0.1):
            await counting.tally(events)

    @app.agent(writer.topic(DASHBOARD_TALLIES), name="total_windows")
    async def total_windows(stream: Any) -> None:
        async for events in stream.noack_take(1000, within=0.1):
            await counting.total(events)

    @app.timer(_CLOSE_EVERY_S)
    async def close_windows() -> None:
        await counting.close(time.time_ns() // 1000)

    @app.on_partitions_revoked.connect(weak=False)
    async def forget(*_: object, **__: object) -> None:
        counting.forget()


_COUNTED = (TRAINING_EVENTS, BACKTEST_EVENTS, RISK_ALERTS)
"""Returns and measures, which are many, are counted where they are measured."""


class _Counting:
    """The two stages of counting, and what they hold until a window closes."""

    def __init__(self, app: faust.App, settings: ProcessorSettings, writer: _Writer) -> None:
        self._app = app
        self._writer = writer
        self._topics = {settings.topic_prefix + topic.name: topic for topic in _COUNTED}
        self._tallying: Tallying[Any] = Tallying(int(settings.dashboard_window_s * 1_000_000))
        self._totalling: Totalling[Any] = Totalling()

    async def tally(self, events: Iterable[Any]) -> None:
        """Count records; they are acknowledged when their window closes."""
        for event in events:
            message = event.message
            topic = self._topics[message.topic]
            record = _decoded(message, topic.record)
            if isinstance(record, DeadLetter):
                await self._writer.send_all([record])
            where = Partition(message.topic, message.partition)
            name = _count_name(topic, record)
            self._tallying.add(where, message.offset, _log_time_us(message), name, event)

    async def total(self, events: Iterable[Any]) -> None:
        """Add tallies up; they are acknowledged when their window's total is out."""
        for event in events:
            tally = _decoded(event.message, WindowTally)
            if isinstance(tally, DeadLetter):
                await self._writer.send_all([tally])
                event.ack()
            else:
                self._totalling.add(tally, event)

    async def close(self, now_us: int) -> None:
        """Write the windows that are over."""
        for tally, held in self._tallying.close(now_us - _TALLY_DELAY_US, self._caught_up):
            await self._writer.send_all([tally])
            _acknowledge(held)
        for update, held in self._totalling.close(now_us - _TOTAL_DELAY_US):
            await self._writer.send_all([update])
            _acknowledge(held)

    def forget(self) -> None:
        """Drop everything: whoever gets the partitions reads what was not acknowledged again."""
        self._tallying.forget()
        self._totalling.forget()

    def _caught_up(self, where: Partition, offset: int) -> bool:
        end: int | None = self._app.consumer.highwater(TP(where.topic, where.partition))
        return end is not None and offset + 1 >= end


def _decoded(message: Any, *kinds: type[R]) -> R | DeadLetter:
    """A message's record, or the letter that says why there is none."""
    try:
        record = decode(message.value)
    except Undecodable as error:
        return _dead_letter(message, error.reason, str(error))
    for kind in kinds:
        if isinstance(record, kind):
            return record
    wanted = " or ".join(kind.__name__ for kind in kinds)
    wrong = f"expected a {wanted}, found a {type(record).__name__}"
    return _dead_letter(message, "unexpected_record", wrong)


def _refused_return(message: Any, index: int, one: Return) -> DeadLetter:
    error = f"the return of {one.portfolio_id} is {one.value}; it must be a finite number"
    return _dead_letter(message, "invalid", error, index=index)


def _dead_letter(message: Any, reason: str, error: str, *, index: int | None = None) -> DeadLetter:
    log.warning(
        "%s/%d offset %d goes to %s: %s",
        *(message.topic, message.partition, message.offset, DEAD_LETTERS.name, error),
    )
    value = message.value
    return DeadLetter(
        reason=reason,
        error=error,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        index=index,
        key=message.key,
        value=None if value is None else value[:_KEPT_BYTES_MAX],
        event_time_us=_log_time_us(message),
    )


def _count_name(topic: Topic, record: Record) -> str:
    if isinstance(record, DeadLetter):
        return "undecodable"
    if isinstance(record, RiskAlert):
        return f"alerts_{record.state}"
    return topic.name.replace(".", "_")


def _log_time_us(message: Any) -> int:
    milliseconds: int = round(message.timestamp * 1_000)  # a float of seconds holds these exactly
    return milliseconds * 1_000


def _acknowledge(events: Iterable[Any]) -> None:
    for event in events:
        event.ack()
