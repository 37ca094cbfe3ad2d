"""The limits of one book, and the alerts that its measures raise. Pure.

The measures of a book arrive, and changed limits and acknowledgements; alert events leave. A book
has the same rules, levels and ids as a portfolio. Its metrics are fractions of the net asset value,
amounts in its currency, the concentration, and losses in stress scenarios, as fractions and as
amounts. A measure without a value, such as a fraction without a positive net asset value,
changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import NamedTuple

from schemas.events import (
    AlertAck,
    BookRisk,
    EntityType,
    PortfolioState,
    RiskAlert,
    RiskLimit,
    RiskLimits,
)
from schemas.instants import to_rfc3339
from schemas.topics import TopicPartition
from schemas.vocabularies import STRESS_LOSS, STRESS_LOSS_AMOUNT
from stream_processors.risk.alert_events import AlertContext
from stream_processors.risk.alerts import Alerts
from stream_processors.risk.rules import (
    BOOK_METRICS,
    check_stale_after,
    in_force,
    is_stress,
    limits_until_us,
    rules_of,
)
from stream_processors.risk.thresholds import Evaluation

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


class BookAlerts:
    """The limits of one book, and the state of its alerts."""

    def __init__(self, path: str, source: TopicPartition, tenant: str | None = None) -> None:
        """Watch a book by no limits.

        Args:
            path: the book, as ROOT/BOOK.
            source: the partition of the first record that is applied.
            tenant: its tenant; None for none.
        """
        self.path = path
        self.tenant = tenant
        self.source = source
        """The partition of the record that is applied: alerts name it, and the record's offset."""
        self.limits: Sequence[RiskLimit] = ()
        self.limits_offset = self.acks_offset = -1
        """The offsets of the last limits and the last acknowledgement that were applied."""
        self.due_us: float = inf
        """When something is due next, by the log's clock, without any record."""
        self._expires_us: float = inf
        """When the next temporary limit ends, by the log's clock."""
        self._arrived_us: int | None = None
        """When the log got the last record that gave a measure of a newer day."""
        self._limits_us: int | None = None
        """Since when limits ask for an alert about missing measures, by the log's clock."""
        self._limits_version: str | None = None
        self._alerts = Alerts(path, ())
        self._risk: BookRisk | None = None
        """The last risk that was judged."""

    @classmethod
    def unpack(
        cls, state: PortfolioState, source: TopicPartition, risk: BookRisk | None
    ) -> "BookAlerts":
        """Continue from a packed state, and the last risk that was judged."""
        book = cls(state.portfolio_id, source, state.tenant)
        book.limits, book._alerts.rules = state.limits, rules_of(state.limits, BOOK_METRICS)
        book.limits_offset, book.acks_offset = state.limits_offset, state.acks_offset
        book._limits_version = state.limits_version
        book._alerts.stale_after_s = state.stale_after_s
        book._arrived_us, book._limits_us = state.arrived_us, state.limits_us
        book._alerts.unpack(state.watches)
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

    def set_limits(
        self, limits: RiskLimits, offset: int, log_us: int | None = None
    ) -> Sequence[RiskAlert]:
        """Replace the limits, and judge the last risk by those that have changed.

        Args:
            limits: the limits.
            offset: the offset of their record.
            log_us: when the log got it; None for the time at which the limits were set.

        Raises:
            InvalidRule: a limit is out of its range; the present limits stay.
        """
        if offset <= self.limits_offset:
            return ()
        self.limits_offset = offset
        now_us = limits.event_time_us if log_us is None else log_us
        rules_of(limits.limits, BOOK_METRICS)
        kept = in_force(limits.limits, now_us)
        rules = rules_of(kept, BOOK_METRICS)
        check_stale_after(limits.stale_after_s)
        alerts = self._advance(now_us)
        context = self._context(offset)
        alerts += self._alerts.change_stale_after(limits.stale_after_s, context)
        if limits.stale_after_s is None:
            self._limits_us = None
        elif self._limits_us is None:
            self._limits_us = now_us
        self.limits = kept
        self._set_due()
        has_limits = bool(rules) or limits.stale_after_s is not None
        self._limits_version = to_rfc3339(limits.event_time_us) if has_limits else None
        judged = None if self._risk is None else self._context(offset)
        return alerts + self._alerts.change_rules(rules, f":limits/{offset}", judged)

    def acknowledge(
        self, ack: AlertAck, offset: int, log_us: int | None = None
    ) -> Sequence[RiskAlert]:
        """Acknowledge an open alert.

        Args:
            ack: the acknowledgement.
            offset: the offset of its record.
            log_us: when the log got it; None for the time at which it was made.
        """
        if offset <= self.acks_offset:
            return ()
        alerts = self._advance(ack.event_time_us if log_us is None else log_us)
        self.acks_offset = offset
        return alerts + self._alerts.acknowledge(ack, self._context(offset))

    def tick(self, now_us: int) -> Sequence[RiskAlert]:
        """Do what is due at a time of the log's clock: alert, or let temporary limits end."""
        return self._advance(now_us) if now_us >= self.due_us else ()

    def _advance(self, now_us: int) -> list[RiskAlert]:
        """Do what is due at a time of the log's clock, before anything that arrives then."""
        alerts: list[RiskAlert] = []
        while now_us >= self.due_us:
            if self.due_us == self._expires_us:
                alerts += self._end_temporary_limits(int(self._expires_us))
            else:
                version = f":limits/{self._limits_us}" if self._is_since_limits else ""
                alerts.append(self._alerts.raise_stale(self._context(), version))
            self._set_due()
        return alerts

    @property
    def _is_since_limits(self) -> bool:
        """Whether measures count as missing only since limits ask for the alert."""
        limits_us, arrived_us = self._limits_us, self._arrived_us
        return limits_us is not None and (arrived_us is None or limits_us > arrived_us)

    def _end_temporary_limits(self, at_us: int) -> Sequence[RiskAlert]:
        """Let the limits fall back that are over, and judge the last risk by them once."""
        self.limits = in_force(self.limits, at_us)
        context = None if self._risk is None else self._context()
        rules = rules_of(self.limits, BOOK_METRICS)
        return self._alerts.change_rules(rules, f":expired/{to_rfc3339(at_us)}", context)

    def _set_due(self) -> None:
        """Note when something is due next."""
        since_us = self._limits_us if self._arrived_us is None else self._arrived_us
        stale_us = None if since_us is None else self._alerts.stale_from_us(since_us)
        self._expires_us = min(limits_until_us(self.limits).values(), default=inf)
        self.due_us = min(inf if stale_us is None else stale_us, self._expires_us)

    def _note_arrival(self, log_us: int, offset: int) -> Sequence[RiskAlert]:
        """End the alert about missing measures, and note when the next one is due."""
        self._arrived_us = log_us
        cleared: Sequence[RiskAlert] = ()
        if self._alerts.is_stale:
            cleared = (self._alerts.clear_stale(self._context(offset)),)
        self._set_due()
        return cleared

    def judge(self, risk: BookRisk, offset: int, log_us: int | None = None) -> Sequence[RiskAlert]:
        """Judge a risk of the book by its limits.

        Args:
            risk: the risk.
            offset: the offset of the record that it follows from.
            log_us: when the log got it; None for the time of the risk.
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
        is_newer = last is None or risk.as_of_us > last.as_of_us
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

    def close(self, offset: int) -> Sequence[RiskAlert]:
        """Clear all alerts, since the book no longer exists; its limits stay."""
        alerts: list[RiskAlert] = []
        context = self._context(offset)
        if self._alerts.is_stale:
            alerts.append(self._alerts.clear_stale(context, "the book was closed"))
        if self._risk is not None:
            alerts += self._alerts.end_history(context)
        self._risk = self._arrived_us = self._limits_us = None
        self._set_due()
        return alerts

    def _context(self, offset: int = -1) -> AlertContext:
        """Return what an alert says about the last risk, which a record has caused."""
        risk = self._risk
        if risk is None:  # no measure yet: the limits are all that there is
            return AlertContext(
                measure_id=f"limits:{self.path}:{self._limits_version or ''}",
                as_of_us=self._limits_us or 0,
                values={},
                scenario_us=lambda _: None,
                source=self.source,
                offset=offset,
                entity_type=EntityType.BOOK,
                limits_version=self._limits_version,
            )
        return AlertContext(
            measure_id=risk.event_id or "",
            as_of_us=risk.as_of_us,
            values={**BookMeasurement.of(risk)._asdict(), **_losses(risk)},
            scenario_us=lambda rule_id: risk.scenario_us if rule_id in _WITH_SCENARIO else None,
            source=self.source,
            offset=offset,
            entity_type=EntityType.BOOK,
            limits_version=self._limits_version,
            limits_until_us=limits_until_us(self.limits),
            supersedes=risk.supersedes,
            method=risk.method,
            status=risk.status,
            status_reason=risk.reason,
            observations=risk.observations,
            corrections=risk.corrections,
        )


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
