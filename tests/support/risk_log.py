"""Logs of returns, limits, acknowledgements and scenarios, and the processor of returns over them.

A log is drawn by hypothesis; its acknowledgements name alerts that are open by then.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

from hypothesis import strategies as st

from kafka_io.dead_letters import Message
from schemas.codec import encode
from schemas.events import (
    AlertAck,
    RebuildDone,
    Record,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    Scenario,
    Shock,
)
from schemas.topics import (
    PORTFOLIO_RETURNS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_LIMITS,
    RISK_REBUILDS,
    RISK_SCENARIOS,
    RISK_STATE,
    Topic,
)
from stream_processors.agents.risk import Risk
from stream_processors.messages import Admitted
from stream_processors.processor import Round, Rows
from stream_processors.risk.risk_batch import ORDERED
from stream_processors.settings import ProcessorSettings
from tests.support.messages import FakeMessage, admitted, message
from tests.support.processor_bench import NUMBER, Journal, ProcessorBench


class Scene(NamedTuple):
    """The settings of a log's processor, and the quiet days with which the log begins."""

    settings: ProcessorSettings
    days: int


def _settings(window: int) -> ProcessorSettings:
    return ProcessorSettings(
        risk_methods=("historical",),
        risk_observations_min=min(window, 100),
        risk_window=window,
        risk_lateness_s=300 * 86_400.0,
        var_limit=0.02,
        var_warn_ratio=0.8,
    )


SHORT = Scene(_settings(22), 25)
OLD = Scene(_settings(22), 280)
"""Returns may be older than all days that are kept."""
RED = Scene(_settings(100), 360)
"""One more exception at 99 %, and the model is red."""
DAY_US = 86_400_000_000
BEGIN_US = 1_700_000_000_000_000
"""The time at which the log begins."""
PORTFOLIOS: tuple[str, ...] = ("p", "q")
RANKS = {topic.name: rank for rank, topic in enumerate(ORDERED)}


class Step(NamedTuple):
    """What is written next."""

    kind: str
    after_ms: int
    """How long after the record before it."""
    portfolio: int
    size: float
    """Of a loss, a limit or a shock."""
    behind: int = 0
    """By how many days a return is late; 0 for a new day."""
    version: int = 1
    repeats: int = 1
    """How many measures raise or clear an alert, or how many returns are in a batch."""
    stale_s: float | None = None
    temporary: bool = False


STEPS = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(
            ["return", "return", "return", "repeat", "limits", "ack", "scenario", "nothing"]
        ),
        after_ms=st.sampled_from([0, 0, 0, 1, 1, 400, 2_000, 9_000]),
        portfolio=st.sampled_from([0, 0, 1]),
        size=st.sampled_from([-0.01, 0.0, 0.01, 0.019, 0.021, 0.026, 0.03, 0.05, float("nan")]),
        behind=st.sampled_from([0, 0, 0, 1, 2, 5, 23, 24, 280, 320]),
        version=st.sampled_from([1, 1, 2, 3]),
        repeats=st.sampled_from([1, 1, 2, 3]),
        stale_s=st.sampled_from([None, 1.0, 2.0, 9.0]),
        temporary=st.booleans(),
    ),
    max_size=40,
)


class _Writer:
    """Writes a log, and knows the alerts that are open by then."""

    def __init__(self) -> None:
        self.messages: list[FakeMessage] = []
        self.days: dict[str, int] = dict.fromkeys(PORTFOLIOS, 0)
        self.now_us = BEGIN_US
        self._offsets = dict.fromkeys(RANKS, 0)
        self._open: dict[str, str] = {}
        """The alert of each portfolio that was raised last."""

    async def write(self, bench: ProcessorBench, topic: Topic, record: Record) -> None:
        offset = self._offsets[topic.name]
        self._offsets[topic.name] += 1
        time_s = self.now_us / 1e6
        written = message(topic, record, offset, partition=NUMBER)._replace(timestamp=time_s)
        self.messages.append(written)
        # Of equal times this is not the final order; it matters only to which alerts are known.
        journal = await bench.run([written])
        for alert in journal.sent(RISK_ALERTS, RiskAlert):
            self._open[alert.entity_id] = alert.alert_id

    def record_of(self, step: Step) -> tuple[Topic, Record] | None:
        """Return what a step writes."""
        name = PORTFOLIOS[step.portfolio]
        if step.kind == "return":
            returns = [self._return(step, name) for _ in range(step.repeats)]
            return PORTFOLIO_RETURNS, ReturnBatch(returns=returns)
        if step.kind == "limits":
            return RISK_LIMITS, self._limits(step, name)
        if step.kind == "ack":
            alert_id = self._open.get(name, "9e0d63fd-5b2c-4f0c-8f6a-6d5f4a2b1c00")
            return RISK_ACKS, AlertAck(
                alert_id=alert_id, entity_id=name, by="ann", event_time_us=self.now_us
            )
        if step.kind == "scenario":
            return RISK_SCENARIOS, Scenario(
                name="crash",
                version=self._offsets[RISK_SCENARIOS.name] + 1,
                kind="hypothetical",
                shocks=[Shock(name, -10 * step.size)] if step.size == step.size else [],
                others="missing",
                withdrawn=step.version == 3,
                event_time_us=self.now_us,
            )
        return None

    def _return(self, step: Step, name: str) -> Return:
        day = self.days[name]
        if step.behind == 0:
            day = self.days[name] = day + 1
        at_us = (day - step.behind) * DAY_US
        return Return(name, at_us, -step.size, step.version)

    def _limits(self, step: Step, name: str) -> RiskLimits:
        size = max(step.size, 0.01) if step.size == step.size else 0.01
        limit = limit_of(step, size, self.now_us)
        return RiskLimits(
            portfolio_id=name,
            limits=[limit, RiskLimit("stress_loss:crash", 10 * size, warn_ratio=0.8)],
            stale_after_s=step.stale_s,
            event_time_us=self.now_us,
        )


def limit_of(step: Step, size: float, now_us: int) -> RiskLimit:
    """Return the limit of the VaR that a step sets, and perhaps a temporary one."""
    limit = RiskLimit(
        "var_95",
        size,
        warn_ratio=0.8,
        raise_after=step.repeats,
        clear_after=max(step.repeats - 1, 1),
    )
    if not step.temporary:
        return limit
    return limit._replace(
        temporary_limit=2 * size, valid_until_us=now_us + 2_000_000, approved_by="bob"
    )


def _quiet_return(day: int) -> float:
    """Return the return of a day; now and then it is a little worse than all before."""
    return -1e-5 * day if day > 120 and day % 25 == 10 else 0.001 * (-1) ** day  # a pattern


async def log_of(steps: Sequence[Step], scene: Scene) -> Sequence[FakeMessage]:
    """Return the log of quiet days of each portfolio, then of steps, in the order of the log."""
    writer, bench = _Writer(), ProcessorBench(Risk(scene.settings))
    for name in PORTFOLIOS:
        writer.days[name] = scene.days
        quiet = [Return(name, day * DAY_US, _quiet_return(day)) for day in range(1, scene.days + 1)]
        await writer.write(bench, PORTFOLIO_RETURNS, ReturnBatch(returns=quiet))
    for step in steps:
        writer.now_us += step.after_ms * 1_000
        if step.kind == "repeat":
            sent = [at for at in writer.messages if at.topic == PORTFOLIO_RETURNS.name]
            record = admitted(sent[-1 - step.portfolio]).record
            await writer.write(bench, PORTFOLIO_RETURNS, record)
        elif (written := writer.record_of(step)) is not None:
            await writer.write(bench, *written)
    return in_order(writer.messages)


def in_order(messages: Sequence[FakeMessage]) -> Sequence[FakeMessage]:
    """Return messages by their time in the log; of equal times, by their topics."""
    return sorted(messages, key=lambda at: (at.timestamp, RANKS[at.topic], at.offset))


class _OpenGate:
    """Admits every message."""

    def admit(self, message: Message) -> Admitted:
        return admitted(message)


async def take_over(
    live: ProcessorBench, rebuilt: Rows, unread: Sequence[FakeMessage], sent: Sequence[RiskAlert]
) -> Journal:
    """Let a processor continue from the rows of a rebuild; return what it wrote.

    Args:
        live: the processor.
        rebuilt: the rows.
        unread: the messages that the rebuild has not read.
        sent: the alerts that clients have had.
    """

    async def read_table(*_: object) -> dict[bytes, Record]:
        return dict(rebuilt[RISK_STATE.name])

    async def read_rows(topics: dict[str, Topic], *_: object) -> Rows:
        return dict.fromkeys(topics, rebuilt[RISK_STATE.name])

    async def read_uncommitted(topics: Sequence[Topic], *_: object) -> Sequence[FakeMessage]:
        names = {topic.name for topic in topics}
        return [received for received in unread if received.topic in names]

    async def read_partition(*_: object) -> Sequence[Record]:
        return sent

    return await take_over_by(
        live,
        read_table=read_table,
        read_rows=read_rows,
        read_uncommitted=read_uncommitted,
        read_partition=read_partition,
    )


async def take_over_by(live: ProcessorBench, **readers: Any) -> Journal:
    """Let a processor continue from a rebuild that some readers of Kafka return."""
    done = RebuildDone(version="v", partition=NUMBER, event_time_us=0)
    this_round = Round(NUMBER, "", _OpenGate())
    with patch.multiple("kafka_io.reader", **readers):
        request = FakeMessage(RISK_REBUILDS.name, NUMBER, 0, b"", encode(done))
        await live.processor.process([admitted(request)], this_round)
        await live.processor.finish(this_round)
    live.journal.entries.clear()
    live.journal.add(this_round)
    return live.journal
