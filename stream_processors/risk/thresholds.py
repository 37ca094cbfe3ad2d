"""The alert state machine: the measures of one entity are judged by one rule. Pure.

    normal 0 ──▶ warning 1 ──▶ breach 2 ──▶ critical 3      raised, escalated
           ◀──           ◀──          ◀──                   deescalated, cleared

Measures arrive one after another; a `Transition` leaves when the level changes, or when a user
acknowledges an alert. An entity is a portfolio, a book, or whatever else has measures.

A level k has a threshold T_k: warn_ratio x limit, limit, critical_ratio x limit; warning and
critical are optional. The raw level of a value is the highest k with value > T_k (equal is not
above). The held level is the highest k up to the current one with value > T_k (1 - hysteresis): a
value must fall clearly below a threshold before the level does.

Ids derive from the measures, by uuid5, and from no clock and no random number: the same measures
give the same ids whenever they are judged again.
"""

from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum, auto
from math import isfinite
from uuid import NAMESPACE_URL, UUID, uuid5

from schemas.events import AlertTransition


class AlertLevel(IntEnum):
    """The severity of an alert, as a number that rises with it."""

    NORMAL = 0
    WARNING = 1
    BREACH = 2
    CRITICAL = 3


class Evaluation(Enum):
    """Why a value is judged."""

    MEASURE = auto()
    """A measure of a newer window; one that is not newer has no effect."""
    CORRECTION = auto()
    """A new measure of the same time: a return was corrected, or has arrived late."""
    LIMITS = auto()
    """The last measure once more, since the rule has changed. It is no further measure: its vote in
    the run replaces the one that it has had."""


class InvalidRule(ValueError):
    """A rule's parameter is out of its range; the message names it and the values allowed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The thresholds of one metric, and how many measures it takes to cross them."""

    rule_id: str
    limit: float
    hysteresis: float = 0.1
    """The share of a threshold by which a value must fall below it to leave its level."""
    warn_ratio: float | None = None
    """The warning threshold as a share of the limit; None: no warnings."""
    critical_ratio: float | None = None
    """The critical threshold as a multiple of the limit; None: no critical level."""
    raise_after: int = 1
    """The number of consecutive measures above a threshold that raise the level."""
    clear_after: int = 1
    """The number of consecutive measures below a threshold that lower the level."""
    lowest_threshold: float = field(init=False, compare=False)
    _thresholds: tuple[tuple[AlertLevel, float], ...] = field(init=False, compare=False, repr=False)
    """Levels and thresholds, the highest first."""

    def __post_init__(self) -> None:
        warn, critical = self.warn_ratio, self.critical_ratio
        conditions = (
            ("limit", isfinite(self.limit) and self.limit > 0, "a finite number above 0"),
            ("hysteresis", 0 <= self.hysteresis < 1, "at least 0 and below 1"),
            ("warn_ratio", warn is None or 0 < warn < 1, "between 0 and 1"),
            (
                "critical_ratio",
                critical is None or (isfinite(critical) and critical > 1),
                "above 1",
            ),
            ("raise_after", self.raise_after >= 1, "at least 1"),
            ("clear_after", self.clear_after >= 1, "at least 1"),
        )
        for name, is_met, expected in conditions:
            if not is_met:
                raise InvalidRule(f"{name} is {getattr(self, name)}; it must be {expected}")

        by_level = {
            AlertLevel.CRITICAL: None if critical is None else critical * self.limit,
            AlertLevel.BREACH: self.limit,
            AlertLevel.WARNING: None if warn is None else warn * self.limit,
        }
        thresholds = tuple((level, at) for level, at in by_level.items() if at is not None)
        object.__setattr__(self, "_thresholds", thresholds)
        object.__setattr__(self, "lowest_threshold", thresholds[-1][1])

    def raw_level(self, value: float) -> AlertLevel:
        """Return the highest level whose threshold a value exceeds."""
        for level, threshold in self._thresholds:
            if value > threshold:
                return level
        return AlertLevel.NORMAL

    def holds_level(self, value: float, level: AlertLevel) -> bool:
        """Return whether a value calls for no change of level."""
        return self.raw_level(value) <= level <= self.held_level(value, level)

    def held_level(self, value: float, current: AlertLevel) -> AlertLevel:
        """Return the highest level, up to the current one, that a value has not clearly left."""
        share = 1.0 - self.hysteresis
        for level, threshold in self._thresholds:
            if level <= current and value > threshold * share:
                return level
        return AlertLevel.NORMAL


@dataclass(frozen=True, slots=True)
class AlertState:
    """The state of one rule for one entity."""

    level: AlertLevel = AlertLevel.NORMAL
    run: tuple[AlertLevel, ...] = ()
    """The levels that the latest consecutive measures call for, where they call for a change."""
    run_up: bool = True
    """Whether these levels are higher than the present one."""
    alert_id: str | None = None
    """The id of the open alert, if there is one."""
    transitions: int = 0
    """The number of the open alert's transitions so far."""
    judged_us: int | None = None
    """The event time of the last measure that was judged."""
    acknowledged: bool = False
    """Whether a user has acknowledged the alert at its present level."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One transition of an alert."""

    alert_id: str
    transition_id: str
    kind: AlertTransition
    level: AlertLevel
    """The level after the transition."""
    value: float
    """The value that caused it."""
    acknowledged: bool = False
    """Whether a user has acknowledged the alert, and need not do so again."""


def judge(
    rule: Rule,
    state: AlertState,
    *,
    entity_id: str,
    measure_id: str,
    at_us: int,
    value: float | None,
    evaluation: Evaluation = Evaluation.MEASURE,
) -> tuple[AlertState, Transition | None]:
    """Judge one measure.

    A measure has no effect if it is not newer than the last measure that was judged, unless it
    follows from a correction, or if its value is missing or not finite: missing data never clears
    an alert.

    Args:
        rule: the rule.
        state: the rule's state before the measure.
        entity_id: the measure's entity, such as a portfolio.
        measure_id: the measure's id, from which the id of a new alert derives.
        at_us: the measure's event time.
        value: the value of the rule's metric.
        evaluation: why the value is judged.

    Returns:
        The state after the measure, and the transition that it caused, if any.
    """
    if value is None or not isfinite(value):
        return state, None
    judged_us, is_measure = state.judged_us, evaluation is Evaluation.MEASURE
    if is_measure and judged_us is not None and at_us <= judged_us:
        return state, None
    if evaluation is Evaluation.LIMITS:
        # A run ends with the vote of the last measure, or it would have been reset.
        state = replace(state, run=state.run[:-1])
    if rule.holds_level(value, state.level):
        return replace(state, judged_us=at_us, run=()), None
    raw, held = rule.raw_level(value), rule.held_level(value, state.level)
    state = replace(state, judged_us=at_us)
    if raw > state.level:
        state = _extend_run(state, raw, up=True)
        if len(state.run) < rule.raise_after:
            return state, None
        level = min(state.run)
        is_new = state.level is AlertLevel.NORMAL
        kind = AlertTransition.RAISED if is_new else AlertTransition.ESCALATED
    else:
        state = _extend_run(state, held, up=False)
        if len(state.run) < rule.clear_after:
            return state, None
        level = max(state.run)
        is_over = level is AlertLevel.NORMAL
        kind = AlertTransition.CLEARED if is_over else AlertTransition.DEESCALATED
    return _change_level(rule, state, level, kind, f"{entity_id}:{measure_id}", value)


def acknowledge(state: AlertState, value: float) -> tuple[AlertState, Transition | None]:
    """Acknowledge an open alert, once at each level."""
    if state.alert_id is None or state.acknowledged or state.level is AlertLevel.NORMAL:
        return state, None
    number = state.transitions + 1
    transition = transition_of(
        state.alert_id, number, AlertTransition.ACKNOWLEDGED, state.level, value
    )
    return (
        replace(state, acknowledged=True, transitions=number),
        replace(transition, acknowledged=True),
    )


def withdraw(state: AlertState, value: float) -> Transition | None:
    """Clear the alert of a rule that was withdrawn; None where no alert is open."""
    if state.alert_id is None:
        return None
    return transition_of(
        state.alert_id, state.transitions + 1, AlertTransition.CLEARED, AlertLevel.NORMAL, value
    )


def transition_of(
    alert_id: str, number: int, kind: AlertTransition, level: AlertLevel, value: float
) -> Transition:
    """Return an alert's transition of a number and kind."""
    return Transition(
        alert_id=alert_id,
        transition_id=_transition_id(alert_id, number, kind),
        kind=kind,
        level=level,
        value=value,
    )


def raise_stale(rule_id: str, cause: str, age_s: float) -> tuple[AlertState, Transition]:
    """Raise an alert about missing measures, after the measure that `cause` names."""
    alert_id = str(uuid5(NAMESPACE_URL, f"risk-alert:{rule_id}:{cause}"))
    state = AlertState(level=AlertLevel.BREACH, alert_id=alert_id, transitions=1)
    return state, transition_of(alert_id, 1, AlertTransition.STALE, AlertLevel.BREACH, age_s)


def clear_stale(state: AlertState) -> Transition:
    """Clear an alert about missing measures."""
    assert state.alert_id is not None
    number = state.transitions + 1
    return transition_of(
        state.alert_id, number, AlertTransition.STALE_CLEARED, AlertLevel.NORMAL, 0.0
    )


def _extend_run(state: AlertState, level: AlertLevel, *, up: bool) -> AlertState:
    run = state.run if state.run_up is up else ()
    return replace(state, run=(*run, level), run_up=up)


def _change_level(
    rule: Rule,
    state: AlertState,
    level: AlertLevel,
    kind: AlertTransition,
    cause: str,
    value: float,
) -> tuple[AlertState, Transition]:
    alert_id = state.alert_id or str(uuid5(NAMESPACE_URL, f"risk-alert:{rule.rule_id}:{cause}"))
    number = state.transitions + 1
    transition = transition_of(alert_id, number, kind, level, value)
    is_over = level is AlertLevel.NORMAL
    # A lower level needs no new look; a higher one, or a new alert, does.
    keeps_ack = state.acknowledged and kind is AlertTransition.DEESCALATED
    after = replace(
        state,
        level=level,
        run=(),
        alert_id=None if is_over else alert_id,
        transitions=0 if is_over else number,
        acknowledged=keeps_ack,
    )
    return after, replace(transition, acknowledged=keeps_ack)


def _transition_id(alert_id: str, number: int, cause: str) -> str:
    return str(uuid5(UUID(alert_id), f"{number}:{cause}"))
