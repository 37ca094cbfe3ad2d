"""The processor that measures portfolios: returns in, measures and alerts out.

Limits, acknowledgements and requests of books arrive beside the returns. Once a second it looks for
portfolios whose measures are stale, and sends the dashboard's gauges. When a rebuild of a partition
is done, it continues from the rebuilt states.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from kafka_io import reader
from kafka_io.clock import now_us
from kafka_io.dead_letters import log_time_us
from kafka_io.errors import Unread
from kafka_io.reader import OpenPast
from kafka_io.settings import ProducerSettings
from schemas.erasures import Erasures
from schemas.events import (
    InputGap,
    PortfolioState,
    RebuildDone,
    Record,
    ReturnBatch,
    Scenario,
)
from schemas.gate import admit_or_none
from schemas.headers import tenant_in
from schemas.keys import encode_key, scenario_key
from schemas.topics import (
    PORTFOLIO_RETURNS,
    RISK_ACKS,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_REBUILDS,
    RISK_SCENARIOS,
    RISK_STATE,
    RISK_WANTED,
)
from stream_processors.messages import Admitted, tenant_of
from stream_processors.processor import Processor, Round, Rows, restored, total_alerts
from stream_processors.risk.past_returns import PastReturns
from stream_processors.risk.portfolio import PortfolioRisk
from stream_processors.risk.risk_batch import ORDERED, RiskBatch, gauges_of
from stream_processors.risk.scope import Scope, narrowed
from stream_processors.sent_alerts import read_sent
from stream_processors.settings import ProcessorSettings
from stream_processors.stress import Scenarios

logger = logging.getLogger(__name__)

JUDGED = (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS, RISK_WANTED, RISK_SCENARIOS)
"""The topics from which measures and alerts follow."""

_TICK_S = 1.0
_HISTORY_EVERY_US = 10_000_000
"""How often the history of a portfolio is written, if its measure changes all the time."""
_HISTORIES_MAX = 100
"""The most histories that are written at a tick; each has some 6 KB."""
_CLOCK_MS = 3_600_000
"""How far the clocks of brokers may differ, which date the records."""
_WHOLE_RECORD = (1 << 31) - 1
"""An index in a record that is after all of its returns."""


@dataclass(slots=True)
class _Partition:
    """The portfolios of one partition number, and the round that is under way."""

    portfolios: dict[bytes, PortfolioRisk]
    """By key."""
    batch: RiskBatch
    scenarios: Scenarios
    """The stress scenarios in force."""
    scenarios_offset: int
    """The offset of the last message about a scenario that was read."""
    read_us: int = 0
    """The time in the log of the last ordered message that was read: all before it were."""
    rebuilds: list[RebuildDone] = field(default_factory=list)
    has_changed: bool = True
    """Whether the gauges may have changed since they were sent."""
    due_histories: dict[bytes, None] = field(default_factory=dict)
    """The keys of portfolios whose history has changed since it was written, in order."""
    history_times_us: dict[bytes, int] = field(default_factory=dict)
    """When the history of each portfolio was written last, by its key."""
    open_alerts: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """The open alerts by severity and acknowledgement, as of the last tick."""


class Risk(Processor):
    """Measures portfolios, and judges them by their limits."""

    def __init__(self, settings: ProcessorSettings, open_past: OpenPast = reader.open_past) -> None:
        """Read returns; a worker that rebuilds does not take over rebuilds.

        Args:
            settings: how portfolios are measured and judged.
            open_past: reads records of the log again.
        """
        super().__init__(
            "measure_returns",
            JUDGED if settings.rebuild_version else (*JUDGED, RISK_REBUILDS),
            (RISK_STATE,),
            linger_s=settings.batch_within_s,
            tick_s=_TICK_S,
            merged=ORDERED,
        )
        self._settings = settings
        self._config = settings.risk_config()
        self._returns_topic = settings.topic_prefix + PORTFOLIO_RETURNS.name
        self._ordered = {settings.topic_prefix + topic.name for topic in ORDERED}
        self._window_us = settings.dashboard_windows_us()[0]
        self._scope = None
        """The portfolios of a rebuild; None for all."""
        if settings.rebuild_version:
            self._scope = Scope(settings.rebuild_tenant, settings.rebuild_portfolio)
        self._erased = Erasures.parse(settings.rebuild_erased)
        self._partitions: dict[int, _Partition] = {}
        self._open_past = open_past

    def open_alerts(self) -> Mapping[tuple[str, bool], int]:
        """Return the number of open alerts of portfolios."""
        return total_alerts(here.open_alerts for here in list(self._partitions.values()))

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Replace the portfolios of a partition number."""
        scenarios = Scenarios.of_rows(rows[RISK_STATE.name].values())

        def restore(state: Record) -> tuple[bytes, PortfolioRisk] | None:
            if not isinstance(state, PortfolioState):
                return None
            risk = self._unpacked(_within(state, number, row_limits), scenarios)
            return risk.key, risk

        portfolios = restored(RISK_STATE, rows[RISK_STATE.name], restore)
        batch = self._batch(portfolios, scenarios)
        last = row_limits[RISK_SCENARIOS.name] - 1
        here = self._partitions[number] = _Partition(portfolios, batch, scenarios, last)
        here.due_histories.update(dict.fromkeys(portfolios))  # the last may not have been written

    def forget(self, number: int) -> None:
        """Drop the portfolios of a partition number."""
        self._partitions.pop(number, None)

    def report_gap(self, gap: InputGap, this_round: Round) -> None:
        """Tell the readers of measures that returns are missing."""
        if gap.topic == PORTFOLIO_RETURNS.name:
            this_round.send_gap(gap, RISK_MEASURES)

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        """Measure and judge the messages; an alert ends the round."""
        here = self._partitions[this_round.number]
        is_whole = self._scope is None and not self._erased
        for is_returns, alike in groupby(messages, _has_returns):
            if is_returns and is_whole:  # as nearly all are
                returns = list(alike)
                here.read_us = log_time_us(returns[-1])
                here.batch.apply_returns(returns)
            else:
                await self._apply_each(alike, here)
        this_round.must_end |= bool(here.batch.alerts)

    async def _apply_each(self, messages: Iterable[Admitted], here: _Partition) -> None:
        for message in messages:
            if isinstance(message.record, Scenario):
                here.scenarios_offset = message.offset
            if message.topic in self._ordered:
                here.read_us = log_time_us(message)
            if self._erased.covers(tenant_of(message), log_time_us(message)):
                continue
            if isinstance(message.record, RebuildDone):
                here.rebuilds.append(message.record)
            elif self._scope is None:
                here.batch.apply(message, await self._past_of(message, here))
            elif (part := narrowed(message, self._scope.covers)) is not None:
                here.batch.apply(part)

    def needs_tick(self, number: int, now_us: int) -> bool:
        """Return whether gauges or histories may have changed, or something may be due."""
        here = self._partitions[number]
        return (
            here.has_changed
            or bool(here.due_histories)
            or self.needs_time(number, max(now_us, here.read_us))
        )

    def needs_time(self, number: int, now_us: int) -> bool:
        """Return whether an alert or the end of a temporary limit may be due."""
        here = self._partitions.get(number)
        return here is not None and any(risk.due_us <= now_us for risk in here.portfolios.values())

    async def _past_of(self, message: Admitted, here: _Partition) -> PastReturns | None:
        """Return the returns that a request of books needs, and the portfolio's window lacks.

        Returns that cannot be read are as if the log did not have them: the books say so.
        """
        found = here.batch.missing_from(message)
        if found is None or self._settings.rebuild_version:
            return None
        risk, since_us = found
        past = PastReturns(
            risk.portfolio_id,
            since_us,
            lap=risk.lap,
            lateness_us=self._config.lateness_us,
            ahead_us=self._config.ahead_us,
        )
        since_ms = max(int((since_us - self._config.ahead_us) / 1_000) - _CLOCK_MS, 0)
        settings = self._reader_settings(self._settings.topic_prefix)
        last = risk.position.offset
        try:
            async with self._open_past(PORTFOLIO_RETURNS, risk.key, since_ms, settings) as records:
                past.is_whole = records.is_whole
                async for record in records.read:
                    is_later = record.partition == risk.source.partition and record.offset > last
                    batch = None if is_later else admit_or_none(ReturnBatch, record.value)
                    if batch is not None and tenant_in(record.headers) == risk.tenant:
                        past.add(batch, log_time_us(record))
        except (Unread, TimeoutError) as error:
            logger.warning("the returns of %s were not read again: %r", risk.portfolio_id, error)
            past.is_whole = False
        return past

    async def tick(self, this_round: Round) -> None:
        """Do what is due by the log's time, and send the gauges that may have changed.

        Nothing is judged before a message that the log got earlier, so that a rebuild, which has
        all messages and no ticks, finds the same.
        """
        here = self._partitions[this_round.number]
        here.batch.tick(max(here.read_us, this_round.read_until_us or 0))
        this_round.must_end |= bool(here.batch.alerts)
        if here.has_changed:
            here.has_changed = False
            here.open_alerts = Counter(
                kind for risk in here.portfolios.values() for kind in risk.open_alerts()
            )
            for gauges in gauges_of(here.portfolios.values(), {this_round.number}):
                this_round.send(gauges, gauges.tenant)

        self._send_histories(here, this_round)

    def _send_histories(self, here: _Partition, this_round: Round) -> None:
        """Send the histories that have changed and whose time has come."""
        time_us, times_us = now_us(), here.history_times_us
        before_us = time_us - _HISTORY_EVERY_US
        due = [key for key in here.due_histories if times_us.get(key, 0) <= before_us]
        for key in due[:_HISTORIES_MAX]:
            del here.due_histories[key]
            times_us[key] = time_us
            risk = here.portfolios.get(key)
            event = None if risk is None else risk.history_event()
            if risk is not None and event is not None:
                this_round.send(event, risk.tenant)

    async def finish(self, this_round: Round) -> None:
        """Send what follows from the round's messages, and write the portfolios that changed."""
        here = self._partitions[this_round.number]
        batch, here.batch = here.batch, self._batch(here.portfolios, here.scenarios)
        self._publish(here, batch, this_round)
        rebuilds, here.rebuilds = here.rebuilds, []
        for done in rebuilds:
            await self._take_over(here, done, this_round)

    def _publish(self, here: _Partition, batch: RiskBatch, this_round: Round) -> None:
        this_round.send_all(batch.events())
        this_round.delete(RISK_OPEN, batch.closed_alerts())
        for key, risk in batch.changed.items():
            this_round.put(RISK_STATE, key, risk.pack())
        for (tenant, name), scenario in batch.changed_scenarios.items():
            row = None if scenario.withdrawn else replace(scenario, tenant=tenant)
            this_round.put(RISK_STATE, scenario_key(name, tenant), row)
        here.has_changed |= bool(batch.changed)
        here.due_histories.update(dict.fromkeys(batch.changed))

    async def _take_over(self, here: _Partition, done: RebuildDone, this_round: Round) -> None:
        """Continue from a rebuilt partition.

        The rebuild may be of some portfolios only, and others are newer: those that it does not
        have stay as they are. The rebuilt states may be older than the present ones. So the records
        that the present portfolios have read, and the rebuild has not, are applied to the rebuilt
        portfolios.
        """
        source = self._reader_settings(self._settings.topic_prefix)
        prefix = self._settings.written_prefix(done.version)
        anew = self._reader_settings(prefix)
        # The worker of the rebuild may still go on. A record that is both among the unread ones and
        # in the rows, which are read later, is passed over; one in neither would be lost.
        group = f"{prefix}tapewire"
        unread = await reader.read_uncommitted(ORDERED, done.partition, group, source)
        states = await reader.read_table(RISK_STATE, anew)
        name = prefix + RISK_STATE.name
        rows = (await reader.read_rows({name: RISK_STATE}, done.partition, anew))[name]
        scenarios = Scenarios.of_rows(rows.values())
        last_offsets = self._last_offsets(here)

        def restore(state: Record) -> tuple[bytes, PortfolioRisk] | None:
            if not isinstance(state, PortfolioState) or state.partition != done.partition:
                return None
            risk = self._unpacked(state, scenarios)
            return risk.key, risk

        portfolios = restored(RISK_STATE, states, restore)
        batch = self._batch(portfolios, scenarios)
        assert this_round.gate is not None
        for record in unread:
            if record.offset <= last_offsets[record.topic]:
                message = this_round.gate.admit(record)
                if not isinstance(message, Admitted):  # its dead letter was sent before
                    continue
                # Portfolios that the rebuild does not have stay as they are.
                part = narrowed(message, lambda *of: encode_key(*of) in portfolios)
                if part is not None:
                    batch.apply(part)
        sent = await read_sent(batch.unknown_alerts(here.portfolios), source)
        batch.take_over(here.portfolios, sent, done.version)
        self._publish(here, batch, this_round)
        here.portfolios.update(portfolios)
        here.batch = self._batch(here.portfolios, here.scenarios)
        logger.info(
            "took over %d portfolios of partition %d from rebuild %s",
            *(len(portfolios), done.partition, done.version),
        )

    def _last_offsets(self, here: _Partition) -> dict[str, int]:
        """Return the last offset of each ordered topic that a partition's portfolios have read."""
        risks = here.portfolios.values()
        offsets = (
            (PORTFOLIO_RETURNS, [risk.position.offset for risk in risks]),
            (RISK_LIMITS, [risk.limits_offset for risk in risks]),
            (RISK_ACKS, [risk.acks_offset for risk in risks]),
        )
        prefix = self._settings.topic_prefix
        last = {prefix + topic.name: max(read, default=-1) for topic, read in offsets}
        return last | {prefix + RISK_SCENARIOS.name: here.scenarios_offset}

    def _unpacked(self, state: PortfolioState, scenarios: Scenarios) -> PortfolioRisk:
        risk = PortfolioRisk.unpack(state, self._config, self._returns_topic)
        risk.set_stress(scenarios.tests_of(risk.tenant))
        return risk

    def _reader_settings(self, prefix: str) -> ProducerSettings:
        return ProducerSettings(
            bootstrap_servers=self._settings.bootstrap_servers, topic_prefix=prefix
        )

    def _batch(self, portfolios: dict[bytes, PortfolioRisk], scenarios: Scenarios) -> RiskBatch:
        return RiskBatch(portfolios, self._config, self._returns_topic, self._window_us, scenarios)


def _has_returns(message: Admitted) -> bool:
    return isinstance(message.record, ReturnBatch)


def _within(state: PortfolioState, number: int, row_limits: Mapping[str, int]) -> PortfolioState:
    """Return a state whose offsets are before the next ones, also after a log lost its end."""
    state = replace(
        state,
        partition=number,  # the schema's first version did not say
        limits_offset=min(state.limits_offset, row_limits[RISK_LIMITS.name] - 1),
        acks_offset=min(state.acks_offset, row_limits[RISK_ACKS.name] - 1),
    )
    last = row_limits[PORTFOLIO_RETURNS.name] - 1
    return state if state.offset <= last else replace(state, offset=last, index=_WHOLE_RECORD)
