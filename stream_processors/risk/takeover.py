"""The transitions that lead from an alert as clients know it to the rebuilt one. Pure.

Both are states of one rule of one portfolio. They are compared by the alert's id, its level, its
acknowledgement and the number of its transitions; each difference is sent once. The numbers of the
transitions go on from the larger one, so no later transition has an id that clients have had.
"""

from dataclasses import replace

from schemas.events import AlertTransition
from stream_processors.risk.thresholds import (
    AlertLevel,
    AlertState,
    Transition,
    transition_of,
    withdraw,
)

_NO_ALERT = AlertState()


def replace_alert(
    present: AlertState, rebuilt: AlertState, *, sent: int, present_value: float, value: float
) -> tuple[AlertState, list[Transition]]:
    """Continue from a rebuilt state.

    Args:
        present: the state that clients know.
        rebuilt: the state after the rebuild.
        sent: how many transitions of the rebuilt alert clients have had, if it is not the present
            one: it may have been open and cleared before.
        present_value: the value of the metric in the present state.
        value: the value of the metric after the rebuild.

    Returns:
        The state from now on, and the transitions to send.
    """
    if present.alert_id == rebuilt.alert_id:
        return _continue(present, rebuilt, present.transitions, value)
    cleared = withdraw(present, present_value)
    state, transitions = _continue(_NO_ALERT, rebuilt, sent, value)
    return state, transitions if cleared is None else [cleared, *transitions]


def _continue(
    present: AlertState, rebuilt: AlertState, sent: int, value: float
) -> tuple[AlertState, list[Transition]]:
    """Continue from a rebuilt state of an alert that is the present one, or is not known."""
    alert_id = rebuilt.alert_id
    if alert_id is None:
        return rebuilt, []
    survives = present.acknowledged and rebuilt.level <= present.level
    if survives and not rebuilt.acknowledged:
        # The log may have deleted the acknowledgement; only an escalation takes it back.
        number = max(rebuilt.transitions, present.transitions)
        rebuilt = replace(rebuilt, acknowledged=True, transitions=number)
    kinds = _kinds(present, rebuilt)
    last = max(rebuilt.transitions, sent + len(kinds))
    numbers = range(last - len(kinds) + 1, last + 1)
    # A lower level keeps an acknowledgement.
    with_ack = {AlertTransition.ACKNOWLEDGED}
    if present.acknowledged:
        with_ack.add(AlertTransition.DEESCALATED)
    transitions = [
        replace(
            transition_of(alert_id, number, kind, rebuilt.level, value),
            acknowledged=kind in with_ack,
        )
        for number, kind in zip(numbers, kinds, strict=True)
    ]
    return replace(rebuilt, transitions=last), transitions


def _kinds(present: AlertState, rebuilt: AlertState) -> list[AlertTransition]:
    """Return the kinds of the transitions that lead from one state to the other."""
    kinds = []
    if present.level is AlertLevel.NORMAL:
        kinds.append(AlertTransition.RAISED)
    elif rebuilt.level > present.level:
        kinds.append(AlertTransition.ESCALATED)
    elif rebuilt.level < present.level:
        kinds.append(AlertTransition.DEESCALATED)
    if rebuilt.acknowledged and (kinds or not present.acknowledged):
        kinds.append(AlertTransition.ACKNOWLEDGED)
    if not kinds and present.transitions != rebuilt.transitions:
        # The alert is as clients know it, but came to be otherwise.
        is_acknowledged = rebuilt.acknowledged
        kinds.append(AlertTransition.ACKNOWLEDGED if is_acknowledged else AlertTransition.RAISED)
    return kinds
