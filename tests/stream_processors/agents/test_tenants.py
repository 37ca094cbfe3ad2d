"""Tenants apart in every processor: with the same names, each gets what it would get alone."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given, settings, strategies as st

from kafka_io.transactions import OutgoingRecord
from schemas.codec import decode
from schemas.events import (
    AlertAck,
    BacktestProgress,
    Book,
    DashboardUpdate,
    Event,
    Holding,
    JobStep,
    JobStepKind,
    Record,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    SeriesReturns,
    Trade,
    TradeBatch,
    TrainingProgress,
    WindowTally,
)
from schemas.headers import RECORDED, tenant_in
from schemas.instants import to_rfc3339
from schemas.keys import decode_key
from schemas.topics import CATALOGUE, RISK_STATE, Topic, topic_of
from stream_processors.agents.books import Books
from stream_processors.agents.candles import Candles
from stream_processors.agents.dashboard import EventTallies, WindowTotals
from stream_processors.agents.lifecycle import lifecycles
from stream_processors.agents.risk import Risk
from stream_processors.processor import Processor, Round, Rows
from stream_processors.settings import ProcessorSettings
from tests.support.messages import FakeMessage, admitted, message

TENANTS = (None, "acme", "blue")
NUMBER = 2
SETTINGS = ProcessorSettings(
    risk_methods=("historical",), risk_draws=100, var_limit=0.01, risk_observations_min=20
)
TOPICS = {topic.name: topic for topic in CATALOGUE}


class Kind(NamedTuple):
    """A processor, and one of its inputs for a number that is drawn."""

    make: Callable[[], Processor]
    event: Callable[[int], Event]


def _returns(at: int) -> Event:
    match at % 5:
        case 0:
            limits = [RiskLimit("var_95", 0.002 * (1 + at % 9))]
            return RiskLimits(portfolio_id="p", limits=limits, event_time_us=0)
        case 1:
            return AlertAck(alert_id="a", entity_id="p", event_time_us=0)
        case _:
            times = range(30 * at, 30 * at + 30)
            values = [Return("p", time, 0.001 * (at % 7) * (-1) ** time) for time in times]
            return ReturnBatch(returns=values)


def _books(at: int) -> Event:
    if at % 3:
        values = [Return("IBM", time, 0.01 * (-1) ** time) for time in range(40 * at, 40 * at + 40)]
        return SeriesReturns(root="firm", returns=values)
    holdings = [Holding("IBM", 1.0 + at, 10.0, 1 << 50)]
    is_closed = at % 4 == 0
    return Book(root="firm", book_id="desk", holdings=holdings, closed=is_closed, event_time_us=0)


def _trades(at: int) -> Event:
    trade = Trade(time_us=at * 20_000_000, price=10.0 + at, amount=1.0)
    return TradeBatch(symbol="S", first=at, trades=[trade], watermark_us=at * 20_000_000)


def _progress(at: int) -> Event:
    return TrainingProgress(
        task_id="t",
        progress=float(at),
        status=("started", "running", "completed")[at % 3],
        message="",
        metrics={},
        event_time_us=at,
    )


def _job(at: int) -> Event:
    kind = (JobStepKind.SUBMITTED, JobStepKind.PROGRESS, JobStepKind.REMOVED)[at % 3]
    return BacktestProgress(
        backtest_id="j",
        progress=float(at),
        status="running",
        message="",
        results={},
        event_time_us=at,
        job=JobStep(kind=kind, attempt=0, symbol="S", strategy="s", owner="u"),
    )


def _tally(at: int) -> Event:
    return WindowTally(
        window_start_us=at * 1_000_000,
        window_us=1_000_000,
        counts={"returns": 1 + at},
        source_topic="portfolio.returns",
        source_partition=0,
        first_offset=at,
        last_offset=at,
        newest_us=at * 1_000_000,
    )


KINDS = {
    "risk": Kind(lambda: Risk(SETTINGS), _returns),
    "books": Kind(lambda: Books(SETTINGS), _books),
    "candles": Kind(Candles, _trades),
    "tasks": Kind(lambda: lifecycles()[0], _progress),
    "jobs": Kind(lambda: lifecycles()[1], _job),
    "tallies": Kind(lambda: EventTallies(SETTINGS), _progress),
    "boards": Kind(lambda: WindowTotals(SETTINGS), _tally),
}


class Turn(NamedTuple):
    """A message of a tenant."""

    tenant: str | None
    at: int


class Turns(NamedTuple):
    """The messages of a round, and whether the worker restarts after it."""

    turns: Sequence[Turn]
    restarts: bool = False

    def of(self, tenant: str | None) -> "Turns":
        """Return the round without the messages of others."""
        return self._replace(turns=[turn for turn in self.turns if turn.tenant == tenant])


rounds = st.lists(
    st.builds(
        Turns,
        st.lists(
            st.builds(Turn, st.sampled_from(TENANTS), st.integers(0, 11)), min_size=1, max_size=4
        ),
        st.booleans(),
    ),
    max_size=6,
)


class System:
    """A worker with one processor, and what it wrote."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._rows: dict[tuple[str, bytes], Record] = {}
        self.written: list[OutgoingRecord] = []
        self.restart()

    def restart(self) -> None:
        """Continue from the rows."""
        self._processor = self._kind.make()
        rows: Rows = {
            topic.name: {key: row for (name, key), row in self._rows.items() if name == topic.name}
            for topic in self._processor.states
        }
        self._processor.recover(NUMBER, rows, {topic.name: 1 << 40 for topic in TOPICS.values()})

    async def play(self, turns: Turns, offset: int) -> None:
        """Process the messages of a round, and restart if it says so."""
        this_round = Round(NUMBER, "")
        with patch("stream_processors.agents.dashboard.now_us", lambda: 0):
            await self._take(turns.turns, offset, this_round)
        self.written += this_round.records
        for record in this_round.records:
            if record.partition == NUMBER:  # a row
                assert record.key is not None
                self._rows.pop((record.topic, record.key), None)
                if record.value is not None:
                    self._rows[record.topic, record.key] = decode(record.value)
        if turns.restarts:
            self.restart()

    async def _take(self, turns: Sequence[Turn], offset: int, this_round: Round) -> None:
        # The offsets of a tenant's messages do not depend on those of others.
        before: Counter[str | None] = Counter()
        messages = []
        for turn in turns:
            message = _message(self._kind, turn, offset + before[turn.tenant])
            messages.append(admitted(message))
            before[turn.tenant] += 1
        await self._processor.process(messages, this_round)
        await self._processor.finish(this_round)


def _message(kind: Kind, turn: Turn, offset: int) -> FakeMessage:
    event, tenant = kind.event(turn.at), turn.tenant
    if isinstance(event, WindowTally) and tenant is not None:
        event = _of_board(event, tenant)
    topic: Topic = topic_of(event)
    found = message(topic, event, offset, partition=NUMBER, tenant=tenant or "")
    headers = [*(found.headers or ()), (RECORDED, to_rfc3339(turn.at * 1_000_000).encode())]
    return found._replace(headers=headers)


def _of_board(tally: WindowTally, tenant: str) -> WindowTally:
    return WindowTally(**{name: getattr(tally, name) for name in _TALLY_FIELDS}, tenant=tenant)


_TALLY_FIELDS = [name for name in WindowTally.__dataclass_fields__ if name != "tenant"]


def tenant_of(record: OutgoingRecord) -> str | None:
    """Return the tenant of a record; its key and its header name the same one."""
    named = decode_key(record.key or b"").tenant
    if record.headers:
        assert tenant_in(record.headers) == named
    return named


def shown(records: Sequence[OutgoingRecord], tenant: str | None) -> list[object]:
    """Return what a tenant gets: topics, ids and values, without the name of the tenant."""
    found: list[object] = []
    for record in records:
        if tenant_of(record) != tenant:
            continue
        value = None if record.value is None else decode(record.value)
        fields = {
            name: getattr(value, name)
            for name in getattr(value, "__dataclass_fields__", ())
            if name not in ("tenant", "board", "wanted_by")
        }
        entity_id = decode_key(record.key or b"").entity_id
        found.append((record.topic, "" if entity_id == tenant else entity_id, fields))
    return found


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=15)
@given(drawn=rounds)
async def test_each_tenant_gets_what_a_system_of_its_own_would_give(
    name: str, drawn: list[Turns]
) -> None:
    together = System(KINDS[name])
    for number, turns in enumerate(drawn):
        await together.play(turns, 100 * number)
    for tenant in TENANTS:
        alone = System(KINDS[name])
        for number, turns in enumerate(drawn):
            await alone.play(turns.of(tenant), 100 * number)
        assert shown(together.written, tenant) == shown(alone.written, tenant)


async def test_the_turns_make_alerts_measures_candles_and_windows() -> None:
    """Else the property would hold of nothing."""
    found: set[type[Record]] = set()
    for kind in KINDS.values():
        system = System(kind)
        for offset in range(40):
            await system.play(Turns([Turn("acme", offset)]), offset)
        assert {tenant_of(record) for record in system.written} == {"acme"}
        found |= {type(decode(record.value)) for record in system.written if record.value}
    assert {RiskAlert, DashboardUpdate} <= found
    assert RISK_STATE.record in found
