"""Books whose prices are older than the windows: both processors together, without Kafka."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from math import prod

import pytest
from hypothesis import given, settings, strategies as st

from kafka_io.errors import Unread
from kafka_io.reader import ConsumedRecord, PastRecords
from kafka_io.settings import ProducerSettings
from schemas.codec import encode
from schemas.events import (
    Book,
    BookRisk,
    Holding,
    Return,
    ReturnBatch,
    SeriesReturns,
    SeriesWanted,
    StalePrice,
)
from schemas.topics import (
    PORTFOLIO_RETURNS,
    RISK_BOOK_RISKS,
    RISK_BOOKS,
    RISK_SERIES,
    RISK_WANTED,
    Topic,
)
from stream_processors.agents.books import Books
from stream_processors.agents.risk import Risk
from stream_processors.settings import ProcessorSettings
from tests.support.messages import message
from tests.support.processor_bench import NUMBER, ProcessorBench

DAY_US = 86_400_000_000
WINDOW = 20


class System:
    """A portfolio, a book that holds it, and the log of returns."""

    def __init__(self, tenant: str = "", lateness_days: int = 7) -> None:
        settings = ProcessorSettings(
            risk_methods=("historical",),
            risk_window=WINDOW,
            risk_observations_min=2,
            risk_draws=100,
            risk_lateness_s=lateness_days * 86_400,
            ahead_s=1e12,
        )
        self.tenant = tenant
        self.log: list[ConsumedRecord] = []
        self.begins_at = 0
        """The first offset that the log still has."""
        self.is_readable = True
        self.reads = 0
        self.risk = ProcessorBench(Risk(settings, self.open_past))
        self.books = ProcessorBench(Books(settings))
        self.last: BookRisk | None = None

    @asynccontextmanager
    async def open_past(
        self, topic: Topic, key: bytes, since_ms: int, settings: ProducerSettings
    ) -> AsyncGenerator[PastRecords]:
        assert (topic, since_ms, settings.topic_prefix) == (PORTFOLIO_RETURNS, 0, "")
        assert key == (f"{self.tenant}\xff".encode("latin-1") if self.tenant else b"") + b"IBM"
        self.reads += 1
        if not self.is_readable:
            raise Unread("no broker answers")

        async def read() -> AsyncIterator[ConsumedRecord]:
            for record in self.log[self.begins_at :]:
                yield record

        yield PastRecords(self.begins_at == 0, read())

    async def add(self, day: int, value: float, version: int = 1, lap: int = 0) -> None:
        batch = ReturnBatch(returns=[Return("IBM", day * DAY_US, value, version)], lap=lap)
        self.append(batch)
        await self.risk.run(
            [message(PORTFOLIO_RETURNS, batch, self.log[-1].offset, tenant=self.tenant)]
        )
        await self.pass_on()

    def append(self, batch: ReturnBatch, tenant: str | None = None) -> None:
        named = self.tenant if tenant is None else tenant
        headers = [("tenant", named.encode())] if named else []
        self.log.append(
            ConsumedRecord(
                PORTFOLIO_RETURNS.name, NUMBER, len(self.log), 1e9, None, encode(batch), headers
            )
        )

    async def put(self, priced_day: int, book_id: str = "firm") -> None:
        holdings = (Holding("IBM", 1.0, 100.0, priced_day * DAY_US),)
        book = Book(root="firm", book_id=book_id, holdings=holdings, event_time_us=0)
        await self.books.run([message(RISK_BOOKS, book, tenant=self.tenant)])
        self.note()
        await self.ask()

    async def ask(self) -> None:
        wanted = self.books.journal.sent(RISK_WANTED, SeriesWanted)
        if wanted:
            await self.risk.run([message(RISK_WANTED, item, tenant=self.tenant) for item in wanted])
            await self.pass_on()

    async def pass_on(self) -> None:
        await self.give(*self.risk.journal.sent(RISK_SERIES, SeriesReturns))

    async def give(self, *series: SeriesReturns) -> None:
        """Give records to the books, and what they then ask for to the portfolio."""
        if series:
            tenant = self.tenant
            await self.books.run([message(RISK_SERIES, item, tenant=tenant) for item in series])
            self.note()
            await self.ask()

    def note(self) -> None:
        for risk in self.books.journal.sent(RISK_BOOK_RISKS, BookRisk):
            if risk.book_id == "firm":
                self.last = risk

    def restart(self) -> None:
        for bench in (self.risk, self.books):
            bench.recover(bench.rows())


async def test_a_book_that_is_put_later_is_worth_what_all_returns_since_its_price_made_of_it() -> (
    None
):
    system = System()
    for day in range(1, 301):
        await system.add(day, 0.01)
    await system.put(0)
    assert system.last is not None
    assert system.last.value == pytest.approx(1_978.85, abs=0.005)
    assert (system.last.stale_prices, system.last.stale_price_days) == ([], [])
    await system.add(301, 0.1)
    assert system.last.value == pytest.approx(1_978.85 * 1.1, abs=0.05)
    system.restart()
    await system.add(302, 0.0)
    assert system.last.value == pytest.approx(1_978.85 * 1.1, abs=0.05)
    assert system.reads == 1


async def test_a_second_book_with_an_older_price_of_a_held_series_has_its_value_too() -> None:
    system = System("acme")
    for day in range(1, 101):
        await system.add(day, 0.01)
        system.append(ReturnBatch(returns=[Return("IBM", day * DAY_US, 0.5)]), "other")
    await system.put(95)
    assert system.reads == 0, "the window has all returns since that price"
    for day in range(101, 131):
        await system.add(day, 0.01)
    await system.put(3, "desk")
    assert system.last is not None
    assert system.last.value == pytest.approx(100 * 1.01**35 + 100 * 1.01**127)
    assert system.last.stale_prices == []


async def test_a_price_from_before_the_logs_beginning_is_named_with_the_day_that_is_known() -> None:
    system = System()
    for day in range(1, 101):
        await system.add(day, 0.01)
    system.begins_at = 30
    await system.put(3)
    assert system.last is not None
    assert system.last.stale_prices == ["IBM"]
    assert system.last.stale_price_days == [StalePrice("IBM", "1970-01-04", "1970-02-01")]
    assert system.last.value == pytest.approx(100 * 1.01**70)


async def test_returns_that_cannot_be_read_are_asked_for_again_with_the_next_book() -> None:
    system = System()
    for day in range(1, 101):
        await system.add(day, 0.01)
    system.is_readable = False
    await system.put(3)
    assert system.last is not None
    assert system.last.stale_price_days == [StalePrice("IBM", "1970-01-04", "1970-03-23")]
    system.is_readable = True
    await system.add(101, 0.01)
    await system.put(2, "desk")
    assert system.last.stale_prices == []
    assert system.last.value == pytest.approx(100 * 1.01**98 + 100 * 1.01**99)


async def test_a_replay_that_begins_again_moves_prices_by_its_own_returns_only() -> None:
    system = System()
    for day in range(1, 51):
        await system.add(day, 0.5)
    for day in range(1, 51):
        await system.add(day, 0.01, lap=1)
    await system.put(3)
    assert system.last is not None
    assert system.last.value == pytest.approx(100 * 1.01**47)


@pytest.mark.parametrize("priced", [3, 95])
async def test_a_rebuilt_portfolio_replaces_all_that_its_books_know_of_it(priced: int) -> None:
    system = System("acme")
    for day in range(1, 101):
        await system.add(day, 0.01)
    await system.put(priced)
    assert system.last is not None
    before = system.last
    # What the books have is not what follows from the log, as after a change of the processors.
    wrong = [Return("IBM", (at + 50) * DAY_US + 1, 0.5) for at in range(50)]
    await system.give(SeriesReturns(root="firm", returns=wrong))
    assert system.last.value != before.value
    await system.give(SeriesReturns(root="firm", returns=(), rebuilt=["IBM", "unknown"]))
    assert system.last.value == pytest.approx(before.value)
    assert system.last.stale_prices == []
    assert (system.last.observations, system.last.amounts) == (before.observations, before.amounts)
    assert system.last.supersedes is not None or system.last.as_of_us == before.as_of_us
    system.restart()
    await system.add(101, 0.1)
    assert system.last.value == pytest.approx(100 * 1.01 ** (100 - priced) * 1.1)


steps = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 60), st.floats(-0.3, 0.3), st.integers(1, 3)),
        st.tuples(st.just("put"), st.integers(0, 60), st.sampled_from(["firm", "desk", "fund"])),
    ),
    min_size=30,
    max_size=90,
)


@settings(max_examples=25, deadline=None)
@given(steps)
async def test_the_value_of_a_book_does_not_depend_on_when_it_was_put(
    made: list[tuple[int | str, float, int | str]],
) -> None:
    system = System(lateness_days=30)
    prices: dict[str, int] = {}
    final: dict[int, tuple[int, float]] = {}
    newest = 0
    for first, second, third in made:
        if isinstance(first, str):
            prices[str(third)] = int(second)
            await system.put(int(second), str(third))
        else:
            version = int(third)
            await system.add(first, second, version)
            newest = max(newest, first)
            if first >= newest - 30 and version > final.get(first, (0, 0.0))[0]:
                final[first] = version, second
    if not prices:
        return
    assert system.last is not None
    expected = sum(
        100 * prod(1 + value for day, (_, value) in final.items() if day > priced)
        for priced in prices.values()
    )
    assert system.last.stale_prices == []
    assert system.last.value == pytest.approx(expected, rel=1e-9)
