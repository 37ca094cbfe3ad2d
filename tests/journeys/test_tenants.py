"""Two tenants and one who has none use the same names for everything, in one system at once.

Each gets exactly what a system of its own gives: its own is started too, and gets the same events
without a tenant.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import numpy as np
import pytest

from cli import risk_replay
from kafka_io.publisher import Publisher
from kafka_io.reader import count_uncommitted, read_end_offsets, read_keyed, read_table
from producers.backtesting.series import find_series
from producers.returns import ReturnsPublisher
from schemas.events import (
    AlertAck,
    BacktestProgress,
    Book,
    BookRisk,
    DashboardUpdate,
    Event,
    Holding,
    JobStep,
    OpenAlert,
    Record,
    Return,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    Trade,
    TradeBatch,
    TrainingProgress,
)
from schemas.keys import decode_key, encode_key
from schemas.topics import (
    BACKTEST_JOBS,
    CATALOGUE,
    DASHBOARD_UPDATES,
    DEAD_LETTERS,
    MARKET_CANDLES,
    MARKET_FORMING,
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_STATE,
    TRAINING_TASKS,
)
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.replay import ReplayQuery
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import processors_of
from tests.conftest import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

DAY_US = 86_400_000_000
DAYS = 120
SCALES = {None: 0.02, "acme": 0.03, "blue": 0.04}
"""The tenants, and the deviation of their returns."""
TABLES = (
    *(RISK_MEASURES, RISK_OPEN, RISK_STATE, RISK_BOOK_RISKS, RISK_BOOK_STATE),
    *(TRAINING_TASKS, BACKTEST_JOBS, MARKET_FORMING),
)
LOGS = (RISK_ALERTS, MARKET_CANDLES)
QUERY = ReplayQuery(
    portfolio_id="p",
    method="historical",
    level=ConfidenceLevel.of("0.95"),
    limit=0.05,
    since_us=0,
    until_us=DAYS * DAY_US,
)
_OF_THE_LOG = {
    *("tenant", "partition", "first_offset", "last_offset", "offset", "index", "limits_offset"),
    *("acks_offset", "source_topic", "source_partition", "source_offset", "wanted_by"),
    "arrived_us",
}
"""Fields that say where in the log something is, since when, or whose it is."""
_OF_THE_LOG_IN_BOOKS = {"event_id", "supersedes"}
"""An id of a book's risk may come from the place of the record that caused it."""


class Tenant:
    """What one tenant, or one who has none, writes; always the same for the same scale."""

    def __init__(self, world: World, tenant: str | None, scale: float) -> None:
        self._world = world
        self._tenant = tenant
        self._scale = scale

    async def set_up(self, publisher: Publisher) -> None:
        """Set a limit and a book, which need what follows."""
        limit = RiskLimits(
            portfolio_id="p", limits=[RiskLimit("var_95", self._scale)], event_time_us=0
        )
        holdings = [Holding("p", self._scale * 1_000, 10.0, 1 << 52), Holding("q", 5.0, 7.0, 0)]
        book = Book(root="firm", book_id="desk", holdings=holdings, event_time_us=0)
        home = await publisher.partition_for(RISK_BOOKS, encode_key("firm", self._tenant))
        await self._publish(publisher, limit)
        await publisher.publish(book, partition=home, tenant=self._tenant or "")

    async def work(self, publisher: Publisher) -> None:
        """Write returns, trades, and the progress of a task and a job."""
        dice = np.random.default_rng(7)
        returns = [
            Return(name, day * DAY_US, float(value))
            for name in "pq"
            for day, value in enumerate(dice.normal(0, self._scale, DAYS))
        ]
        await ReturnsPublisher(publisher).send(returns, tenant=self._tenant or "")
        trades = [
            Trade(time_us=at * 30_000_000, price=self._scale * (at + 1), amount=1.0)
            for at in range(12)
        ]
        batch = TradeBatch(symbol="S", first=0, trades=trades, watermark_us=trades[-1].time_us)
        await self._publish(publisher, batch)
        for percent in (1.0, 100 * self._scale):
            await self._publish(publisher, *_progress(percent))

    async def acknowledge(self, publisher: Publisher) -> None:
        """Acknowledge the open alerts."""
        settings = self._world.producer_settings
        for row in (await read_table(RISK_OPEN, settings, self._tenant or "")).values():
            assert isinstance(row, OpenAlert)
            ack = AlertAck(
                alert_id=row.alert_id, entity_id=row.entity_id, by="ann", event_time_us=0
            )
            await self._publish(publisher, ack)

    async def _publish(self, publisher: Publisher, *events: Event) -> None:
        for event in events:
            await publisher.publish(event, tenant=self._tenant or "")


def _progress(percent: float) -> tuple[Event, Event]:
    task = TrainingProgress(
        task_id="t",
        progress=percent,
        status="running",
        message="",
        metrics={},
        event_time_us=int(percent),
    )
    job = BacktestProgress(
        backtest_id="j",
        progress=percent,
        status="running",
        message="",
        results={},
        event_time_us=int(percent),
        job=JobStep(kind="progress", symbol="S", strategy="rsi", owner="ann"),
    )
    return task, job


async def run(world: World, scales: Mapping[str | None, float], *, acknowledging: bool) -> None:
    """Let tenants work at the same time, each step of all after the one before it."""
    await world.worker(batch_within_s=0.05)
    tenants = [Tenant(world, tenant, scale) for tenant, scale in scales.items()]
    async with Publisher(world.producer_settings) as publisher:
        for tenant in tenants:
            await tenant.set_up(publisher)
        await until_processed(world)
        for tenant in tenants:
            await tenant.work(publisher)
        await until_processed(world)
        if acknowledging:
            await tenants[-1].acknowledge(publisher)
        await until_processed(world)


async def until_processed(world: World) -> None:
    """Wait until processors have read all inputs, and those that they have written for others."""
    settings, group = world.producer_settings, f"{world.prefix}tapewire"
    names = {topic.name for known in processors_of(ProcessorSettings()) for topic in known.inputs}
    inputs = [topic for topic in CATALOGUE if topic.name in names]
    async with asyncio.timeout(120):
        known = None
        while True:
            ends = await read_end_offsets(inputs, settings)
            if ends == known and not await count_uncommitted(ends, group, settings):
                return
            known = ends


def shown(key: bytes, record: Record) -> tuple[str, str, dict[str, Any]]:
    """Return what a tenant sees of a record."""
    of_the_log = _OF_THE_LOG | (_OF_THE_LOG_IN_BOOKS if isinstance(record, BookRisk) else set())
    fields = {
        name: getattr(record, name)
        for name in record.__dataclass_fields__
        if name not in of_the_log
    }
    return type(record).__name__, decode_key(key).entity_id, fields


async def results(world: World, tenant: str | None) -> Any:
    """Return all that a system shows a tenant."""
    settings = world.producer_settings
    tables = []
    for topic in TABLES:
        rows = await read_table(topic, settings, tenant or "")
        assert {decode_key(key).tenant for key in rows} == {tenant}, topic.name
        tables.append(sorted((shown(*row) for row in rows.items()), key=lambda row: row[:2]))
    logs = []
    for topic in LOGS:
        records = [
            shown(key, record)
            for key, record in await read_keyed(topic, settings)
            if decode_key(key).tenant == tenant
        ]
        logs.append(sorted(records, key=lambda record: record[:2]))
    series = await find_series("S", "minute", None, None, {}, settings, tenant)
    replayed = await asyncio.to_thread(risk_replay.run, QUERY, settings, tenant)
    return tables, logs, series, replayed


async def counted_returns(world: World, tenant: str | None) -> float:
    """Return how many returns the tenant's windows of a second have counted."""
    counts = {
        update.window_id: update.values.get("returns", 0.0)
        for key, update in await read_keyed(DASHBOARD_UPDATES, world.producer_settings)
        if isinstance(update, DashboardUpdate)
        and decode_key(key).tenant == tenant
        and update.window_id.endswith("+1000000")
    }
    return sum(counts.values())


async def test_tenants_with_the_same_names_never_meet(
    new_world: Callable[[], AbstractAsyncContextManager[World]],
) -> None:
    async with new_world() as shared, new_world() as of_acme, new_world() as of_blue:
        async with asyncio.TaskGroup() as running:
            running.create_task(run(shared, SCALES, acknowledging=True))
            running.create_task(run(of_acme, {None: SCALES["acme"]}, acknowledging=False))
            running.create_task(run(of_blue, {None: SCALES["blue"]}, acknowledging=True))
        acme, blue, none = [await results(shared, tenant) for tenant in ("acme", "blue", None)]
        assert acme == await results(of_acme, None)
        assert blue == await results(of_blue, None)
        for tenant in SCALES:
            async with asyncio.timeout(30):
                while await counted_returns(shared, tenant) < 2 * DAYS:  # noqa: ASYNC110  # windows end by the clock
                    await asyncio.sleep(0.2)  # each count is a request
            assert await counted_returns(shared, tenant) == 2 * DAYS
        assert await read_keyed(DEAD_LETTERS, shared.producer_settings) == []
        # Each has something of everything, and nobody else's; of tasks, only who has them differs.
        for mine, other in ((acme, blue), (blue, none), (none, acme)):
            for topic, left, right in zip(
                (*TABLES, *LOGS), (*mine[0], *mine[1]), (*other[0], *other[1]), strict=True
            ):
                assert left, topic.name
                assert (left != right) is (topic is not TRAINING_TASKS), topic.name
            assert mine[2].bars != other[2].bars
            assert len(mine[3].forecasts.days) == len(other[3].forecasts.days) == DAYS
            assert mine[3] != other[3]
    states = {
        tenant: {fields["state"] for kind, _, fields in found[1][0] if kind == RiskAlert.__name__}
        for tenant, found in (("acme", acme), ("blue", blue), ("none", none))
    }
    assert "acknowledged" in states["blue"]
    assert "acknowledged" not in states["acme"] | states["none"]
