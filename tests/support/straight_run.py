"""What a worker must say of real prices, computed straight and without Kafka; and what it says."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count, islice
from typing import Self

from aiokafka import AIOKafkaConsumer

from kafka_io.publisher import Publisher
from producers.market.prices import TradingDay, load_prices, trading_days
from producers.returns import ReturnsPublisher
from schemas.codec import decode
from schemas.events import Record, RiskAlert, RiskMeasure
from schemas.headers import tenant_in
from schemas.topics import TopicPartition
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.risk.thresholds import Rule
from stream_processors.settings import ProcessorSettings
from tests.conftest import World

CONFIG = RiskConfig(
    window=250,
    observations_min=100,
    lateness_us=7 * 86_400 * 1_000_000,
    default_rules=(Rule("var_95", 0.05),),
    methods=ProcessorSettings().risk_config().methods,
)


class TopicReader:
    """Everything on a topic, as it comes."""

    def __init__(self, world: World, *topics: str) -> None:
        self.records: list[Record] = []
        self.tenants: list[str | None] = []
        """The tenant of each of them."""
        self._next: dict[tuple[str, int], int] = {}
        self._consumer = AIOKafkaConsumer(
            *map(world.topic, topics),
            bootstrap_servers=world.kafka.bootstrap_servers,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            metadata_max_age_ms=500,
            request_timeout_ms=5_000,  # a broker that is silent must not hold up the other two
        )

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    def of_tenant(self, tenant: str | None) -> list[Record]:
        """Return the records of a tenant."""
        return [
            record
            for record, named in zip(self.records, self.tenants, strict=True)
            if named == tenant
        ]

    async def until(self, done: Callable[[list[Record]], bool]) -> list[Record]:
        async with asyncio.timeout(90):
            while not done(self.records):
                await self.poll()
        return self.records

    async def poll(self) -> list[Record]:
        """Return what has come since the last call; wait a moment for it."""
        new = []
        for partition, found in (await self._consumer.getmany(timeout_ms=200)).items():
            for record in found:
                # A leader that was cut off may send a consumer back to the partition's beginning.
                where = (partition.topic, partition.partition)
                if record.offset >= self._next.get(where, 0):
                    self._next[where] = record.offset + 1
                    new.append(decode(record.value))
                    self.tenants.append(tenant_in(record.headers))
        self.records += new
        return new


def endless_days() -> Iterator[TradingDay]:
    """Yield the trading days of the packaged prices again and again, later each time."""
    days = trading_days(load_prices())
    length = days[-1].day - days[0].day
    shift = timedelta(weeks=length.days // 7 + 1)
    for lap in count():
        yield from (TradingDay(day.day + lap * shift, day.returns) for day in days)


def straight_run(days: int) -> tuple[dict[tuple[str, int], RiskMeasure], list[RiskAlert]]:
    """All measures by portfolio and instant, and all alerts, computed without Kafka."""
    risks: dict[str, PortfolioRisk] = {}
    measures: dict[tuple[str, int], RiskMeasure] = {}
    alerts: list[RiskAlert] = []
    for offset, day in enumerate(islice(endless_days(), days)):
        for item in day.at_close():
            risk = risks.setdefault(
                item.portfolio_id, PortfolioRisk(item.portfolio_id, CONFIG, TopicPartition("", 0))
            )
            _, new_alerts = risk.apply(item, ReturnOffset(offset, 0))
            measure = risk.measure_event()
            assert measure is not None
            measures[item.portfolio_id, measure.as_of_us] = measure
            alerts += new_alerts
    return measures, alerts


def meaning(event: RiskMeasure | RiskAlert) -> dict[str, object]:
    """An event without where its return stands, which depends on the batches."""
    names = event.__slots__
    return {name: getattr(event, name) for name in names if not name.startswith("source_")}


def measured_at(instant: int, portfolios: set[str]) -> Callable[[list[Record]], bool]:
    """Whether all portfolios were measured as of an instant."""
    return lambda records: (
        {
            record.portfolio_id
            for record in records
            if isinstance(record, RiskMeasure) and record.as_of_us == instant
        }
        >= portfolios
    )


def assert_as_straight(
    records: list[Record],
    measures: dict[tuple[str, int], RiskMeasure],
    alerts: list[RiskAlert],
) -> None:
    """The records mean the same as those of a straight run."""
    for record in records:
        if isinstance(record, RiskMeasure):
            assert meaning(record) == meaning(measures[record.portfolio_id, record.as_of_us])
    meanings = {
        record.transition_id: meaning(record) for record in records if isinstance(record, RiskAlert)
    }
    assert meanings == {record.transition_id: meaning(record) for record in alerts}


async def send_days(world: World, first: int, last: int) -> None:
    days = trading_days(load_prices())
    async with Publisher(world.producer_settings) as publisher:
        returns = ReturnsPublisher(publisher)
        for start in range(first, last, 5):
            many = [
                observation
                for day in days[start : min(start + 5, last)]
                for observation in day.at_close()
            ]
            await returns.send(many)
