from array import array
from collections.abc import Iterable
from dataclasses import replace
from math import inf, isfinite, nan
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from producers.market.prices import load_prices, trading_days
from schemas.codec import decode, encode
from schemas.events import (
    PortfolioState,
    Return,
    ReturnOutcome,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    RiskMeasure,
)
from schemas.topics import PARTITIONS, TopicPartition
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.estimates import METHODS, Methods
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset, Together
from stream_processors.risk.thresholds import Rule
from stream_processors.stress import StressTest

CONFIG = RiskConfig(
    window=250,
    observations_min=100,
    lateness_us=0,
    default_rules=(Rule("var_95", 0.05),),
    rules={"strict": (Rule("var_95", 0.01),)},
)
SOURCE = TopicPartition("portfolio.returns", 3)


def history(symbol: str) -> list[Return]:
    return [
        observation
        for day in trading_days(load_prices())
        for observation in day.at_close()
        if observation.portfolio_id == symbol
    ]


def folded(
    returns: Iterable[Return], risk: PortfolioRisk, start: int = 0
) -> tuple[list[RiskMeasure | None], list[RiskAlert]]:
    measures: list[RiskMeasure | None] = []
    alerts: list[RiskAlert] = []
    for offset, observation in enumerate(returns, start):
        _, caused = risk.apply(observation, ReturnOffset(offset, 0))
        measures.append(risk.measure_event())
        alerts += caused
    return measures, alerts


@pytest.mark.parametrize("symbol", ["AAPL", "IBM", "equal-weight", "FB"])
def test_over_the_whole_history_measures_equal_numpys(symbol: str) -> None:
    returns = history(symbol)
    values = np.array([observation.value for observation in returns])
    measures, _ = folded(returns, PortfolioRisk(symbol, CONFIG, SOURCE))
    for count, found in enumerate(measures, 1):
        assert found is not None
        losses = -values[max(0, count - 250) : count]
        if count < 100:
            assert found.status == "insufficient_data"
            assert found.var_95 is None
            continue
        assert found.var_95 == np.quantile(losses, 0.95, method="inverted_cdf")
        assert found.var_99 == np.quantile(losses, 0.99, method="inverted_cdf")
        beyond = np.maximum(losses - found.var_95, 0).sum() / (len(losses) * 0.05)
        assert found.es_95 == pytest.approx(found.var_95 + beyond, rel=1e-9)


def test_returns_are_calm_up_to_one_that_could_change_a_number() -> None:
    """That one is in the tail, or not newer, or it replaces one that is in the tail."""
    config = replace(CONFIG, window=100)

    def calm_of(*returns: tuple[int, float], log_us: int = 0, stale_after_s: float = 0.0) -> int:
        risk = PortfolioRisk("p", config, SOURCE)
        before = [-0.02 if day in (3, 20) or day > 95 else 0.01 for day in range(101)]
        folded([Return("p", day, value) for day, value in enumerate(before)], risk)
        if stale_after_s:
            limits = RiskLimits(
                portfolio_id="p", limits=(), stale_after_s=stale_after_s, event_time_us=0
            )
            risk.set_limits(limits, 0, 0)
        found = [
            (Return("p", day, value), number, 0) for number, (day, value) in enumerate(returns)
        ]
        offsets, times_us = range(101, 101 + len(returns)), [log_us] * len(returns)
        return risk.apply_calm(found, 0, Together(offsets, times_us, 0, 500, log_us))

    assert calm_of((101, 0.01), (102, 0.02), (103, 0.01)) == 2  # the third day was in the tail
    assert calm_of((101, 0.01), (102, -0.03)) == 1
    assert calm_of((101, 0.01), (101, 0.01)) == 1
    assert calm_of((101, 0.01), (501, 0.01)) == 1
    assert calm_of((101, -0.0), (102, 0.01)) == 0
    assert calm_of((101, nan), (102, 0.01)) == 0
    assert calm_of((101, inf), (102, 0.01)) == 0
    assert calm_of((101, 0.01), stale_after_s=60.0) == 0


def test_the_crises_of_2000_and_2008_raise_alerts() -> None:
    _, alerts = folded(history("MSFT"), PortfolioRisk("MSFT", CONFIG, SOURCE))
    assert [alert.state for alert in alerts[:2]] == ["raised", "cleared"]
    raised = [alert for alert in alerts if alert.state == "raised" and alert.rule_id == "var_95"]
    years = {1970 + alert.event_time_us // 31_556_952_000_000 for alert in raised}
    assert {2000, 2008} <= years
    assert all(alert.message.startswith("VaR exceeded threshold: 0.05") for alert in raised[1:])


def test_an_alert_names_its_limit_scenario_and_source() -> None:
    _, alerts = folded(history("AAPL"), PortfolioRisk("AAPL", CONFIG, SOURCE))
    alert = alerts[0]
    assert alert.message == f"VaR exceeded threshold: {alert.metric_value:.4f} > 0.0500"
    assert (alert.severity, alert.level, alert.state) == ("high", "breach", "raised")
    assert alert.utilisation == pytest.approx(alert.metric_value / 0.05)
    assert (alert.source_topic, alert.source_partition) == ("portfolio.returns", 3)
    scenario = next(
        observation
        for observation in history("AAPL")
        if observation.event_time_us == alert.scenario_us
    )
    assert -scenario.value == alert.metric_value


def test_a_portfolio_may_have_a_limit_of_its_own() -> None:
    risk = PortfolioRisk("strict", CONFIG, SOURCE)
    _, alerts = folded(history("IBM"), risk)
    assert alerts[0].threshold == 0.01


EVERYTHING = replace(
    CONFIG,
    default_rules=(Rule("var_95", 0.03), Rule("es_95", 0.04, warn_ratio=0.8)),
    methods=Methods(
        names=METHODS[:-1],
        levels=tuple(map(ConfidenceLevel.of, ("0.95", "0.99"))),
        horizons=(1, 10),
        slower_every=7,
    ),
)


@pytest.mark.parametrize("config", [CONFIG, EVERYTHING])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_restart_at_any_point_changes_nothing(config: RiskConfig, data: st.DataObject) -> None:
    """The state is encoded and decoded; after it, records are read a second time."""
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count = data.draw(st.integers(1, 400))
    values = generator.normal(0, generator.choice([0.01, 0.04], size=count))
    returns = [
        Return(portfolio_id="p", event_time_us=at, value=float(value))
        for at, value in enumerate(values)
    ]
    straight = PortfolioRisk("p", config, SOURCE)
    measures, alerts = folded(returns, straight)

    stop = data.draw(st.integers(0, count))
    read_again = data.draw(st.integers(0, stop))
    risk = PortfolioRisk("p", config, SOURCE)
    _, first_alerts = folded(returns[:stop], risk)
    state = decode(encode(risk.pack()))
    assert isinstance(state, PortfolioState)
    risk = PortfolioRisk.unpack(state, config, SOURCE.topic)
    _, more_alerts = folded(returns[read_again:], risk, start=read_again)

    assert first_alerts + more_alerts == alerts
    assert risk.pack() == straight.pack()
    if stop < count:
        assert risk.measure_event() == measures[-1]


def test_a_return_at_or_before_the_states_offset_is_skipped() -> None:
    risk = PortfolioRisk("p", CONFIG, SOURCE)
    observation = Return(portfolio_id="p", event_time_us=1, value=0.1)
    assert risk.apply(observation, ReturnOffset(5, 2))[0] is ReturnOutcome.ACCEPTED
    assert risk.apply(observation, ReturnOffset(5, 2))[0] is None
    assert risk.apply(observation, ReturnOffset(4, 9))[0] is None
    assert risk.apply(observation, ReturnOffset(5, 3))[0] is ReturnOutcome.DUPLICATE
    assert risk.outcomes == {"accepted": 1, "duplicate": 1}


LATE = replace(CONFIG, lateness_us=10**9)


def test_a_correction_that_puts_the_var_over_its_limit_is_judged_at_once() -> None:
    risk = PortfolioRisk("p", LATE, SOURCE)
    calm = [Return(portfolio_id="p", event_time_us=at, value=0.001 * at) for at in range(120)]
    folded(calm, risk)
    corrected = [
        Return(portfolio_id="p", event_time_us=at, value=-0.2, version=2) for at in range(20)
    ]
    measures, (alert,) = folded(corrected, risk, start=200)
    # Of 120 returns, VaR at 95 % is the seventh largest loss.
    assert (alert.state, alert.source_offset) == ("raised", 206)
    assert measures[-1] is not None
    assert measures[-1].var_95 == 0.2
    assert {measure.as_of_us for measure in measures if measure} == {119}
    assert len({measure.event_id for measure in measures if measure}) == 20


def exceptions_of(risk: PortfolioRisk) -> list[int]:
    measure = risk.measure_event()
    assert measure is not None
    return [test.exceptions for test in measure.model_backtests]


def test_a_fat_finger_that_is_corrected_leaves_no_exception() -> None:
    """-50 % is corrected to +0.1 % before the next return."""
    values = [0.001 * (at % 20 - 10) if at < 100 else 0.001 for at in range(220)]
    for at, value in {5: -0.05, 35: -0.05, 65: -0.05, 170: -0.02, 180: -0.02, 190: -0.02}.items():
        values[at] = value
    right = [Return("p", at, value) for at, value in enumerate(values)]
    straight = PortfolioRisk("p", CONFIG, SOURCE)
    folded(right, straight)
    assert exceptions_of(straight) == [3, 0]

    wrong = [*right[:200], Return("p", 200, -0.5)]
    risk = PortfolioRisk("p", CONFIG, SOURCE)
    folded(wrong, risk)
    assert exceptions_of(risk) == [4, 1]
    risk = PortfolioRisk.unpack(restored(risk.pack()), CONFIG, SOURCE.topic)
    folded([Return("p", 200, 0.001, 2)], risk, start=201)
    assert exceptions_of(risk) == [3, 0]
    folded(right[201:], risk, start=202)
    assert exceptions_of(risk) == [3, 0]


def test_the_methods_that_need_the_whole_window_see_a_correction_at_once() -> None:
    methods = Methods(
        names=("fhs", "age_weighted"), levels=(ConfidenceLevel.of("0.95"),), slower_every=20
    )
    config = replace(LATE, methods=methods)
    returns = [Return("p", at, 0.001 * ((at * 7) % 11 - 5)) for at in range(127)]
    risk = PortfolioRisk("p", config, SOURCE)
    folded(returns, risk)
    before = risk.measure_event()
    folded([Return("p", 126, -0.3, 2)], risk, start=200)
    after = risk.measure_event()
    assert before is not None
    assert after is not None
    assert {estimate.as_of_us for estimate in before.estimates} == {119}
    assert {estimate.as_of_us for estimate in after.estimates} == {126}
    assert all(estimate.var and estimate.var > 0.004 for estimate in after.estimates)


SHORT = replace(
    LATE, window=30, observations_min=20, default_rules=(Rule("var_95", 0.02, raise_after=2),)
)
"""The days of the backtest are more than those in the window."""

Arrival = tuple[int, int, int]
"""Event time, version, and a value in permille."""


class Reference:
    """One portfolio, computed anew from all that has arrived at each return. Slow and plain."""

    def __init__(self) -> None:
        self.days: dict[int, Arrival] = {}
        self.forecasts: dict[int, tuple[float | None, float | None]] = {}
        self.standing: tuple[float | None, float | None] = (None, None)

    def add(self, arrival: Arrival) -> None:
        at_us, version, _ = arrival
        known = self.days.get(at_us)
        if known is not None and version <= known[1]:
            return
        if known is None:
            later = [day for day in self.days if day > at_us]
            self.forecasts[at_us] = self.forecasts[min(later)] if later else self.standing
        self.days[at_us] = arrival
        losses = -np.array(self.values[-SHORT.window :])
        if len(losses) >= SHORT.observations_min:
            self.standing = (float(np.quantile(losses, 0.95, method="inverted_cdf")), None)

    @property
    def values(self) -> list[float]:
        return [self.days[day][2] / 1000 for day in sorted(self.days)]

    @property
    def exceptions(self) -> int:
        return sum(
            -self.days[day][2] / 1000 > var
            for day, (var, _) in self.forecasts.items()
            if var is not None
        )


arrivals = st.lists(
    st.tuples(st.integers(0, 70), st.integers(1, 3), st.integers(-40, 40)), max_size=140
)


@given(arrivals, st.data())
@settings(max_examples=60, deadline=None)
def test_exceptions_alerts_and_ids_are_those_of_one_pass_over_the_log(
    log: list[Arrival], data: st.DataObject
) -> None:
    """Also with late, corrected and repeated returns, and restarts at any point."""
    reference = Reference()
    straight, restarted = (PortfolioRisk("p", SHORT, SOURCE) for _ in range(2))
    alerts: list[RiskAlert] = []
    alerts_after_restarts: list[RiskAlert] = []
    stops = data.draw(st.sets(st.integers(0, 140)))
    for offset, arrival in enumerate(log):
        at_us, version, permille = arrival
        observation = Return("p", at_us, permille / 1000, version)
        reference.add(arrival)
        _, caused = straight.apply(observation, ReturnOffset(offset, 0))
        alerts += caused
        if offset in stops:
            restarted = PortfolioRisk.unpack(restored(restarted.pack()), SHORT, SOURCE.topic)
        _, caused = restarted.apply(observation, ReturnOffset(offset, 0))
        alerts_after_restarts += caused
    assert alerts_after_restarts == alerts
    assert restarted.pack() == straight.pack()
    measure = straight.measure_event()
    assert (measure is None) == (not log)
    if measure is not None:
        assert [value.value for value in straight.returns] == reference.values[-SHORT.window :]
        found = {test.confidence: test.exceptions for test in measure.model_backtests}
        assert found.get(0.95, 0) == reference.exceptions


@given(arrivals, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_windows_and_measures_do_not_depend_on_the_order_of_arrival(
    log: list[Arrival], random: Random
) -> None:
    """They equal one computation on the final data: of each time, the highest version."""
    final: dict[int, Arrival] = {}
    for arrival in log:
        known = final.get(arrival[0])
        if known is None or arrival[1] > known[1]:
            final[arrival[0]] = arrival
    shuffled = [*final.values(), *(final[arrival[0]] for arrival in log)]
    random.shuffle(shuffled)
    lower = [(at_us, version - 1, 39) for at_us, version, _ in final.values() if version > 1]
    mixed = [*shuffled, *lower]
    random.shuffle(mixed)
    for records in (shuffled, mixed):
        risk, at_once = (PortfolioRisk("p", SHORT, SOURCE) for _ in range(2))
        folded([Return("p", at, value / 1000, version) for at, version, value in records], risk)
        ordered = sorted(final.values())
        folded([Return("p", at, value / 1000, version) for at, version, value in ordered], at_once)
        measure, expected = risk.measure_event(), at_once.measure_event()
        assert risk.returns == at_once.returns
        if measure is not None and expected is not None:
            assert (measure.var_95, measure.es_95, measure.status, measure.observations) == (
                expected.var_95,
                expected.es_95,
                expected.status,
                expected.observations,
            )


def test_a_higher_lap_begins_the_history_again_and_clears_what_is_open() -> None:
    returns = history("AAPL")[:400]
    risk = PortfolioRisk("AAPL", CONFIG, SOURCE)
    measures, alerts = folded(returns, risk)
    assert [alert.state for alert in alerts] == ["raised"]
    first_lap = [replace(measure, source_offset=0) for measure in measures if measure]

    outcome, cleared = risk.apply(returns[0], ReturnOffset(400, 0), lap=1)
    assert outcome is ReturnOutcome.ACCEPTED
    assert [alert.state for alert in cleared] == ["cleared"]
    assert cleared[0].message == "cleared: the history begins again"
    assert cleared[0].alert_id == alerts[0].alert_id
    begun = risk.measure_event()
    assert begun is not None
    assert (begun.observations, begun.status) == (1, "insufficient_data")
    again: list[RiskMeasure] = []
    raised: list[RiskAlert] = []
    for offset, observation in enumerate(returns[1:], 401):
        # A restart in the middle of a lap goes on in that lap.
        risk = PortfolioRisk.unpack(restored(risk.pack()), CONFIG, SOURCE.topic)
        _, caused = risk.apply(observation, ReturnOffset(offset, 0), lap=1)
        measure = risk.measure_event()
        assert measure is not None
        again.append(measure)
        raised += caused
    assert [replace(measure, source_offset=0, event_id="") for measure in again] == [
        replace(measure, event_id="") for measure in first_lap[1:]
    ]
    assert {measure.event_id for measure in again}.isdisjoint(
        measure.event_id for measure in first_lap
    )
    (alert,) = raised
    assert alert.event_time_us == alerts[0].event_time_us
    assert alert.alert_id != alerts[0].alert_id
    assert alert.event_id != alerts[0].event_id


def test_a_restart_does_not_change_the_order_in_which_a_lap_clears_alerts() -> None:
    rules = (Rule("var_95", 0.01), Rule("es_95", 0.01))
    config = replace(CONFIG, window=20, observations_min=20, default_rules=rules)
    straight = PortfolioRisk("p", config, SOURCE)
    folded((Return("p", day, -0.1) for day in range(20)), straight)
    restarted = PortfolioRisk.unpack(restored(straight.pack()), config, SOURCE.topic)
    first = Return("p", 0, 0.0), ReturnOffset(20, 0)
    cleared = straight.apply(*first, lap=1)
    assert len(cleared[1]) == 2
    assert restarted.apply(*first, lap=1) == cleared


def test_a_return_of_an_earlier_lap_is_late() -> None:
    risk = PortfolioRisk("p", CONFIG, SOURCE)
    risk.apply(Return("p", 1, 0.01), ReturnOffset(0, 0), lap=2)
    assert risk.apply(Return("p", 2, 0.01), ReturnOffset(1, 0), lap=1) == (ReturnOutcome.LATE, ())
    assert len(risk.returns) == 1


def test_a_refused_return_of_a_higher_lap_begins_no_history() -> None:
    risk = PortfolioRisk("p", CONFIG, SOURCE)
    risk.apply(Return("p", 1, 0.01), ReturnOffset(0, 0))
    bad = [
        (Return("p", 2, float("nan")), ReturnOutcome.REJECTED),
        (Return("p", -(10**18), 0.01), ReturnOutcome.REJECTED),
        (Return("p", 11, 0.01), ReturnOutcome.FUTURE),
    ]
    for offset, (observation, outcome) in enumerate(bad, 1):
        where = ReturnOffset(offset, 0)
        assert risk.apply(observation, where, latest_us=10, lap=1) == (outcome, ())
    assert (len(risk.returns), risk.lap) == (1, 0)
    assert risk.outcomes == {"accepted": 1, "rejected": 2, "future": 1}
    risk.apply(Return("p", 1, 0.01), ReturnOffset(4, 0), latest_us=10, lap=1)
    assert (len(risk.returns), risk.lap) == (1, 1)


@pytest.mark.parametrize("at_us", [50, 55])
def test_a_late_return_before_all_days_is_no_evaluation_and_not_accepted(at_us: int) -> None:
    rule = Rule("var_95", 0.05, raise_after=2)
    config = replace(CONFIG, window=20, observations_min=20, lateness_us=10**9)
    risk = PortfolioRisk("p", replace(config, default_rules=(rule,)), SOURCE)
    values = [0.0] * 300 + [-0.1, -0.1]
    _, alerts = folded((Return("p", 10 * day, value) for day, value in enumerate(values)), risk)
    returns = risk.returns
    # Day 50 had a return, which is not kept any more: it cannot be told from one that is late.
    late = Return("p", at_us, 0.0)
    assert risk.apply(late, ReturnOffset(302, 0)) == (ReturnOutcome.LATE, ())
    assert risk.moves_prices(late, ReturnOutcome.LATE, 0), "it is within the lateness"
    assert not risk.moves_prices(late, ReturnOutcome.LATE, 1)
    assert (risk.returns, alerts) == (returns, [])
    _, [raised] = risk.apply(Return("p", 10 * 302, 0.0), ReturnOffset(303, 0))
    assert raised.state == "raised"
    assert risk.outcomes == {"accepted": 303, "late": 1}


def test_a_return_older_than_a_window_that_is_not_full_is_accepted_once() -> None:
    risk = PortfolioRisk("p", replace(CONFIG, lateness_us=10**9), SOURCE)
    folded((Return("p", day, 0.01) for day in range(10, 100)), risk)
    early = Return("p", 1, 0.01)
    assert risk.apply(early, ReturnOffset(90, 0))[0] is ReturnOutcome.ACCEPTED
    assert risk.apply(early, ReturnOffset(91, 0))[0] is ReturnOutcome.DUPLICATE


def restored(state: PortfolioState) -> PortfolioState:
    kept = decode(encode(state))
    assert isinstance(kept, PortfolioState)
    return kept


def test_a_measure_that_is_published_again_has_another_id_unless_it_is_the_same() -> None:
    """Else edges and clients would take it for a repeat."""

    def measured(risk: PortfolioRisk) -> RiskMeasure:
        measure = risk.measure_event()
        assert measure is not None
        return measure

    returns = [Return("p", at, 0.001 * (at % 20 - 10)) for at in range(121)]
    configs = (LATE, LATE, replace(LATE, window=110))
    risk, same, other = (PortfolioRisk("p", config, SOURCE) for config in configs)
    folded(returns[:120], risk)
    first = measured(risk)
    crash = StressTest("crash", 1, {"p": -0.2}, others_are_unmoved=False)
    risk.change_stress([crash], "crash", 1)
    assert measured(risk).event_id == f"{first.event_id}:scenario/crash/1"
    limited = RiskLimits(portfolio_id="p", limits=[RiskLimit("var_95", 0.5)], event_time_us=7)
    risk.set_limits(limited, 5)
    assert measured(risk).event_id == f"{first.event_id}:limits/5"
    for rebuilt in (same, other):
        rebuilt.set_stress([crash])
        rebuilt.set_limits(limited, 5)
        folded(returns[:120], rebuilt)
        rebuilt.take_over(risk, {}, "v2")
    assert measured(same) == measured(risk)
    assert measured(other).event_id == f"{first.event_id}:rebuild/v2"
    folded(returns[120:], risk, start=120)
    assert measured(risk).event_id == "measure:p:1970-01-01T00:00:00.000120Z/1"


def test_an_alert_over_a_loss_beyond_all_others_has_no_utilisation() -> None:
    returns = [Return("p", at, 1.7e308 * (-1) ** at) for at in range(120)]
    _, (raised,) = folded(returns, PortfolioRisk("p", CONFIG, SOURCE))
    assert (raised.state, raised.metric_value, raised.utilisation) == ("raised", 1.7e308, None)


def test_an_estimate_that_is_not_a_number_has_a_status_instead() -> None:
    """First with too few returns, then with returns so large that moments overflow."""
    risk = PortfolioRisk("p", replace(EVERYTHING, default_rules=()), SOURCE)
    measures, _ = folded(
        [Return(portfolio_id="p", event_time_us=at, value=0.01 * (at % 7)) for at in range(99)],
        risk,
    )
    (few,) = measures[-1:]
    assert few is not None
    missing = {(estimate.status, estimate.reason) for estimate in few.estimates}
    assert missing == {("insufficient_data", ""), ("unavailable", "not_scaled")}
    assert {estimate.var for estimate in few.estimates} == {None}
    huge = [
        Return(portfolio_id="p", event_time_us=99 + at, value=1e300 * (-1) ** at)
        for at in range(20)
    ]
    measures, _ = folded(huge, risk, start=99)
    (large,) = measures[-1:]
    assert large is not None
    closed = [estimate for estimate in large.estimates if estimate.method in ("normal", "ewma")]
    assert closed
    assert all(estimate.var is None or isfinite(estimate.var) for estimate in large.estimates)
    assert {estimate.status for estimate in closed if estimate.horizon == 1} == {"unavailable"}
    assert decode(encode(large)) == large
    numbers = (large.es_95, large.es_99, large.drawdown, large.volatility, large.utilisation)
    assert all(number is None or isfinite(number) for number in numbers)
    # When these returns have left the window, all estimates are available again.
    calm = [
        Return(portfolio_id="p", event_time_us=200 + at, value=0.01 * (at % 7 - 3))
        for at in range(300)
    ]
    measures, _ = folded(calm, risk, start=200)
    (last,) = measures[-1:]
    assert last is not None
    known = [estimate for estimate in last.estimates if not estimate.reason]
    assert {estimate.status for estimate in known} == {"ok", "out_of_domain"}
    assert {e.method for e in known if e.status == "out_of_domain"} == {"cornish_fisher"}


def test_alerts_of_equal_offsets_in_an_earlier_and_an_added_partition_have_their_own_ids() -> None:
    limits = RiskLimits(
        portfolio_id="IBM", limits=[RiskLimit(metric="var_95", limit=0.001)], event_time_us=0
    )
    calm = replace(CONFIG, default_rules=(Rule("var_95", 0.9),))
    ids = set()
    for partition in (3, PARTITIONS, PARTITIONS + 1):
        risk = PortfolioRisk("IBM", calm, TopicPartition("portfolio.returns", partition))
        folded(history("IBM")[:300], risk)
        [alert] = risk.set_limits(limits, 7)
        ids.add(alert.alert_id)
    assert len(ids) == 3


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_no_number_of_a_portfolio_without_risk_is_minus_zero(zero: float) -> None:
    methods = replace(EVERYTHING.methods, names=METHODS, overlapping=True)
    risk = PortfolioRisk("p", replace(EVERYTHING, methods=methods), SOURCE)
    measures, _ = folded([Return("p", at, zero) for at in range(300)], risk)
    shown = repr(measures[-1])
    assert "=0.0," in shown
    assert "=-0.0," not in shown
    history = risk.history_event()
    assert history is not None
    assert "-0.0" not in str(array("d", history.window[8 * history.observations :]))
