"""What follows from one take of records: alerts, measures, counts, and dead letters.

A round lies between Kafka's messages and the portfolios, and sends nothing itself.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from math import isfinite

from schemas.events import (
    AlertAck,
    DeadLetter,
    Event,
    OpenAlert,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskLimits,
    SeriesReturns,
    SeriesWanted,
    WindowTally,
)
from schemas.instants import EARLIEST_US, LATEST_US
from schemas.topics import RISK_STATE
from stream_processors.messages import (
    Message,
    TopicPartition,
    dead_letter,
    decode_message,
    log_time_us,
    recorded_us,
    tenant_of,
)
from stream_processors.risk.alerts import Source
from stream_processors.risk.measures import Outcome
from stream_processors.risk.portfolio import PortfolioRisk, Position, RiskConfig
from stream_processors.risk.thresholds import InvalidRule
from stream_processors.windowing.tallies import WindowCounter, gauge_tally

_ACCEPTED = Outcome.ACCEPTED
_REFUSED = (Outcome.REJECTED, Outcome.FUTURE)
_PASSED_ON = (_ACCEPTED, Outcome.CORRECTED)
_SERIES_RETURNS_MAX = 5_000
"""In one record: some 200 KB."""


class Round:
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
        self._tallying = WindowCounter(window_us)
        self._measured: Counter[tuple[int, str | None]] = Counter()
        """How many measures were said, by partition and tenant."""
        self.changed: dict[str, PortfolioRisk] = {}
        self.alerts: list[tuple[RiskAlert, str | None]] = []
        """Each with the tenant whose it is."""
        self.dead: list[DeadLetter] = []
        self._series: defaultdict[tuple[str, str], list[Return]] = defaultdict(list)
        """What trees of books need, by root and tenant."""

    def take(self, message: Message) -> None:
        """Apply one record: returns, limits, an acknowledgement, or that books want returns."""
        record: ReturnBatch | RiskLimits | AlertAck | SeriesWanted | DeadLetter
        record = decode_message(message, ReturnBatch, RiskLimits, AlertAck, SeriesWanted)
        match record:
            case ReturnBatch():
                self._take_returns(message, record.returns)
            case RiskLimits():
                self._take_limits(message, record)
            case AlertAck():
                risk = self._risk_of(record.entity_id, message)
                self._tell(risk, risk.acknowledge(record, message.offset))
            case SeriesWanted():
                self._take_wanted(message, record)
            case DeadLetter():
                self.dead.append(record)

    def tick(self, now_us: int) -> None:
        """Look at the clock."""
        for risk in self._portfolios.values():
            alerts = risk.tick(now_us)
            if alerts:
                self.changed[risk.portfolio_id] = risk
                self._tell(risk, alerts)

    def take_over(self, others: Mapping[str, PortfolioRisk], version: str) -> None:
        """Have the portfolios of this round stand in for those that were measured till now.

        They had read the records of this round: these are counted, and refused, already.
        """
        self.dead.clear()
        self._tallying.clear()
        self._series.clear()
        self.alerts.clear()
        for portfolio_id, risk in self._portfolios.items():
            self.changed[portfolio_id] = risk
            risk.tell_again()
            other = others.get(portfolio_id)
            if other is not None:
                risk.wanted_by = other.wanted_by
                ours, theirs = risk.open_alert_ids, other.open_alert_ids
                self._tell(risk, other.end_alerts(ours))
                self._tell(risk, risk.tell_alerts_again(theirs, version))

    def events(self, told: Container[str] = ()) -> Iterable[tuple[Event, str | None]]:
        """Everything that is to be told, each with the tenant whose it is.

        Args:
            told: steps of alerts that a worker told before it was lost.
        """
        yield from ((one, None) for one in self.dead)
        yield from (one for one in self.alerts if one[0].transition_id not in told)
        yield from self.open_alerts()
        yield from self.measures()
        yield from self.series()
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
                self._measured[risk.source.partition, risk.tenant] += 1
                yield measure, risk.tenant

    def series(self) -> Iterable[tuple[Event, str | None]]:
        """The returns that trees of books need, by tree."""
        for (root, tenant), returns in self._series.items():
            for start in range(0, len(returns), _SERIES_RETURNS_MAX):
                some = returns[start : start + _SERIES_RETURNS_MAX]
                yield SeriesReturns(root=root, returns=some), tenant or None

    def tallies(self) -> Iterable[WindowTally]:
        """How many returns were taken in, and measures said, in which window."""
        for (partition, tenant), count in self._measured.items():
            where = TopicPartition(self._returns_topic, partition)
            self._tallying.add_to_newest(where, tenant, "risk_measures", count)
        return self._tallying.tallies()

    def _take_limits(self, message: Message, limits: RiskLimits) -> None:
        risk = self._risk_of(limits.portfolio_id, message)
        if risk.position.offset >= 0 and risk.tenant != tenant_of(message):
            wrong = f"{limits.portfolio_id} is another tenant's"
            self.dead.append(dead_letter(message, "foreign", wrong))
            return
        try:
            self._tell(risk, risk.set_limits(limits, message.offset))
        except InvalidRule as error:
            self.dead.append(dead_letter(message, "invalid", str(error)))

    def _take_wanted(self, message: Message, wanted: SeriesWanted) -> None:
        risk = self._risk_of(wanted.series_id, message)
        tenant = tenant_of(message) or ""
        if not wanted.wanted:
            risk.wanted_by.pop(wanted.root, None)
        elif risk.tenant not in (None, tenant):
            wrong = f"the returns of {wanted.series_id} are another tenant's"
            self.dead.append(dead_letter(message, "foreign", wrong))
        else:
            risk.wanted_by[wanted.root] = tenant
            self._series[wanted.root, tenant] += risk.returns

    def _pass_on(self, risk: PortfolioRisk, one: Return) -> None:
        """Have the books that need it know of a return."""
        for root, tenant in risk.wanted_by.items():
            if risk.tenant in (None, tenant):
                self._series[root, tenant].append(one)

    def _take_returns(self, message: Message, returns: Sequence[Return]) -> None:
        tenant, offset, taken = tenant_of(message), message.offset, 0
        latest_us = min(log_time_us(message) + self._config.ahead_us, LATEST_US)
        portfolios, changed = self._portfolios, self.changed
        others: Counter[Outcome] = Counter()
        for index, one in enumerate(returns):
            risk = portfolios.get(one.portfolio_id)
            if risk is None:
                risk = self._risk_of(one.portfolio_id, message)
            outcome, alerts = risk.apply(one, Position(offset, index), latest_us)
            if outcome is None:
                continue
            taken += 1
            if outcome is not _ACCEPTED:
                others[outcome] += 1
                if outcome in _REFUSED:
                    self.dead.append(_refused_return(message, index, one, latest_us))
            risk.tenant = tenant
            if risk.wanted_by and outcome in _PASSED_ON:
                self._pass_on(risk, one)
            changed[one.portfolio_id] = risk
            if alerts:
                self._tell(risk, alerts)
        if taken:
            where = TopicPartition(message.topic, message.partition)
            at_us = recorded_us(message)
            self._tallying.add(where, tenant, offset, at_us, "returns", taken)
            for outcome, count in others.items():
                self._tallying.add(where, tenant, offset, at_us, f"returns_{outcome}", count)

    def _risk_of(self, portfolio_id: str, message: Message) -> PortfolioRisk:
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


def standing(portfolios: Iterable[PortfolioRisk], touched: Container[int]) -> list[WindowTally]:
    """How portfolios of some partitions stand: how many, how high, and how many alerts are open."""
    found: dict[tuple[int, str | None], tuple[Counter[str], dict[str, float]]] = {}
    for risk in portfolios:
        partition = risk.source.partition
        if partition not in touched:
            continue
        key = partition, risk.tenant
        stands, utilisations = found.setdefault(key, (Counter(portfolios_over_limit=0), {}))
        stands["portfolios"] += 1
        utilisation = risk.utilisation
        if utilisation is not None:
            utilisations[risk.portfolio_id] = utilisation
            stands["portfolios_over_limit"] += utilisation > 1
        stands.update(f"alerts_open_{severity}" for severity in risk.open_severities())
    return [
        gauge_tally(TopicPartition(RISK_STATE.name, partition), tenant, stands, utilisations)
        for (partition, tenant), (stands, utilisations) in found.items()
    ]


def _refused_return(message: Message, index: int, one: Return, latest_us: float) -> DeadLetter:
    error = f"the return of {one.portfolio_id} is {one.value}; it must be a finite number"
    if isfinite(one.value):
        error = (
            f"the return of {one.portfolio_id} is of {one.event_time_us}, in microseconds since "
            f"1970 UTC; it must be from {EARLIEST_US} to {int(latest_us)}"
        )
    return dead_letter(message, "invalid", error, index=index)
