"""The alert state machine: a limit, a measure after another, and the steps that people see.

    normal 0 ──▶ warning 1 ──▶ breach 2 ──▶ critical 3      raised, escalated
           ◀──           ◀──          ◀──                   deescalated, cleared

A level k has a threshold T_k: warn_ratio x limit, limit, critical_ratio x limit; warning and
critical are optional. The raw level of a value is the highest k with value > T_k (equal is not
above). The held level is the highest k up to the current one with value > T_k (1 - hysteresis): a
value must fall clearly below a threshold before the level does.

Ids derive from what was judged: the same measures give the same ids, whenever they are judged
again. No clock, no dice.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum
from math import isfinite
from uuid import NAMESPACE_URL, UUID, uuid5


class AlertLevel(IntEnum):
    """How bad it is."""

    NORMAL = 0
    WARNING = 1
    BREACH = 2
    CRITICAL = 3


class InvalidRule(ValueError):
    """A rule's parameter has no meaning; the message names it and what would have one."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When to alert on a metric."""

    rule_id: str
    limit: float
    hysteresis: float = 0.1
    """Share of a threshold by which a value must fall below it to count as back."""
    warn_ratio: float | None = None
    critical_ratio: float | None = None
    raise_after: int = 1
    """Consecutive measures above, before the level rises."""
    clear_after: int = 1
    """Consecutive measures below, before it falls."""
    calm_upto: float = field(init=False, compare=False)
    """What exceeds no threshold at all."""
    _steps: tuple[tuple[AlertLevel, float], ...] = field(init=False, compare=False, repr=False)
    """Levels and thresholds, the highest first."""

    def __post_init__(self) -> None:
        warn, critical = self.warn_ratio, self.critical_ratio
        holds = (
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
        for name, right, wanted in holds:
            if not right:
                raise InvalidRule(f"{name} is {getattr(self, name)}; it must be {wanted}")

        thresholds = {
            AlertLevel.CRITICAL: None if critical is None else critical * self.limit,
            AlertLevel.BREACH: self.limit,
            AlertLevel.WARNING: None if warn is None else warn * self.limit,
        }
        steps = tuple((level, at) for level, at in thresholds.items() if at is not None)
        object.__setattr__(self, "_steps", steps)
        object.__setattr__(self, "calm_upto", steps[-1][1])

    def raw_level(self, value: float) -> AlertLevel:
        """The highest level whose threshold a value exceeds."""
        for level, threshold in self._steps:
            if value > threshold:
                return level
        return AlertLevel.NORMAL

    def keeps(self, value: float, level: AlertLevel) -> bool:
        """Whether a value asks for no other level."""
        return self.raw_level(value) <= level <= self.held_level(value, level)

    def held_level(self, value: float, current: AlertLevel) -> AlertLevel:
        """The highest level, up to the current one, that a value has not clearly left."""
        share = 1.0 - self.hysteresis
        for level, threshold in self._steps:
            if level <= current and value > threshold * share:
                return level
        return AlertLevel.NORMAL


@dataclass(frozen=True, slots=True)
class AlertState:
    """Where one rule stands for one portfolio."""

    level: AlertLevel = AlertLevel.NORMAL
    run: tuple[AlertLevel, ...] = ()
    """What the latest consecutive measures asked for, where they ask for another level."""
    run_up: bool = True
    alert_id: str | None = None
    transitions: int = 0
    judged_us: int | None = None
    acknowledged: bool = False
    """Whether somebody deals with the present level."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One step: from a level to another."""

    alert_id: str
    transition_id: str
    kind: str
    """raised, escalated, acknowledged, deescalated or cleared."""
    level: AlertLevel
    value: float


def judge(
    rule: Rule,
    state: AlertState,
    *,
    portfolio_id: str,
    measure_id: str,
    at_us: int,
    value: float | None,
    again: bool = False,
) -> tuple[AlertState, Transition | None]:
    """Judge one measure.

    A measure that is not newer than the last one judged, or that has no finite value, has no
    effect: no data is no reason to clear. With `again` the last one is judged once more, by a rule
    that has changed.

    Returns:
        The state after it, and the step that it caused, if any.
    """
    if value is None or not isfinite(value):
        return state, None
    if state.judged_us is not None and at_us <= state.judged_us and not again:
        return state, None
    if rule.keeps(value, state.level):
        return replace(state, judged_us=at_us, run=()), None
    raw, held = rule.raw_level(value), rule.held_level(value, state.level)
    state = replace(state, judged_us=at_us)
    if raw > state.level:
        state = _extended(state, raw, up=True)
        if len(state.run) < rule.raise_after:
            return state, None
        to = min(state.run)
        kind = "raised" if state.level is AlertLevel.NORMAL else "escalated"
    else:
        state = _extended(state, held, up=False)
        if len(state.run) < rule.clear_after:
            return state, None
        to = max(state.run)
        kind = "cleared" if to is AlertLevel.NORMAL else "deescalated"
    return _stepped(rule, state, to, kind, f"{portfolio_id}:{measure_id}", value)


def acknowledge(state: AlertState, value: float) -> tuple[AlertState, Transition | None]:
    """Note that somebody deals with an alert: once per level, and only while there is one."""
    if state.alert_id is None or state.acknowledged or state.level is AlertLevel.NORMAL:
        return state, None
    number = state.transitions + 1
    step = _transition(state.alert_id, number, "acknowledged", state.level, value)
    return replace(state, acknowledged=True, transitions=number), step


def withdraw(state: AlertState, value: float) -> Transition | None:
    """The end of an alert whose rule there is no more; None where there is no alert."""
    if state.alert_id is None:
        return None
    return _transition(state.alert_id, state.transitions + 1, "cleared", AlertLevel.NORMAL, value)


def told_again(state: AlertState, version: str, value: float) -> Transition | None:
    """An alert as it stands, for those who know another past; None where there is no alert."""
    if state.alert_id is None:
        return None
    kind = f"raised:{version}"
    step = _transition(state.alert_id, state.transitions, kind, state.level, value)
    return replace(step, kind="raised")


def stale_step(rule_id: str, cause: str, value: float) -> tuple[AlertState, Transition]:
    """The beginning of a silence, after the measure that `cause` names."""
    alert_id = str(uuid5(NAMESPACE_URL, f"risk-alert:{rule_id}:{cause}"))
    state = AlertState(level=AlertLevel.BREACH, alert_id=alert_id, transitions=1)
    return state, _transition(alert_id, 1, "stale", AlertLevel.BREACH, value)


def silence_ended(state: AlertState) -> Transition:
    """Its end."""
    assert state.alert_id is not None
    number = state.transitions + 1
    return _transition(state.alert_id, number, "stale_cleared", AlertLevel.NORMAL, 0.0)


def _extended(state: AlertState, asked: AlertLevel, *, up: bool) -> AlertState:
    before = state.run if state.run_up is up else ()
    return replace(state, run=(*before, asked), run_up=up)


def _stepped(
    rule: Rule, state: AlertState, to: AlertLevel, kind: str, cause: str, value: float
) -> tuple[AlertState, Transition]:
    alert_id = state.alert_id or str(uuid5(NAMESPACE_URL, f"risk-alert:{rule.rule_id}:{cause}"))
    number = state.transitions + 1
    step = _transition(alert_id, number, kind, to, value)
    over = to is AlertLevel.NORMAL
    after = replace(
        state,
        level=to,
        run=(),
        alert_id=None if over else alert_id,
        transitions=0 if over else number,
        acknowledged=False,
    )
    return after, step


def _transition(
    alert_id: str, number: int, kind: str, level: AlertLevel, value: float
) -> Transition:
    return Transition(
        alert_id=alert_id,
        transition_id=str(uuid5(UUID(alert_id), f"{number}:{kind}")),
        kind=kind,
        level=level,
        value=value,
    )
