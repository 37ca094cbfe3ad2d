"""A portfolio's alerts: every rule that it is watched by, and the steps that people see.

Pure. Beside the rules on VaR and ES, which are data, each portfolio is watched for a model that
fails its backtest (as many exceptions in 250 days that the traffic light is red), and, where its
limits say so, for measures that stay away.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from schemas.events import AlertAck, RiskAlert, RiskLimit, WatchState
from stream_processors.risk.measures import VAR_99, Measured, finite
from stream_processors.risk.model_tests import most_before_red
from stream_processors.risk.thresholds import (
    AlertLevel,
    AlertState,
    InvalidRule,
    Rule,
    Transition,
    acknowledge,
    judge,
    silence_ended,
    stale_step,
    told_again,
    withdraw,
)

METRICS = {
    "var_95": ("VaR", "var_exceeded"),
    "es_95": ("ES", "es_exceeded"),
    "var_99": ("VaR", "var_exceeded"),
    "es_99": ("ES", "es_exceeded"),
}
"""What a limit can be of: how messages call it, and what type its alerts are."""

MODEL = "exceptions_99"
DAYS_JUDGED = 250
STALE = "stale"

_MODEL_RULE = Rule(MODEL, float(most_before_red(DAYS_JUDGED, VAR_99)), hysteresis=0.0)
_CALM = AlertState()
_SEVERITY = {
    AlertLevel.NORMAL: "low",
    AlertLevel.WARNING: "low",
    AlertLevel.BREACH: "high",
    AlertLevel.CRITICAL: "critical",
}
_US = 1_000_000


class Source(NamedTuple):
    """The partition that returns are read from."""

    topic: str
    partition: int


class Occasion(NamedTuple):
    """What there is to judge, and where it comes from."""

    measure_id: str
    as_of_us: int
    values: Mapping[str, float | None]
    """By rule."""
    scenario_us: Callable[[str], int | None]
    """When the return was observed that is the VaR at a rule's level."""
    source: Source
    offset: int


class Alerts:
    """The rules of one portfolio, and where each stands."""

    def __init__(self, portfolio_id: str, rules: tuple[Rule, ...]) -> None:
        self._portfolio_id = portfolio_id
        self._states: dict[str, AlertState] = {}
        """Where rules stand that have something to say."""
        self._judged_us: dict[str, int] = {}
        """Of which instant each rule judged a measure last: what changes with every measure."""
        self._steady: Measured | None = None
        """What was judged last, where it changed nothing; and beside it the exceptions."""
        self._steady_exceptions: float | None = None
        self._steady_us: int | None = None
        """Of which instant both were judged again."""
        self.rules = rules
        self.stale_after_s: float | None = None

    def unpack(self, watches: Iterable[WatchState]) -> None:
        """Go on from where rules stood."""
        for one in watches:
            state = AlertState(
                level=AlertLevel(one.level),
                run=tuple(AlertLevel(level) for level in one.run),
                run_up=one.run_up,
                alert_id=one.alert_id,
                transitions=one.transitions,
                judged_us=one.judged_us,
                acknowledged=one.acknowledged,
            )
            self._put(one.rule_id, state)

    def pack(self) -> list[WatchState]:
        """Where each rule stands."""
        self._settle()
        rules = sorted(self._states.keys() | self._judged_us.keys())
        states = ((rule_id, self._states.get(rule_id, _CALM)) for rule_id in rules)
        return [
            WatchState(
                rule_id=rule_id,
                level=one.level,
                run=one.run,
                run_up=one.run_up,
                alert_id=one.alert_id,
                transitions=one.transitions,
                judged_us=self._judged_us.get(rule_id),
                acknowledged=one.acknowledged,
            )
            for rule_id, one in states
        ]

    def rule(self, rule_id: str) -> Rule | None:
        """A rule, where the portfolio has it."""
        return next((one for one in (*self.rules, _MODEL_RULE) if one.rule_id == rule_id), None)

    def open_severities(self) -> Iterable[str]:
        """Of each alert that is not over."""
        for rule_id, state in self._states.items():
            if state.level is not AlertLevel.NORMAL:
                yield "medium" if rule_id in (STALE, MODEL) else _SEVERITY[state.level]

    def judge(
        self,
        measured: Measured,
        exceptions: float | None,
        at_us: int,
        occasion: Callable[[], Occasion],
    ) -> Sequence[RiskAlert]:
        """Judge a measure that is new.

        Args:
            measured: what the rules are about, by their names.
            exceptions: what the rule for the model is about.
            at_us: of which instant that is.
            occasion: says more, where there is anything to tell.
        """
        if measured is self._steady and exceptions == self._steady_exceptions:
            self._steady_us = at_us
            return ()
        self._settle()
        told: list[RiskAlert] = []
        if STALE in self._states:
            told.append(self._fresh(occasion()))
        is_steady = True
        for rule in self.rules:
            value: float | None = getattr(measured, rule.rule_id)
            if value is not None and not self._is_steady(rule, value, at_us):
                self._judge_by(rule, occasion(), told)
                is_steady = False
        if exceptions is not None and not self._is_steady(_MODEL_RULE, exceptions, at_us):
            self._judge_by(_MODEL_RULE, occasion(), told)
            is_steady = False
        if is_steady:
            self._steady, self._steady_exceptions = measured, exceptions
        return told

    def _settle(self) -> None:
        """Note when what changed nothing was judged last: by each rule that judged it."""
        if self._steady_us is not None:
            self._judged_us = dict.fromkeys(self._judged_us, self._steady_us)
        self._steady = self._steady_us = None

    def _is_steady(self, rule: Rule, value: float, at_us: int) -> bool:
        """Judge a measure that changes nothing but the time: nearly every one."""
        state = self._states.get(rule.rule_id)
        if state is None:
            steady = value <= rule.calm_upto
        else:
            steady = not state.run and rule.keeps(value, state.level)
        if steady:
            self._judged_us[rule.rule_id] = at_us
        return steady

    def change_rules(
        self, rules: tuple[Rule, ...], version: str, occasion: Occasion | None
    ) -> list[RiskAlert]:
        """Judge by other rules from now on, and the last measure at once.

        Args:
            rules: all that there are now.
            version: tells this change from all others.
            occasion: the last measure, if there was one.
        """
        self._settle()
        told: list[RiskAlert] = []
        kept = {rule.rule_id for rule in rules}
        for rule in self.rules:
            state = self._states.get(rule.rule_id)
            if state is not None and rule.rule_id not in kept:
                del self._states[rule.rule_id]
                self._judged_us.pop(rule.rule_id, None)
                step = withdraw(state, _value(occasion, rule))
                if step is not None and occasion is not None:
                    told.append(self._event(rule, step, occasion, "the limit was withdrawn"))
        self.rules = rules
        if occasion is not None:
            for rule in rules:
                self._judge_by(rule, occasion, told, version)
        return told

    @property
    def open_ids(self) -> frozenset[str]:
        """The alerts that are not over, but for silences."""
        return frozenset(
            state.alert_id
            for rule_id, state in self._states.items()
            if state.alert_id is not None and rule_id != STALE
        )

    def end(self, known: frozenset[str], occasion: Occasion) -> list[RiskAlert]:
        """Clear the alerts that another account of the past does not know."""
        told = []
        for rule, state in self._open_rules(known):
            step = withdraw(state, _value(occasion, rule))
            if step is not None:
                told.append(self._event(rule, step, occasion, "cleared: the past was rebuilt"))
        return told

    def tell_again(
        self, known: frozenset[str], version: str, occasion: Occasion
    ) -> list[RiskAlert]:
        """Raise the alerts that another account of the past did not know."""
        told = []
        for rule, state in self._open_rules(known):
            step = told_again(state, version, _value(occasion, rule))
            if step is not None:
                told.append(self._event(rule, step, occasion, message(step, rule)))
        return told

    def _open_rules(self, known: frozenset[str]) -> Iterable[tuple[Rule, AlertState]]:
        for rule_id, state in self._states.items():
            rule = self.rule(rule_id)
            if rule is not None and state.alert_id not in known:
                yield rule, state

    def acknowledge(self, ack: AlertAck, occasion: Occasion) -> list[RiskAlert]:
        """Note that somebody deals with an alert, and tell everybody."""
        self._settle()
        for rule_id, state in list(self._states.items()):
            rule = self.rule(rule_id)
            if state.alert_id != ack.alert_id or rule is None:
                continue
            self._states[rule_id], step = acknowledge(state, _value(occasion, rule))
            if step is None:
                return []
            by = f" by {ack.by}" if ack.by else ""
            comment = f": {ack.comment}" if ack.comment else ""
            return [self._event(rule, step, occasion, f"acknowledged{by}{comment}")]
        return []

    def tick(self, now_us: int, occasion: Occasion) -> list[RiskAlert]:
        """Look at the clock: a measure that is too old is told of, once."""
        after_s, age_us = self.stale_after_s, now_us - occasion.as_of_us
        if after_s is None or age_us <= after_s * _US or STALE in self._states:
            return []
        self._settle()
        cause = f"{self._portfolio_id}:{occasion.measure_id}"
        self._states[STALE], step = stale_step(STALE, cause, age_us / _US)
        return [self._stale_event(step, occasion, after_s)]

    def _fresh(self, occasion: Occasion) -> RiskAlert:
        """The end of a silence."""
        step = silence_ended(self._states.pop(STALE))
        return self._stale_event(step, occasion, self.stale_after_s or 0.0)

    def _judge_by(
        self, rule: Rule, occasion: Occasion, told: list[RiskAlert], version: str = ""
    ) -> None:
        after, step = judge(
            rule,
            self._state(rule.rule_id),
            portfolio_id=self._portfolio_id,
            measure_id=occasion.measure_id + version,
            at_us=occasion.as_of_us,
            value=occasion.values.get(rule.rule_id),
            again=bool(version),
        )
        self._put(rule.rule_id, after)
        if step is not None:
            told.append(self._event(rule, step, occasion, message(step, rule)))

    def _state(self, rule_id: str) -> AlertState:
        state = self._states.get(rule_id, _CALM)
        return replace(state, judged_us=self._judged_us.get(rule_id))

    def _put(self, rule_id: str, state: AlertState) -> None:
        if state.judged_us is not None:
            self._judged_us[rule_id] = state.judged_us
        if state.level is AlertLevel.NORMAL and not state.run:
            self._states.pop(rule_id, None)
        else:
            self._states[rule_id] = state

    def _event(self, rule: Rule, step: Transition, occasion: Occasion, text: str) -> RiskAlert:
        is_model = rule.rule_id == MODEL
        return RiskAlert(
            alert_id=step.alert_id,
            transition_id=step.transition_id,
            alert_type="model_red" if is_model else METRICS[rule.rule_id][1],
            state=step.kind,
            severity="medium" if is_model else _SEVERITY[step.level],
            message=text,
            metric_name=rule.rule_id,
            metric_value=step.value,
            threshold=rule.limit,
            entity_type="portfolio",
            entity_id=self._portfolio_id,
            event_time_us=occasion.as_of_us,
            level=step.level.name.lower(),
            utilisation=finite(step.value / rule.limit),
            rule_id=rule.rule_id,
            scenario_us=occasion.scenario_us(rule.rule_id),
            source_topic=occasion.source.topic,
            source_partition=occasion.source.partition,
            source_offset=occasion.offset,
        )

    def _stale_event(self, step: Transition, occasion: Occasion, after_s: float) -> RiskAlert:
        is_over = step.level is AlertLevel.NORMAL
        late = f"no measure for {step.value:.0f} s: the last one may be {after_s:g} s old"
        return RiskAlert(
            alert_id=step.alert_id,
            transition_id=step.transition_id,
            alert_type="stale_data",
            state=step.kind,
            severity="medium",
            message="measures come again" if is_over else late,
            metric_name="age_s",
            metric_value=step.value,
            threshold=after_s,
            entity_type="portfolio",
            entity_id=self._portfolio_id,
            event_time_us=occasion.as_of_us,
            rule_id=STALE,
            source_topic=occasion.source.topic,
            source_partition=occasion.source.partition,
            source_offset=occasion.offset,
        )


def rules_of(limits: Sequence[RiskLimit]) -> tuple[Rule, ...]:
    """Limits as rules.

    Raises:
        InvalidRule: a limit has no meaning.
    """
    rules = {}
    for one in limits:
        if one.metric not in METRICS:
            raise InvalidRule(f"{one.metric!r} is no metric; there are {', '.join(METRICS)}")
        if one.metric in rules:
            raise InvalidRule(f"there are two limits of {one.metric}; give one")
        try:
            rules[one.metric] = Rule(
                rule_id=one.metric,
                limit=one.limit,
                hysteresis=one.hysteresis,
                warn_ratio=one.warn_ratio,
                critical_ratio=one.critical_ratio,
                raise_after=one.raise_after,
                clear_after=one.clear_after,
            )
        except InvalidRule as error:
            raise InvalidRule(f"of {one.metric}: {error}") from error
    return tuple(rules.values())


def message(step: Transition, rule: Rule) -> str:
    """Say a step in words, with its numbers."""
    if rule.rule_id == MODEL:
        zone = "left" if step.level is AlertLevel.NORMAL else "entered"
        return (
            f"The model has {zone} the red zone: {step.value:.0f} exceptions in {DAYS_JUDGED} "
            f"days, and {rule.limit:.0f} may be"
        )
    name = METRICS[rule.rule_id][0]
    value, limit = f"{step.value:.4f}", f"{rule.limit:.4f}"
    if step.level >= AlertLevel.BREACH:
        return f"{name} exceeded threshold: {value} > {limit}"
    if step.level is AlertLevel.WARNING:
        return f"{name} approaching threshold: {value}, {step.value / rule.limit:.0%} of {limit}"
    return f"{name} back within threshold: {value} <= {limit}"


def _value(occasion: Occasion | None, rule: Rule) -> float:
    """What a rule judged last; its limit, where that is not known any more."""
    value = None if occasion is None else occasion.values.get(rule.rule_id)
    return rule.limit if value is None else value
