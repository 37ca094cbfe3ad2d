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
from stream_processors.risk.rules import BOOK_METRICS, is_stress, rules_of
from stream_processors.risk.thresholds import Evaluation, InvalidRule

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
        book._alerts.unpack(state.watches)
        book._risk = risk
        book._alerts.stress = {} if risk is None else _losses(risk)
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
        )

    def open_alerts(self) -> Iterable[tuple[str, bool]]:
        """Return the severity of each open alert, and whether it is acknowledged."""
        return self._alerts.open_alerts()

    def set_limits(self, limits: RiskLimits, offset: int) -> Sequence[RiskAlert]:
        """Replace the limits, and judge the last risk by those that have changed.

        Raises:
            InvalidRule: a limit is out of its range; the present limits stay.
        """
        if offset <= self.limits_offset:
            return ()
        self.limits_offset = offset
        if any(limit.temporary_limit is not None for limit in limits.limits):
            raise InvalidRule("a limit of a book is temporary; only those of portfolios can be")
        rules = rules_of(limits.limits, BOOK_METRICS)
        self.limits = limits.limits
        self._limits_version = to_rfc3339(limits.event_time_us) if rules else None
        context = None if self._risk is None else self._context(self._risk, offset)
        return self._alerts.change_rules(rules, f":limits/{offset}", context)

    def acknowledge(self, ack: AlertAck, offset: int) -> Sequence[RiskAlert]:
        """Acknowledge an open alert."""
        if offset <= self.acks_offset:
            return ()
        self.acks_offset = offset
        if self._risk is None:
            return ()
        return self._alerts.acknowledge(ack, self._context(self._risk, offset))

    def judge(self, risk: BookRisk, offset: int) -> Sequence[RiskAlert]:
        """Judge a risk of the book by its limits.

        Args:
            risk: the risk.
            offset: the offset of the record that it follows from.
        """
        last = self._risk
        if not risk.amounts or (last is not None and last.event_id == risk.event_id):
            return ()
        self._risk = replace(risk, parts=(), estimates=())
        is_measure = last is None or _measured(last) != _measured(risk)
        alerts = self._change_stress(None if is_measure else last, risk, offset)
        if not is_measure:
            return alerts  # scenarios alone have changed
        is_newer = last is None or risk.as_of_us > last.as_of_us
        events = self._alerts.judge(
            BookMeasurement.of(risk),
            None,
            risk.as_of_us,
            lambda: self._context(risk, offset),
            evaluation=Evaluation.MEASURE if is_newer else Evaluation.CORRECTION,
        )
        return [*alerts, *events]

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
                alerts += self._alerts.change_stress(losses, name, "", self._context(risk, offset))
        return alerts

    def close(self, offset: int) -> Sequence[RiskAlert]:
        """Clear all alerts, since the book no longer exists; its limits stay."""
        risk, self._risk = self._risk, None
        return () if risk is None else self._alerts.end_history(self._context(risk, offset))

    def _context(self, risk: BookRisk, offset: int) -> AlertContext:
        return AlertContext(
            measure_id=risk.event_id or "",
            as_of_us=risk.as_of_us,
            values={**BookMeasurement.of(risk)._asdict(), **_losses(risk)},
            scenario_us=lambda rule_id: risk.scenario_us if rule_id in _WITH_SCENARIO else None,
            source=self.source,
            offset=offset,
            entity_type=EntityType.BOOK,
            limits_version=self._limits_version,
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
