"""Measures, alerts and ids of books are those of one pass over the log.

This holds with holdings, returns, limits, acknowledgements, scenarios and times at which something
is due, whatever the batches, pauses, restarts and rebuilds.
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import given, settings, strategies as st

from schemas.events import (
    AlertAck,
    Book,
    Holding,
    ProcessorPositions,
    Record,
    Return,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    Scenario,
    SeriesReturns,
    Shock,
    TopicPosition,
)
from schemas.topics import (
    PROCESSOR_POSITIONS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_LIMITS,
    RISK_OPEN,
    RISK_REBUILDS,
    RISK_SCENARIOS,
    RISK_SERIES,
    Topic,
)
from stream_processors.agents.books import ORDERED, Books, series_row
from stream_processors.kafka_adapter import BOOKS_GROUP, positions_key
from stream_processors.processor import Processor, Rows
from stream_processors.settings import ProcessorSettings
from tests.support.live_worker import Live, straight
from tests.support.messages import FakeMessage, message
from tests.support.processor_bench import NUMBER, Journal, ProcessorBench
from tests.support.risk_log import BEGIN_US, DAY_US, Step, limit_of, take_over_by

RANKS = {topic.name: rank for rank, topic in enumerate(ORDERED)}
BOOKS = ("desk", "firm")
TABLES = (RISK_BOOK_RISKS, RISK_BOOK_STATE, RISK_OPEN)


STEPS = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(["return"] * 4 + ["limits", "ack", "scenario", "book", "nothing"]),
        after_ms=st.sampled_from([0, 0, 0, 1, 1, 400, 2_000, 9_000]),
        portfolio=st.sampled_from([0, 0, 1]),
        size=st.sampled_from([-0.01, 0.0, 0.01, 0.02, 0.03, 0.05]),
        behind=st.sampled_from([0, 0, 0, 1, 2, 5, 23]),
        version=st.sampled_from([1, 1, 2, 3]),
        repeats=st.sampled_from([1, 1, 2, 3]),
        stale_s=st.sampled_from([None, 1.0, 2.0, 9.0]),
        temporary=st.booleans(),
    ),
    max_size=30,
)


def processor(rebuild_version: str = "", var_window: int = 22) -> Processor:
    return Books(
        ProcessorSettings(
            rebuild_version=rebuild_version,
            risk_methods=("historical",),
            risk_observations_min=20,
            risk_window=var_window,
            risk_draws=100,
            risk_slower_every=3,
        )
    )


class Writer:
    """Writes a log, and knows the alerts that are open by then."""

    def __init__(self) -> None:
        self.messages: list[FakeMessage] = []
        self.now_us = BEGIN_US
        self._bench = ProcessorBench(processor())
        self._day = 25
        self._offsets = dict.fromkeys(RANKS, 0)
        self._open: dict[str, str] = {}
        """The alert of each book that was raised last."""

    async def begin(self) -> None:
        """Write two books, and the returns of quiet days."""
        for name in BOOKS:
            await self.write(RISK_BOOKS, self._book(name, 100.0))
        quiet = [Return("IBM", day * DAY_US, 0.001 * (-1) ** day) for day in range(1, 26)]
        await self.write(RISK_SERIES, SeriesReturns(root="firm", returns=quiet))

    async def write(self, topic: Topic, record: Record) -> None:
        offset = self._offsets[topic.name]
        self._offsets[topic.name] += 1
        written = message(topic, record, offset, partition=NUMBER)
        written = written._replace(timestamp=self.now_us / 1e6)
        self.messages.append(written)
        # Of equal times this is not the final order; it matters only to which alerts are known.
        journal = await self._bench.run([written])
        for alert in journal.sent(RISK_ALERTS, RiskAlert):
            self._open[alert.entity_id] = alert.alert_id

    async def step(self, step: Step) -> None:
        self.now_us += step.after_ms * 1_000
        name = BOOKS[step.portfolio]
        match step.kind:
            case "return":
                await self.write(RISK_SERIES, self._returns(step))
            case "limits":
                await self.write(RISK_LIMITS, self._limits(step, f"firm/{name}"))
            case "book":
                await self.write(
                    RISK_BOOKS, self._book(name, 2_000 * step.size, closed=step.version == 3)
                )
            case "ack":
                path = f"firm/{name}"
                alert_id = self._open.get(path, "9e0d63fd-5b2c-4f0c-8f6a-6d5f4a2b1c00")
                await self.write(
                    RISK_ACKS,
                    AlertAck(
                        alert_id=alert_id,
                        entity_id=path,
                        entity_type="book",
                        by="ann",
                        event_time_us=self.now_us,
                    ),
                )
            case "scenario":
                await self.write(RISK_SCENARIOS, self._scenario(step))
            case _:
                return

    def _book(self, name: str, quantity: float, *, closed: bool = False) -> Book:
        holdings = () if closed else (Holding("IBM", quantity, 10.0, 30 * DAY_US),)
        time_us = self.now_us
        return Book(
            root="firm", book_id=name, holdings=holdings, closed=closed, event_time_us=time_us
        )

    def _returns(self, step: Step) -> SeriesReturns:
        found = []
        for _ in range(step.repeats):
            if step.behind == 0:
                self._day += 1
            at_us = (self._day - step.behind) * DAY_US
            found.append(Return("IBM", at_us, -step.size, step.version))
        return SeriesReturns(root="firm", returns=found)

    def _limits(self, step: Step, path: str) -> RiskLimits:
        size = max(step.size, 0.01)
        limit = limit_of(step, size, self.now_us)
        stressed = RiskLimit("stress_loss_amount:crash", 10_000 * size, 0.1, 0.5, 1.5)
        return RiskLimits(
            portfolio_id=path,
            entity_type="book",
            limits=[limit, stressed],
            stale_after_s=step.stale_s,
            event_time_us=self.now_us,
        )

    def _scenario(self, step: Step) -> Scenario:
        return Scenario(
            name="crash",
            version=self._offsets[RISK_SCENARIOS.name] + 1,
            kind="hypothetical",
            shocks=[Shock("IBM", -10 * step.size)],
            others="missing",
            withdrawn=step.version == 3,
            event_time_us=self.now_us,
        )


class LiveBooks(Live):
    """A worker that continues from rebuilds, too."""

    async def rebuild(self) -> None:
        """Continue from a rebuild of a part of what is processed."""
        await self.commit()
        read = self.dice.randint(0, len(self.processed))
        processed: Any = self.processed
        rebuilt = ProcessorBench(processor(rebuild_version="v"))
        for received in processed[:read]:
            await rebuilt.run([received])
        journal = await take_over(self.bench, rebuilt.rows(), processed, read, self.alerts)
        assert journal.sent(RISK_ALERTS, RiskAlert) == []


async def take_over(
    live: ProcessorBench,
    rows: Rows,
    processed: Sequence[FakeMessage],
    read: int,
    sent: Sequence[RiskAlert],
) -> Journal:
    """Let a processor continue from the rows of a rebuild; return what it wrote.

    Args:
        live: the processor.
        rows: the rows.
        processed: the messages that the processor has read.
        read: how many of them the rebuild has read.
        sent: the alerts that clients have had.
    """

    async def read_rows(topics: dict[str, Topic], *_: object) -> Rows:
        if PROCESSOR_POSITIONS not in topics.values():
            return dict.fromkeys(topics, rows[RISK_BOOK_STATE.name])
        offsets = dict.fromkeys(RANKS, 0)
        offsets |= {of.topic: of.offset + 1 for of in processed[:read]}
        positions = [TopicPosition(name, "", -1, offset) for name, offset in offsets.items()]
        row = ProcessorPositions(partition=NUMBER, epoch=0, positions=positions, event_time_us=0)
        return {name: {positions_key(BOOKS_GROUP, NUMBER): row} for name in topics}

    async def read_between(
        topic: str, number: int, offsets: range, _: object
    ) -> Sequence[FakeMessage]:
        assert number == NUMBER
        return [of for of in processed if of.topic == topic and of.offset in offsets]

    async def read_partition(*_: object) -> Sequence[Record]:
        return sent

    return await take_over_by(
        live, read_rows=read_rows, read_between=read_between, read_partition=read_partition
    )


async def log_of(steps: Sequence[Step]) -> Sequence[FakeMessage]:
    """Return the log of quiet days, then of steps, in the order of the log."""
    writer = Writer()
    await writer.begin()
    for step in steps:
        await writer.step(step)
    return sorted(writer.messages, key=lambda at: (at.timestamp, RANKS[at.topic], at.offset))


def by_book(alerts: Sequence[RiskAlert]) -> dict[str, Sequence[RiskAlert]]:
    return {
        path: [at for at in alerts if at.entity_id == path] for path in ("firm/desk", "firm/firm")
    }


@given(steps=STEPS, seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_books_are_as_in_one_pass(steps: list[Step], seed: int) -> None:
    asyncio.run(check(steps, seed))


async def check(steps: list[Step], seed: int) -> None:
    log = await log_of(steps)
    expected, alerts = await straight(log, processor())
    assert len({alert.transition_id for alert in alerts}) == len(alerts)
    live = LiveBooks(log, processor, ORDERED, Random(seed))
    await live.run()
    assert by_book(live.alerts) == by_book(alerts)
    for topic in TABLES:
        assert live.bench.journal.table(topic) == expected.journal.table(topic)


def test_books_go_on_from_a_past_under_other_settings() -> None:
    """A longer window still has the losses that the present one has lost."""
    asyncio.run(check_other_settings())


async def check_other_settings() -> None:
    losses = [Step("return", 9_000, 0, 0.05, repeats=3)]
    calm = [Step("return", 1, 0, 0.0, repeats=3)] * 9
    limited = Step("limits", 1, 0, 0.02)
    log = await log_of([*losses, *calm, limited])
    live, alerts = await straight(log, processor())
    assert alerts == []
    before = live.journal.table(RISK_BOOK_RISKS)
    rebuilt, expected = await straight(log, processor("v", 44))
    live.processor = processor(var_window=44)
    limits = dict.fromkeys(RANKS, 0)
    limits |= {at.topic: at.offset + 1 for at in log}
    live.processor.recover(NUMBER, live.rows(), limits | {RISK_REBUILDS.name: 0})
    journal = await take_over(live, rebuilt.rows(), log, len(log), alerts)
    [raised] = journal.sent(RISK_ALERTS, RiskAlert)
    assert raised.state == "raised"
    assert raised.alert_id == expected[0].alert_id
    for path, risk in journal.table(RISK_BOOK_RISKS).items():
        anew = rebuilt.journal.table(RISK_BOOK_RISKS)[path]
        assert (risk.event_id, risk.supersedes) == (anew.event_id, before[path].event_id)
        assert risk.observations == 44
    live_rows, rows = (of.rows()[RISK_BOOK_STATE.name] for of in (live, rebuilt))
    series = series_row("firm", "IBM", None)
    assert live_rows[series] == rows[series]


def any_step(dice: Random) -> Step:
    return Step(
        kind=dice.choice(["return"] * 5 + ["limits", "ack", "scenario", "book"]),
        after_ms=dice.choice([0, 1, 400, 2_000, 9_000]),
        portfolio=dice.choice([0, 0, 1]),
        size=dice.choice([0.0, 0.01, 0.02, 0.03, 0.05]),
        behind=dice.choice([0, 0, 1, 5, 23]),
        version=dice.choice([1, 2, 3]),
        repeats=dice.choice([1, 2]),
        stale_s=dice.choice([None, 1.0, 2.0]),
        temporary=dice.random() < 0.5,  # a coin
    )


def test_the_logs_have_what_the_property_is_about() -> None:
    """Else it would hold of nothing."""
    dice = Random(3)
    found = set[tuple[str | None, str]]()
    for _ in range(20):
        log: Any = asyncio.run(log_of([any_step(dice) for _ in range(40)]))
        _, alerts = asyncio.run(straight(log, processor()))
        found |= {(alert.rule_id, alert.state) for alert in alerts}
    for rule_id in ("var_95", "stress_loss_amount:crash"):
        states = {state for of, state in found if of == rule_id}
        assert states >= {"raised", "escalated", "deescalated", "acknowledged", "cleared"}, rule_id
    assert found >= {("stale", "stale"), ("stale", "stale_cleared")}
