"""A rebuilt past that takes the place of the present one: what clients learn."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings, strategies as st

from schemas.events import AlertAck, AlertTransition, Return, RiskAlert, RiskLimit, RiskLimits
from schemas.topics import TopicPartition
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.risk.takeover import replace_alert
from stream_processors.risk.thresholds import AlertLevel, AlertState, Rule

SOURCE = TopicPartition("portfolio.returns", 3)
DAY_US = 86_400_000_000
CONFIG = RiskConfig(
    window=30,
    observations_min=20,
    lateness_us=5 * DAY_US,
    default_rules=(Rule("var_95", 0.02, warn_ratio=0.8, critical_ratio=1.5),),
)
OTHER = replace(CONFIG, default_rules=(Rule("var_95", 0.025, critical_ratio=1.2),))
CLOSED = {AlertTransition.CLEARED, AlertTransition.STALE_CLEARED}
ID = "3b241101-e2bb-4255-8caf-4136c566a962"
OTHER_ID = "3b241101-e2bb-4255-8caf-4136c566a963"
OPEN = AlertState(level=AlertLevel.BREACH, alert_id=ID, transitions=1)


def sent(
    present: AlertState, rebuilt: AlertState, before: int = 0
) -> tuple[AlertState, list[tuple[str, str]]]:
    state, transitions = replace_alert(
        present, rebuilt, sent=before, present_value=0.03, value=0.03
    )
    return state, [(step.kind.value, step.transition_id) for step in transitions]


def kinds(present: AlertState, rebuilt: AlertState, before: int = 0) -> tuple[int, list[str]]:
    state, steps = sent(present, rebuilt, before)
    return state.transitions, [kind for kind, _ in steps]


def test_differences_are_sent_once_and_numbers_go_on_from_the_larger() -> None:
    critical = replace(OPEN, level=AlertLevel.CRITICAL, transitions=2)
    acknowledged = replace(OPEN, acknowledged=True, transitions=2)
    assert kinds(OPEN, OPEN) == (1, [])
    assert kinds(OPEN, critical) == (2, ["escalated"])
    assert kinds(critical, OPEN) == (3, ["deescalated"])
    assert kinds(OPEN, acknowledged) == (2, ["acknowledged"])
    assert kinds(OPEN, replace(critical, acknowledged=True, transitions=3)) == (
        3,
        ["escalated", "acknowledged"],
    )
    assert kinds(replace(OPEN, transitions=5), OPEN) == (6, ["raised"])
    assert kinds(acknowledged, replace(acknowledged, transitions=4)) == (4, ["acknowledged"])
    lower = replace(OPEN, level=AlertLevel.WARNING, transitions=3)
    assert kinds(acknowledged, lower) == (4, ["deescalated", "acknowledged"])
    assert kinds(AlertState(), OPEN) == (1, ["raised"])
    assert kinds(OPEN, AlertState()) == (0, ["cleared"])
    assert kinds(OPEN, replace(OPEN, alert_id=OTHER_ID)) == (1, ["cleared", "raised"])


def test_an_acknowledgement_survives_unless_the_alert_is_higher_than_it_was() -> None:
    acknowledged = replace(OPEN, acknowledged=True, transitions=2)
    state, steps = sent(acknowledged, replace(OPEN, transitions=2))
    assert state.acknowledged
    assert not steps
    higher = replace(OPEN, level=AlertLevel.CRITICAL, transitions=2)
    state, _ = sent(acknowledged, higher)
    assert not state.acknowledged


def test_transitions_after_a_rebuild_say_whether_the_alert_is_acknowledged() -> None:
    acknowledged = replace(OPEN, acknowledged=True, transitions=2)
    higher = replace(acknowledged, level=AlertLevel.CRITICAL, transitions=3)
    for present, rebuilt, said in (
        (OPEN, acknowledged, [True]),
        (OPEN, higher, [False, True]),
        (higher, OPEN, [True, True]),
        (OPEN, replace(higher, acknowledged=False), [False]),
        (AlertState(), acknowledged, [False, True]),
    ):
        _, transitions = replace_alert(present, rebuilt, sent=0, present_value=0.03, value=0.03)
        assert [transition.acknowledged for transition in transitions] == said


def test_an_alert_that_was_open_before_gets_numbers_that_clients_have_not_had() -> None:
    state, steps = sent(AlertState(), OPEN, before=4)
    assert state.transitions == 5
    first = sent(AlertState(), OPEN)[1]
    assert [kind for kind, _ in steps] == [kind for kind, _ in first]
    assert steps != first


class Step(NamedTuple):
    """One record of the log; the acknowledgement is of whatever alert is open in a straight run."""

    kind: str
    size: float = 0.0
    behind: int = 0


STEPS = st.lists(
    st.one_of(
        st.builds(Step, st.just("return"), st.sampled_from([0.001, 0.018, 0.022, 0.03, 0.05])),
        st.builds(
            Step, st.just("return"), st.sampled_from([0.001, 0.06]), st.integers(1, 4)
        ),  # late or corrected
        st.builds(Step, st.just("limits"), st.sampled_from([0.015, 0.02, 0.04])),
        st.just(Step("ack")),
    ),
    max_size=60,
)


class Desk:
    """A portfolio, and what its clients know."""

    def __init__(self, config: RiskConfig = CONFIG) -> None:
        self.config = config
        self.risk = PortfolioRisk("p", config, SOURCE)
        self.alerts: list[RiskAlert] = []

    def apply(self, records: Iterable[object], start: int = 0) -> None:
        for offset, record in enumerate(records, start):
            match record:
                case Return():
                    self.alerts += self.risk.apply(record, ReturnOffset(offset, 0))[1]
                case RiskLimits():
                    self.alerts += self.risk.set_limits(record, offset)
                case AlertAck():
                    self.alerts += self.risk.acknowledge(record, offset)
                case _:
                    raise AssertionError(record)

    def restart(self) -> None:
        self.risk = PortfolioRisk.unpack(self.risk.pack(), self.config, SOURCE.topic)

    def known(self) -> dict[str, tuple[str | None, bool]]:
        """Return the level of each open alert, and whether it is acknowledged, as clients know."""
        known: dict[str, tuple[str | None, bool]] = {}
        for alert in self.alerts:
            if alert.state in CLOSED:
                known.pop(alert.alert_id, None)
                continue
            is_acknowledged = alert.state is AlertTransition.ACKNOWLEDGED
            known[alert.alert_id] = alert.level, is_acknowledged
        return known

    def states(self) -> list[tuple[str | None, int, bool, int]]:
        return [
            (watch.alert_id, watch.level, watch.acknowledged, watch.transitions)
            for watch in self.risk.pack().watches
            if watch.alert_id is not None
        ]

    def take_over(self, rebuilt: "Desk") -> list[RiskAlert]:
        """Continue from a rebuilt portfolio; return the events."""
        unknown = rebuilt.risk.open_alert_ids - self.risk.open_alert_ids
        before = {
            alert_id: len(
                {alert.transition_id for alert in self.alerts if alert.alert_id == alert_id}
            )
            for alert_id in unknown
        }
        alerts = list(rebuilt.risk.take_over(self.risk, before))
        self.alerts += alerts
        self.risk, self.config = rebuilt.risk, rebuilt.config
        return alerts


def log_of(steps: Sequence[Step]) -> list[object]:
    """Return the records of a log; acknowledgements name the alert that is open by `CONFIG`."""
    random = np.random.default_rng(7)
    records: list[object] = []
    straight, day = Desk(), 0
    for _ in range(25):
        day += 1
        records.append(Return("p", day * DAY_US, 0.001 * (-1) ** day))
    straight.apply(records)
    for step in steps:
        record: object
        if step.kind == "limits":
            record = RiskLimits(
                portfolio_id="p", limits=[RiskLimit("var_95", step.size)], event_time_us=0
            )
        elif step.kind == "ack":
            alert_id = next(iter(straight.known()), ID)
            record = AlertAck(alert_id=alert_id, entity_id="p", by="ann", event_time_us=0)
        elif step.behind:
            value = float(-step.size * random.uniform(0.9, 1.1))
            record = Return("p", (day - step.behind) * DAY_US, value, version=len(records))
        else:
            day += 1
            record = Return("p", day * DAY_US, float(-step.size * random.uniform(0.9, 1.1)))
        straight.apply([record], len(records))
        records.append(record)
    return records


@given(STEPS, st.lists(st.integers(0, 80)), st.integers(0, 20), STEPS)
@settings(max_examples=60, deadline=None)
def test_a_rebuild_of_what_ran_tells_nothing_and_changes_nothing(
    steps: list[Step], restarts: list[int], repeated: int, more: list[Step]
) -> None:
    records = log_of([*steps, *more])
    middle = len(log_of(steps))
    straight = Desk()
    straight.apply(records[:middle])
    live = Desk()
    for offset, record in enumerate(records[:middle]):
        live.apply([record], offset)
        if offset in restarts:  # a stop or a kill; then some records are read again
            live.restart()
            again = max(0, offset - repeated)
            live.apply(records[again : offset + 1], again)
    rebuilt = Desk()
    rebuilt.apply(records[:middle])
    assert not live.take_over(rebuilt)
    assert live.states() == straight.states()
    for desk in (live, straight):
        desk.apply(records[middle:], middle)
    assert live.alerts == straight.alerts
    assert live.risk.pack() == straight.risk.pack()


@given(STEPS, STEPS, st.sampled_from([(), (CONFIG, OTHER)]))
@settings(max_examples=100, deadline=None)
def test_after_a_rebuild_clients_know_the_alerts_of_a_straight_run(
    steps: list[Step], more: list[Step], between: tuple[RiskConfig, ...]
) -> None:
    records = log_of([*steps, *more])
    middle = len(log_of(steps))
    straight, live = Desk(), Desk(OTHER)
    straight.apply(records[:middle])
    live.apply(records[:middle])
    for config in (*between, CONFIG):  # to and fro: what was cleared may be open again
        rebuilt = Desk(config)
        rebuilt.apply(records[:middle])
        live.take_over(rebuilt)
    kept = [(alert_id, level) for alert_id, level, _, _ in live.states()]
    assert kept == [(alert_id, level) for alert_id, level, _, _ in straight.states()]
    assert {of: level for of, (level, _) in live.known().items()} == {
        of: level for of, (level, _) in straight.known().items()
    }
    for desk in (live, straight):
        desk.apply(records[middle:], middle)
    # An acknowledgement that only the earlier past has taken may have survived in addition.
    assert [state[:2] for state in live.states()] == [state[:2] for state in straight.states()]
    ids = [alert.transition_id for alert in live.alerts]
    assert len(set(ids)) == len(ids)  # so none is dropped as a repeat


def test_alerts_of_an_unknown_portfolio_are_raised() -> None:
    records = log_of([Step("return", 0.05)] * 5)
    rebuilt = Desk()
    rebuilt.apply(records)
    assert [alert.state for alert in rebuilt.risk.take_over(None, {})] == ["raised"]


def test_a_second_acknowledgement_has_an_effect() -> None:
    records = log_of([Step("return", 0.025)] * 5)
    live = Desk()
    live.apply(records)
    rebuilt = Desk()
    rebuilt.apply(records)
    assert not live.take_over(rebuilt)
    alert_id = live.alerts[-1].alert_id
    ack = AlertAck(alert_id=alert_id, entity_id="p", by="ann", event_time_us=0)
    before = live.alerts[:]
    live.apply([ack], 100)
    assert [alert.state for alert in live.alerts[len(before) :]] == ["acknowledged"]
    again = Desk()
    again.apply([*records])  # the log has lost the acknowledgement
    assert not live.take_over(again)
    assert live.states()[0][2]


def test_a_temporary_limit_that_is_over_in_the_present_is_over_in_the_rebuilt_past() -> None:
    """A tick has ended it, and the rebuilt portfolio has had no message since."""
    limit = RiskLimit(
        "var_95", 0.02, temporary_limit=0.5, valid_until_us=50 * DAY_US, approved_by="bob"
    )
    limits = RiskLimits(portfolio_id="p", limits=[limit], event_time_us=0)
    records = [limits, *log_of([Step("return", 0.05)] * 5)]
    live, rebuilt = Desk(), Desk()
    for desk in (live, rebuilt):
        desk.apply(records)
    assert not live.alerts
    [raised] = live.risk.tick(50 * DAY_US)
    assert raised.state == "raised"
    live.alerts.append(raised)
    assert not live.take_over(rebuilt)
    assert [state[0] for state in live.states()] == [raised.alert_id]
