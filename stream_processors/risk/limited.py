"""Limits of a portfolio or book: they change, end by time, and ask for measures. Pure.

A temporary limit ends, and a measure is missing, without any record. Both are judged by the time of
the log, before whatever arrives then.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import inf

from schemas.events import AlertAck, PortfolioState, RiskAlert, RiskLimit, RiskLimits, WatchState
from schemas.instants import to_rfc3339
from schemas.topics import PARTITIONS, TopicPartition
from stream_processors.risk.alert_events import AlertContext
from stream_processors.risk.alerts import Alerts, KnownAlerts
from stream_processors.risk.rules import check_stale_after, in_force, limits_until_us
from stream_processors.risk.thresholds import Rule


class LimitedEntity(ABC):
    """The limits and alerts of one portfolio or book."""

    def __init__(
        self, entity_id: str, source: TopicPartition, rules: tuple[Rule, ...] = ()
    ) -> None:
        """Begin without limits of its own.

        Args:
            entity_id: its name in alerts.
            source: the partition of its records.
            rules: the rules that hold without limits.
        """
        self.source = source
        self.limits: Sequence[RiskLimit] = ()
        self.limits_offset = self.acks_offset = -1
        """The offsets of the last limits and the last acknowledgement that were applied."""
        self.due_us: float = inf
        """When something is due next, by the log's clock, without any record; may be infinite."""
        self._expires_us: float = inf
        """When the next temporary limit ends, by the log's clock."""
        self._arrived_us: int | None = None
        """When the log got the last record that gave a newer measure."""
        self._limits_us: int | None = None
        """Since when limits ask for an alert about missing measures, by the log's clock."""
        self._limits_version: str | None = None
        """When the limits were set."""
        self._alerts = Alerts(entity_id, rules)

    @property
    @abstractmethod
    def _has_measure(self) -> bool:
        """Whether there is a measure to judge."""

    @abstractmethod
    def _rules_of(self, limits: Sequence[RiskLimit]) -> tuple[Rule, ...]:
        """Return the rules of limits.

        Raises:
            InvalidRule: a limit is out of its range.
        """

    @abstractmethod
    def _context(self, offset: int | None = None) -> AlertContext:
        """Return what an alert says of the last measure.

        Args:
            offset: the offset of the record that causes the alert; None if time does.
        """

    def _restore_limits(self, state: PortfolioState, watches: Sequence[WatchState]) -> None:
        """Continue from a packed state's limits, and from the states of its rules."""
        self._alerts.unpack(watches)
        self._alerts.stale_after_s = state.stale_after_s
        if state.limits:
            self.limits, self._alerts.rules = state.limits, self._rules_of(state.limits)
        self.limits_offset, self.acks_offset = state.limits_offset, state.acks_offset
        self._limits_version = state.limits_version
        self._arrived_us, self._limits_us = state.arrived_us, state.limits_us

    def set_limits(
        self, limits: RiskLimits, offset: int, log_us: int | None = None
    ) -> Sequence[RiskAlert]:
        """Replace the limits, and judge the last measure by those that have changed.

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
        self._rules_of(limits.limits)
        kept = in_force(limits.limits, now_us)
        rules = self._rules_of(kept)
        check_stale_after(limits.stale_after_s)
        alerts = self._advance(now_us)
        alerts += self._alerts.change_stale_after(limits.stale_after_s, self._context(offset))
        if limits.stale_after_s is None:
            self._limits_us = None
        elif self._limits_us is None:
            self._limits_us = now_us
        self.limits = kept
        self._set_due()
        is_default = not limits.limits and limits.stale_after_s is None
        self._limits_version = None if is_default else to_rfc3339(limits.event_time_us)
        where = place_of(self.source.partition, offset)
        return alerts + self._change_rules(rules, f":limits/{where}", offset)

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

    @property
    def open_alert_ids(self) -> frozenset[str]:
        """The ids of the open alerts, except of those about missing measures."""
        return self._alerts.open_ids

    def known_alerts(self) -> KnownAlerts:
        """Return the alerts as clients know them."""
        return self._alerts.known(self._present_context())

    def _take_over_alerts(
        self, present: "LimitedEntity | None", sent: Mapping[str, int]
    ) -> Sequence[RiskAlert]:
        """Replace the present alerts by these, which were rebuilt; return what differs.

        Args:
            present: the entity that clients know; None if they know none.
            sent: see `Alerts.take_over`.
        """
        known = KnownAlerts({}, {}, None)
        if present is not None:
            self._end_limits_as(present)
            known = present.known_alerts()
        alerts = self._alerts.take_over(known, self._present_context(), sent)
        self._set_due()
        return alerts

    def _present_context(self) -> AlertContext | None:
        return self._context() if self._has_measure else None

    def _end_limits_as(self, present: "LimitedEntity") -> None:
        """End the temporary limits that are over in the present entity, which has had ticks."""
        if (present.limits_offset, present.source.partition) == (
            self.limits_offset,
            self.source.partition,
        ):
            ends, present_ends = (
                frozenset(limits_until_us(of.limits).values()) for of in (self, present)
            )
            over = ends - present_ends
            if over:
                self._advance(max(over))

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
                alerts.append(self._alerts.raise_stale(self._context(), self._stale_version()))
            self._set_due()
        return alerts

    def _stale_version(self) -> str:
        """Return the limits' time, if there may have been an alert after the same measure.

        That is so if limits ask for the alert only since the last record that gave a measure.
        """
        limits_us, arrived_us = self._limits_us, self._arrived_us
        if limits_us is None or (arrived_us is not None and limits_us <= arrived_us):
            return ""
        return f":limits/{limits_us}"

    def _end_temporary_limits(self, at_us: int) -> list[RiskAlert]:
        """Let the limits fall back that are over, and judge the last measure by them once."""
        self.limits = in_force(self.limits, at_us)
        return self._change_rules(self._rules_of(self.limits), f":expired/{to_rfc3339(at_us)}")

    def _change_rules(
        self, rules: tuple[Rule, ...], version: str, offset: int | None = None
    ) -> list[RiskAlert]:
        context = self._context(offset) if self._has_measure else None
        return self._alerts.change_rules(rules, version, context)

    def _note_arrival(self, log_us: int, offset: int | None = None) -> Sequence[RiskAlert]:
        """Note a newer measure, and end the alert about missing ones.

        Args:
            log_us: when the log got the record that gave it.
            offset: the record's offset.
        """
        self._arrived_us = log_us
        is_stale = self._alerts.is_stale
        cleared = [self._alerts.clear_stale(self._context(offset))] if is_stale else []
        self._set_due()
        return cleared

    def _set_due(self) -> None:
        """Note when something is due next."""
        since_us = self._limits_us if self._arrived_us is None else self._arrived_us
        stale_us = None if since_us is None else self._alerts.stale_from_us(since_us)
        self._expires_us = min(limits_until_us(self.limits).values(), default=inf)
        self.due_us = min(inf if stale_us is None else stale_us, self._expires_us)


def place_of(partition: int, offset: int) -> str:
    """Return the place of a record in its topic, as a text for ids.

    In a partition that was added, offsets begin again: they have been in ids before.
    """
    return str(offset) if partition < PARTITIONS else f"{partition}/{offset}"
