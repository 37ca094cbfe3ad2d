"""Replay the log of one portfolio: the alerts that were raised. Pure.

The messages of its partitions arrive: returns, limits, acknowledgements and stress scenarios. They
are applied by the code of the running system, in its order, so the alerts have the ids that were
sent. With another method than the historical one, the VaR and ES of that method are judged by the
same limits: these are the alerts that it would have raised.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from schemas.events import MeasureStatus, RiskAlert, RiskEstimate, StressLoss
from schemas.keys import encode_key
from schemas.topics import TopicPartition
from stream_processors.messages import Admitted
from stream_processors.risk.alert_events import AlertContext
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.forecast_history import METHOD
from stream_processors.risk.measures import VAR_95, VAR_99, Measurement
from stream_processors.risk.portfolio import PortfolioRisk
from stream_processors.risk.replay import estimates_of
from stream_processors.risk.risk_batch import ORDERED, RiskBatch
from stream_processors.risk.scope import Scope, narrowed
from stream_processors.stress import Scenarios

_WINDOW_US = 86_400_000_000
"""The length of the windows in which returns are counted; nobody reads them here."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """The portfolio of a replay, and how it is measured and judged."""

    portfolio_id: str
    tenant: str | None
    method: str
    config: RiskConfig
    """That of the running system."""
    prefix: str = ""
    """The prefix of the topics."""


class Bound(NamedTuple):
    """A limit from a time on."""

    at_us: int
    """The event time of the newest return by then."""
    limit: float | None
    """None where there is none from then on."""


class PastAlert(NamedTuple):
    """An alert that was raised, with the lap of the returns."""

    lap: int
    alert: RiskAlert


class LogReplay(NamedTuple):
    """The result of a replay."""

    alerts: Sequence[PastAlert]
    """All transitions of alerts, in order."""
    bounds: Sequence[Bound]
    """The limits of the VaR that was asked for."""
    stress: Sequence[StressLoss]
    """The losses in the stress scenarios that are in force at the end."""


def replay_log(
    messages: Iterable[Admitted], query: LogQuery, rule_id: str, until_us: int
) -> LogReplay:
    """Apply the messages of a portfolio's partitions as the running system has applied them.

    Args:
        messages: those of `ORDERED` topics, in any order. Where the topics have grown, partitions
            with a higher number are later ones.
        query: the portfolio.
        rule_id: the metric whose limits are returned.
        until_us: the time of the log at the end; what was due by then is done.
    """
    past = _Past(query, rule_id)
    ranks = {query.prefix + topic.name: rank for rank, topic in enumerate(ORDERED)}
    ordered = sorted(
        (message for message in messages if message.topic in ranks),
        key=lambda at: (at.partition, at.timestamp, ranks[at.topic], at.offset),
    )
    for number, of_number in groupby(ordered, key=lambda message: message.partition):
        past.enter(number)
        for message in of_number:
            past.apply(message)
    return past.end(until_us)


class _Past:
    """One portfolio while its log is replayed."""

    def __init__(self, query: LogQuery, rule_id: str) -> None:
        is_historical = query.method == METHOD
        methods = replace(
            query.config.methods,
            names=() if is_historical else (query.method,),
            levels=(VAR_95, VAR_99),
            horizons=(1,),
        )
        self._config = replace(query.config, methods=methods)
        self._kind = PortfolioRisk if is_historical else _MeasuredByMethod
        self._query = query
        self._rule_id = rule_id
        self._topic = query.prefix + ORDERED[-1].name
        self._covers = Scope(query.tenant or "", query.portfolio_id).covers
        self._scenarios = Scenarios()
        self._alerts: list[PastAlert] = []
        self._bounds: list[Bound] = []
        self._risk = self._kind(query.portfolio_id, self._config, self._home(0), query.tenant)
        self._batch = self._new_batch()

    def enter(self, number: int) -> None:
        """Go on in a partition, to which the portfolio has moved if it is not the first one."""
        state = replace(
            self._risk.pack(),
            partition=number,
            offset=-1,
            index=-1,
            limits_offset=-1,
            acks_offset=-1,
        )
        self._risk = self._kind.unpack(state, self._config, self._topic)
        self._risk.set_stress(self._scenarios.tests_of(self._query.tenant))
        self._batch = self._new_batch()

    def apply(self, message: Admitted) -> None:
        """Apply a message, so far as it concerns the portfolio."""
        part = narrowed(message, self._covers)
        if part is not None:
            lap = self._risk.lap
            self._batch.apply(part)
            self._note(lap)

    def end(self, until_us: int) -> LogReplay:
        """Do what is due by a time, and return the result."""
        self._batch.tick(until_us)
        self._note(self._risk.lap)
        return LogReplay(self._alerts, self._bounds, self._risk.stress)

    def _note(self, lap: int) -> None:
        """Note the alerts of the last message, before which a lap was, and a limit that changed."""
        risk, batch = self._risk, self._batch
        of_lap = f"/lap-{risk.lap}"
        for alert, _ in batch.alerts:
            # The alerts that end with a lap name its measures.
            is_new = risk.lap != lap and (alert.measure_id or "").endswith(of_lap)
            self._alerts.append(PastAlert(risk.lap if is_new else lap, alert))
        batch.alerts.clear()
        limit, at_us = risk.limit_of(self._rule_id), risk.newest_us
        if at_us is not None and (not self._bounds or self._bounds[-1].limit != limit):
            self._bounds.append(Bound(at_us, limit))

    def _new_batch(self) -> RiskBatch:
        key = encode_key(self._query.portfolio_id, self._query.tenant)
        portfolios = {key: self._risk}
        return RiskBatch(portfolios, self._config, self._topic, _WINDOW_US, self._scenarios)

    def _home(self, number: int) -> TopicPartition:
        return TopicPartition(self._topic, number)


class _MeasuredByMethod(PortfolioRisk):
    """A portfolio whose VaR and ES are those of the one configured method."""

    def _holds(self, measurement: Measurement) -> bool:
        del measurement
        return False

    def _remeasure(self) -> None:
        config = self._config
        found = {
            estimate.confidence: estimate
            for estimate in estimates_of(config.methods, self._window, config.observations_min)
        }
        at_95, at_99 = (_judged(found.get(level.number)) for level in (VAR_95, VAR_99))
        estimate = found.get(VAR_95.number)
        status = MeasureStatus.UNAVAILABLE if estimate is None else MeasureStatus(estimate.status)
        self._measurement = Measurement(status, *at_95, *at_99)

    def _scenario_us(self, rule_id: str) -> int | None:
        del rule_id
        return None  # the VaR need not be one of the returns

    def _context(self, offset: int | None = None) -> AlertContext:
        return super()._context(offset)._replace(method=self._config.methods.names[0])


def _judged(estimate: RiskEstimate | None) -> tuple[float | None, float | None]:
    """Return the VaR and ES of an estimate that alerts are judged by."""
    if estimate is None or estimate.status == MeasureStatus.OUT_OF_DOMAIN:
        return None, None
    return estimate.var, estimate.es
