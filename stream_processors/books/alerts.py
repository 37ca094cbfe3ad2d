"""The limits of one book, and the alerts that its measures raise. Pure.

The measures of a book arrive, and changed limits and acknowledgements; alert events leave. A book
has the same rules, levels and ids as a portfolio. Its metrics are fractions of the net asset value,
amounts in its currency, the concentration, and losses in stress scenarios, as fractions and as
amounts. A measure without a value, such as a fraction without a positive net asset value,
changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from schemas.events import (
    BookRisk,
    EntityType,
    PortfolioState,
    RiskAlert,
    RiskLimit,
)
from schemas.instants import from_rfc3339
from schemas.topics import RISK_SERIES, TopicPartition
from schemas.vocabularies import STRESS_LOSS, STRESS_LOSS_AMOUNT
from stream_processors.risk.alert_events import AlertContext
from stream_processors.risk.limited import LimitedEntity
from stream_processors.risk.rules import BOOK_METRICS, is_stress, limits_until_us, rules_of
from stream_processors.risk.thresholds import Evaluation, Rule

_WITH_SCENARIO = frozenset(metric for metric in BOOK_METRICS if "_95" in metric)
"""The metrics with a VaR scenario, the day that is the book's VaR."""


class BookMeasurement(NamedTuple):
    """The values of a book's metrics, by the names of `BookMetric`."""

    var_95: float | None
    es_95: float | None
    var_99: float | None
    es_99: float | None
    var_95_amount: float | None
    es_95_amount: float | None
    var_99_amount: float | None
    es_99_amount: float | None
    concentration: float | None

    @classmethod
    def of(cls, risk: BookRisk) -> "BookMeasurement":
        """Return the metrics of a book's risk."""
        return cls(
            var_95=risk.var_95,
            es_95=risk.es_95,
            var_99=risk.var_99,
            es_99=risk.es_99,
            var_95_amount=risk.amounts.get("var_95"),
            es_95_amount=risk.amounts.get("es_95"),
            var_99_amount=risk.amounts.get("var_99"),
            es_99_amount=risk.amounts.get("es_99"),
            concentration=risk.concentration,
        )


class BookAlerts(LimitedEntity):
    """The limits of one book, and the state of its alerts."""

    def __init__(self, path: str, source: TopicPartition, tenant: str | None = None) -> None:
        """Watch a book by no limits.

        Args:
            path: the book, as ROOT/BOOK.
            source: the partition of the returns of its tree, which alerts name that time causes.
                Those that a record causes name the record's partition, which is set as `source`.
            tenant: its tenant; None for none.
        """
        super().__init__(path, source)
        self._home = source
        self.path = path
        self.tenant = tenant
        self._risk: BookRisk | None = None
        """The last risk that was judged."""

    @classmethod
    def unpack(
        cls, state: PortfolioState, source: TopicPartition, risk: BookRisk | None
    ) -> "BookAlerts":
        """Continue from a packed state, and the last risk that was judged."""
        book = cls(state.portfolio_id, source, state.tenant)
        book._restore_limits(state, state.watches)
        book._risk = risk
        book._alerts.stress = {} if risk is None else _losses(risk)
        book._set_due()
        return book

    def pack(self) -> PortfolioState:
        """Return the limits and the alerts, but not the risk."""
        return PortfolioState(
            portfolio_id=self.path,
            offset=-1,
            index=-1,
            partition=self.source.partition,
            limits=self.limits,
            limits_version=self._limits_version,
            limits_offset=self.limits_offset,
            acks_offset=self.acks_offset,
            watches=self._alerts.pack(),
            tenant=self.tenant,
            stale_after_s=self._alerts.stale_after_s,
            arrived_us=self._arrived_us,
            limits_us=self._limits_us,
        )

    def open_alerts(self) -> Iterable[tuple[str, bool]]:
        """Return the severity of each open alert, and whether it is acknowledged."""
        return self._alerts.open_alerts()

    @property
    def _has_measure(self) -> bool:
        return self._risk is not None

    def _rules_of(self, limits: Sequence[RiskLimit]) -> tuple[Rule, ...]:
        return rules_of(limits, BOOK_METRICS)

    def judge(
        self,
        risk: BookRisk,
        offset: int,
        log_us: int | None = None,
        topic: str = RISK_SERIES.name,
    ) -> Sequence[RiskAlert]:
        """Judge a risk of the book by its limits.

        Only returns bring a newer day: changed holdings are no measure that was missing.

        Args:
            risk: the risk.
            offset: the offset of the record that it follows from.
            log_us: when the log got it; None for the time of the risk.
            topic: the catalogue's name of the record's topic.
        """
        last = self._risk
        arrived_us = risk.as_of_us if log_us is None else log_us
        due = self._advance(arrived_us)
        if not risk.amounts or (last is not None and last.event_id == risk.event_id):
            return due
        self._risk = replace(risk, parts=(), estimates=())
        is_measure = last is None or _measured(last) != _measured(risk)
        alerts = self._change_stress(None if is_measure else last, risk, offset)
        if not is_measure:
            return [*due, *alerts]  # scenarios alone have changed
        is_newer = last is None or brings_newer_day(risk, last, topic)
        arrivals = self._note_arrival(arrived_us, offset) if is_newer else ()
        events = self._alerts.judge(
            BookMeasurement.of(risk),
            None,
            risk.as_of_us,
            lambda: self._context(offset),
            evaluation=Evaluation.MEASURE if is_newer else Evaluation.CORRECTION,
        )
        return [*due, *alerts, *arrivals, *events]

    def _change_stress(
        self, before: BookRisk | None, risk: BookRisk, offset: int
    ) -> Sequence[RiskAlert]:
        """Replace the losses in scenarios, and clear alerts about those that were withdrawn.

        Args:
            before: the last risk, where scenarios alone have changed since: they are judged here.
                None for a new measure, which all rules judge.
            risk: the new risk.
            offset: the offset of the record that it follows from.
        """
        losses = self._alerts.stress = _losses(risk)
        versions = _versions(risk)
        known = versions if before is None else _versions(before)
        alerts: list[RiskAlert] = []
        for rule in self._alerts.rules:
            name = rule.rule_id
            if is_stress(name) and (name not in losses or known.get(name) != versions[name]):
                alerts += self._alerts.change_stress(losses, name, "", self._context(offset))
        return alerts

    def close(self, offset: int, log_us: int) -> Sequence[RiskAlert]:
        """Clear all alerts, since the book no longer exists; its limits stay.

        Args:
            offset: the offset of the record that closed the book.
            log_us: when the log got it.
        """
        alerts = self._advance(log_us)
        context = self._context(offset)
        if self._alerts.is_stale:
            alerts.append(self._alerts.clear_stale(context, "the book was closed"))
        if self._risk is not None:
            alerts += self._alerts.end_history(context)
        self._risk = self._arrived_us = self._limits_us = None
        self._set_due()
        return alerts

    def take_over(
        self, present: "BookAlerts | None", sent: Mapping[str, int]
    ) -> Sequence[RiskAlert]:
        """Replace the present alerts by these, which were rebuilt; return what differs.

        Args:
            present: the limits and alerts that clients know; None if they know none.
            sent: see `Alerts.take_over`.
        """
        return self._take_over_alerts(present, sent)

    def _context(self, offset: int | None = None) -> AlertContext:
        """Return what an alert says about the last risk, which a record has caused."""
        risk = self._risk
        source, offset = (self._home, -1) if offset is None else (self.source, offset)
        if risk is None:  # no measure yet: the limits are all that there is
            return AlertContext(
                measure_id=f"limits:{self.path}:{self._limits_version or ''}",
                as_of_us=self._limits_us or 0,
                values={},
                scenario_us=lambda _: None,
                source=source,
                offset=offset,
                entity_type=EntityType.BOOK,
                limits_version=self._limits_version,
            )
        return AlertContext(
            measure_id=risk.event_id or "",
            as_of_us=risk.as_of_us,
            values={**BookMeasurement.of(risk)._asdict(), **_losses(risk)},
            scenario_us=lambda rule_id: risk.scenario_us if rule_id in _WITH_SCENARIO else None,
            source=source,
            offset=offset,
            entity_type=EntityType.BOOK,
            limits_version=self._limits_version,
            limits_until_us=limits_until_us(self.limits),
            supersedes=risk.supersedes,
            method=risk.method,
            status=risk.status,
            status_reason=risk.reason,
            window_first_us=_first_us(risk),
            observations=risk.observations,
            corrections=risk.corrections,
        )


def brings_newer_day(risk: BookRisk, last: BookRisk, topic: str) -> bool:
    """Return whether a risk that follows from a record of a topic is of a newer day than the last.

    A change of holdings may let a book have the returns of a later day, but it brings none.
    """
    return topic == RISK_SERIES.name and risk.as_of_us > last.as_of_us


def _first_us(risk: BookRisk) -> int | None:
    """Return the beginning of the first day in a risk's window, by its date in UTC."""
    return None if risk.first_day is None else from_rfc3339(f"{risk.first_day}T00:00:00Z")


def _losses(risk: BookRisk) -> Mapping[str, float | None]:
    """Return the losses in stress scenarios by the rules that bound them."""
    fractions = {f"{STRESS_LOSS}{loss.scenario}": loss.loss for loss in risk.stress}
    amounts = {f"{STRESS_LOSS_AMOUNT}{loss.scenario}": loss.amount for loss in risk.stress}
    return fractions | amounts


def _versions(risk: BookRisk) -> Mapping[str, tuple[int, float | None]]:
    """Return the version and the loss of each stress scenario by the rules that bound it."""
    versions = {loss.scenario: loss.version for loss in risk.stress}
    return {name: (versions[name.partition(":")[2]], loss) for name, loss in _losses(risk).items()}


def _measured(risk: BookRisk) -> tuple[object, ...]:
    """Return what a measure of a book has, and a change of scenarios alone leaves as it was."""
    window = risk.first_day, risk.last_day, risk.observations, risk.corrections
    return (risk.as_of_us, *window, *BookMeasurement.of(risk))
