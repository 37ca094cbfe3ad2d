"""The alerts of one entity: the state of every rule that it is watched by. Pure.

Measures, changed rules, acknowledgements and the time arrive; alert events leave. Beside the rules
on VaR and ES, which are data, each portfolio is watched by a rule on its VaR model, and, if its
limits ask for it, for missing measures.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from schemas.events import AlertAck, AlertTransition, RiskAlert, WatchState
from schemas.instants import LATEST_US
from stream_processors.risk.alert_events import (
    AlertContext,
    alert_event,
    message,
    severity,
    stale_event,
)
from stream_processors.risk.rules import MODEL_RULE, STALE, is_stress
from stream_processors.risk.takeover import replace_alert
from stream_processors.risk.thresholds import (
    AlertLevel,
    AlertState,
    Evaluation,
    Rule,
    Transition,
    acknowledge,
    clear_stale,
    judge,
    raise_stale,
    withdraw,
)

_NO_ALERT = AlertState()
_US = 1_000_000


class KnownAlerts(NamedTuple):
    """The alerts of one portfolio as clients know them."""

    states: Mapping[str, AlertState]
    """The states by rule."""
    rules: Mapping[str, Rule]
    """The rules by their ids."""
    context: AlertContext | None
    """The last measure; None if there was none."""

    def value(self, rule_id: str) -> float:
        """Return the value that a rule judged last; 0 where there is no such rule."""
        rule = self.rules.get(rule_id)
        return 0.0 if rule is None else _value(self.context, rule)


class Alerts:
    """The rules of one entity, such as a portfolio or a book, and the state of each."""

    def __init__(self, entity_id: str, rules: tuple[Rule, ...]) -> None:
        self._entity_id = entity_id
        self._states: dict[str, AlertState] = {}
        """The states that differ from `_NO_ALERT`, by rule."""
        self._judged_us: dict[str, int] = {}
        """The event time of the last measure that each rule judged. It is kept apart from the
        states, since it changes with every measure."""
        self._steady: NamedTuple | None = None
        """The measurement that was judged last, if it changed nothing but that time."""
        self._steady_exceptions: float | None = None
        """The number of exceptions that was judged with it."""
        self._steady_us: int | None = None
        """The event time at which both were judged again, unchanged."""
        self.rules = rules
        self.stress: Mapping[str, float | None] = {}
        """The losses in stress scenarios, by the rules that bound them."""
        self.stale_after_s: float | None = None
        """After how many seconds without a new measure to alert; None: never."""

    def unpack(self, watches: Iterable[WatchState]) -> None:
        """Continue from packed states."""
        for watch in watches:
            state = AlertState(
                level=AlertLevel(watch.level),
                run=tuple(AlertLevel(level) for level in watch.run),
                run_up=watch.run_up,
                alert_id=watch.alert_id,
                transitions=watch.transitions,
                judged_us=watch.judged_us,
                acknowledged=watch.acknowledged,
            )
            self._put(watch.rule_id, state)

    def pack(self) -> list[WatchState]:
        """Return the state of each rule."""
        self._note_times()
        rules = sorted(self._states.keys() | self._judged_us.keys())
        states = ((rule_id, self._states.get(rule_id, _NO_ALERT)) for rule_id in rules)
        return [
            WatchState(
                rule_id=rule_id,
                level=state.level,
                run=state.run,
                run_up=state.run_up,
                alert_id=state.alert_id,
                transitions=state.transitions,
                judged_us=self._judged_us.get(rule_id),
                acknowledged=state.acknowledged,
            )
            for rule_id, state in states
        ]

    def rule(self, rule_id: str) -> Rule | None:
        """Return a rule; None where the entity does not have it."""
        return next((rule for rule in (*self.rules, MODEL_RULE) if rule.rule_id == rule_id), None)

    def open_alerts(self) -> Iterable[tuple[str, bool]]:
        """Yield the severity of each open alert, and whether it is acknowledged."""
        for rule_id, state in self._states.items():
            if state.level is not AlertLevel.NORMAL:
                yield severity(rule_id, state.level), state.acknowledged

    @property
    def open_ids(self) -> frozenset[str]:
        """The ids of the open alerts, except of those about missing measures."""
        return frozenset(
            state.alert_id
            for rule_id, state in self._states.items()
            if state.alert_id is not None and rule_id != STALE
        )

    def judge(
        self,
        measurement: NamedTuple,
        exceptions: float | None,
        at_us: int,
        context: Callable[[], AlertContext],
        *,
        evaluation: Evaluation = Evaluation.MEASURE,
    ) -> Sequence[RiskAlert]:
        """Judge a new measure by every rule.

        Args:
            measurement: the values of the metrics, by the ids of the rules.
            exceptions: the value of the rule on the model; None where there is none to judge.
            at_us: the event time of both.
            context: returns what an alert event needs; called only if there may be one.
            evaluation: whether the measure is of a newer window, or follows from a correction.
        """
        if self.is_steady(measurement, exceptions):
            self.note_steady(at_us)
            return ()
        self._settle()
        events: list[RiskAlert] = []
        is_steady = True
        for rule in self.rules:
            value: float | None = (
                self.stress.get(rule.rule_id)
                if is_stress(rule.rule_id)
                else getattr(measurement, rule.rule_id)
            )
            if value is not None and not self._is_steady(rule, value, at_us):
                self._judge_by(rule, context(), events, evaluation)
                is_steady = False
        if exceptions is not None and not self._is_steady(MODEL_RULE, exceptions, at_us):
            self._judge_by(MODEL_RULE, context(), events, evaluation)
            is_steady = False
        if is_steady:
            self._steady, self._steady_exceptions = measurement, exceptions
        return events

    def is_steady(self, measurement: NamedTuple, exceptions: float | None) -> bool:
        """Return whether it is known that a measure of these numbers changes nothing."""
        return measurement is self._steady and exceptions == self._steady_exceptions

    def note_steady(self, at_us: int) -> None:
        """Note the event time of a measure that changes nothing else."""
        self._steady_us = at_us

    def change_rules(
        self, rules: tuple[Rule, ...], version: str, context: AlertContext | None
    ) -> list[RiskAlert]:
        """Replace the rules, and judge the last measure by those that have changed.

        Args:
            rules: all rules from now on.
            version: a text that no other change has, for the ids of new alerts.
            context: the last measure, if there was one.
        """
        self._settle()
        events: list[RiskAlert] = []
        kept = {rule.rule_id for rule in rules}
        unchanged = set(self.rules)
        for rule in self.rules:
            state = self._states.get(rule.rule_id)
            if state is not None and rule.rule_id not in kept:
                del self._states[rule.rule_id]
                self._judged_us.pop(rule.rule_id, None)
                transition = withdraw(state, _value(context, rule))
                if transition is not None and context is not None:
                    text = "the limit was withdrawn"
                    events.append(alert_event(self._entity_id, rule, transition, context, text))
        self.rules = rules
        if context is not None:
            for rule in rules:
                if rule not in unchanged:
                    self._judge_by(rule, context, events, Evaluation.LIMITS, version)
        return events

    def change_stress(
        self,
        losses: Mapping[str, float | None],
        rule_id: str,
        version: str,
        context: AlertContext | None,
    ) -> list[RiskAlert]:
        """Replace the losses in stress scenarios after one has changed, and judge that one.

        Args:
            losses: the losses by the rules that bound them.
            rule_id: the rule on the scenario that has changed.
            version: a text that no other change has, for the ids of new alerts.
            context: the last measure with these losses, if there was one.
        """
        self._settle()
        self.stress = losses
        rule, events = self.rule(rule_id), list[RiskAlert]()
        if rule is None or context is None:
            return events
        if rule_id in losses:
            self._judge_by(rule, context, events, Evaluation.CORRECTION, version)
            return events
        state = self._states.pop(rule_id, _NO_ALERT)
        self._judged_us.pop(rule_id, None)
        transition = withdraw(state, _value(context, rule))
        if transition is not None:
            text = "the scenario was withdrawn"
            events.append(alert_event(self._entity_id, rule, transition, context, text))
        return events

    def known(self, context: AlertContext | None) -> KnownAlerts:
        """Return what clients know, with the last measure."""
        self._settle()
        rules = {rule.rule_id: rule for rule in (*self.rules, MODEL_RULE)}
        return KnownAlerts(dict(self._states), rules, context)

    def take_over(
        self, present: KnownAlerts, context: AlertContext | None, sent: Mapping[str, int]
    ) -> list[RiskAlert]:
        """Replace the present alerts by these, which were rebuilt, and tell what differs.

        Args:
            present: what clients know.
            context: the last measure after the rebuild.
            sent: the transitions that clients have had of alerts that are not open at present, by
                the alert's id.
        """
        rebuilt = self.known(context)
        events: list[RiskAlert] = []
        for rule_id in sorted((rebuilt.states.keys() | present.states.keys()) - {STALE}):
            state = rebuilt.states.get(rule_id, _NO_ALERT)
            after, transitions = replace_alert(
                present.states.get(rule_id, _NO_ALERT),
                state,
                sent=sent.get(state.alert_id or "", 0),
                present_value=present.value(rule_id),
                value=rebuilt.value(rule_id),
            )
            if state.alert_id is not None:
                self._states[rule_id] = after
            for transition in transitions:
                of = present if transition.level is AlertLevel.NORMAL else rebuilt
                rule = of.rules.get(rule_id)
                if rule is not None and of.context is not None:
                    text = _rebuilt_text(transition, rule)
                    event = alert_event(self._entity_id, rule, transition, of.context, text)
                    events.append(event)
        # Whether measures are missing is a matter of the clock, so that alert goes on.
        self._states.pop(STALE, None)
        if STALE in present.states:
            self._states[STALE] = present.states[STALE]
        return events

    def end_history(self, context: AlertContext) -> list[RiskAlert]:
        """Clear all open alerts, and forget what was judged; the rules stay.

        The alert about missing measures goes on, until there is a measure again.
        """
        self._settle()
        events = []
        for rule_id, state in sorted(self._states.items()):
            # The order is by rule, as after a restart.
            rule = self.rule(rule_id)
            if rule is None:
                continue
            transition = withdraw(state, _value(context, rule))
            if transition is not None:
                text = "cleared: the history begins again"
                events.append(alert_event(self._entity_id, rule, transition, context, text))
        stale = self._states.get(STALE)
        self._states, self._judged_us = {} if stale is None else {STALE: stale}, {}
        return events

    def acknowledge(self, ack: AlertAck, context: AlertContext) -> list[RiskAlert]:
        """Acknowledge the open alert that an acknowledgement names, if it is this entity's."""
        self._settle()
        for rule_id, state in list(self._states.items()):
            rule = self.rule(rule_id)
            if state.alert_id != ack.alert_id or (rule is None and rule_id != STALE):
                continue
            after_s = self.stale_after_s or 0.0
            value = after_s if rule is None else _value(context, rule)
            self._states[rule_id], transition = acknowledge(state, value)
            if transition is None:
                return []
            text = _ack_text(ack)
            if rule is None:
                return [stale_event(self._entity_id, transition, context, after_s, text, ack)]
            return [alert_event(self._entity_id, rule, transition, context, text, ack)]
        return []

    @property
    def is_stale(self) -> bool:
        """Whether the alert about missing measures is open."""
        return STALE in self._states

    def stale_from_us(self, since_us: int) -> int | None:
        """Return the time from which an alert about missing measures is due; None for never.

        Args:
            since_us: when the last measure arrived.
        """
        after_s = self.stale_after_s
        if after_s is None or self.is_stale:
            return None
        return since_us + int(min(after_s * _US, LATEST_US)) + 1

    def raise_stale(self, context: AlertContext, version: str = "") -> RiskAlert:
        """Raise the alert about missing measures, after the last one.

        Args:
            context: the last measure.
            version: a text for the alert's id, if there may have been one after the same measure.
        """
        after_s = self.stale_after_s or 0.0
        self._settle()
        cause = f"{self._entity_id}:{context.measure_id}{version}"
        # The alert is the same whenever somebody looks, so its age is that at which it was due.
        self._states[STALE], transition = raise_stale(STALE, cause, after_s + 1 / _US)
        return stale_event(self._entity_id, transition, context, after_s)

    def clear_stale(self, context: AlertContext, text: str | None = None) -> RiskAlert:
        """Clear the alert about missing measures, which is open; the text is the message."""
        transition = clear_stale(self._states.pop(STALE))
        return stale_event(self._entity_id, transition, context, self.stale_after_s or 0.0, text)

    def change_stale_after(
        self, stale_after_s: float | None, context: AlertContext
    ) -> list[RiskAlert]:
        """Change how long measures may be missing. Where that is no concern any more, it clears."""
        events = []
        if stale_after_s is None and self.is_stale:
            events = [self.clear_stale(context, "the limit on missing measures was withdrawn")]
        self.stale_after_s = stale_after_s
        return events

    def _settle(self) -> None:
        """Prepare for a change of rules or states."""
        self._note_times()
        self._steady = None

    def _note_times(self) -> None:
        """Note for each rule the time of the last measure that changed nothing."""
        if self._steady_us is not None:
            self._judged_us = dict.fromkeys(self._judged_us, self._steady_us)
            self._steady_us = None

    def _is_steady(self, rule: Rule, value: float, at_us: int) -> bool:
        """Judge a value that changes nothing but the time, as nearly every value does."""
        state = self._states.get(rule.rule_id)
        if state is None:
            steady = value <= rule.lowest_threshold
        else:
            steady = not state.run and rule.holds_level(value, state.level)
        if steady:
            self._judged_us[rule.rule_id] = at_us
        return steady

    def _judge_by(
        self,
        rule: Rule,
        context: AlertContext,
        events: list[RiskAlert],
        evaluation: Evaluation,
        version: str = "",
    ) -> None:
        state = self._states.get(rule.rule_id, _NO_ALERT)
        after, transition = judge(
            rule,
            replace(state, judged_us=self._judged_us.get(rule.rule_id)),
            entity_id=self._entity_id,
            measure_id=context.measure_id + version,
            at_us=context.as_of_us,
            value=context.values.get(rule.rule_id),
            evaluation=evaluation,
        )
        self._put(rule.rule_id, after)
        if transition is not None:
            text = message(transition, rule)
            events.append(alert_event(self._entity_id, rule, transition, context, text))

    def _put(self, rule_id: str, state: AlertState) -> None:
        if state.judged_us is not None:
            self._judged_us[rule_id] = state.judged_us
        if state.level is AlertLevel.NORMAL and not state.run:
            self._states.pop(rule_id, None)
        else:
            self._states[rule_id] = state


def _ack_text(ack: AlertAck) -> str:
    by = f" by {ack.by}" if ack.by else ""
    cause = f" ({ack.cause})" if ack.cause else ""
    comment = f": {ack.comment}" if ack.comment else ""
    return f"acknowledged{by}{cause}{comment}"


def _rebuilt_text(transition: Transition, rule: Rule) -> str:
    """Return the message of a transition that a rebuild has caused."""
    match transition.kind:
        case AlertTransition.CLEARED:
            return "cleared: the past was rebuilt"
        case AlertTransition.ACKNOWLEDGED:
            return "acknowledged"
        case _:
            return message(transition, rule)


def _value(context: AlertContext | None, rule: Rule) -> float:
    """Return the value that a rule judged last, or its limit where that value is unknown."""
    value = None if context is None else context.values.get(rule.rule_id)
    return rule.limit if value is None else value
