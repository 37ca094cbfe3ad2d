from collections.abc import Iterable
from dataclasses import replace
from math import isfinite

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
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.risk.thresholds import Rule

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


def test_a_correction_of_the_past_changes_the_measure_and_does_not_judge_again() -> None:
    config = RiskConfig(
        window=250,
        observations_min=100,
        lateness_us=10**9,
        default_rules=(Rule("var_95", 0.05),),
    )
    risk = PortfolioRisk("p", config, SOURCE)
    calm = [Return(portfolio_id="p", event_time_us=at, value=0.001 * at) for at in range(120)]
    folded(calm, risk)
    corrected = [
        Return(portfolio_id="p", event_time_us=at, value=-0.2, version=2) for at in range(20)
    ]
    measures, alerts = folded(corrected, risk, start=200)
    assert alerts == []
    assert measures[-1] is not None
    assert measures[-1].var_95 == 0.2
    _, alerts = folded([Return(portfolio_id="p", event_time_us=120, value=0.0)], risk, start=300)
    assert [alert.state for alert in alerts] == ["raised"]


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


def test_a_return_of_an_earlier_lap_is_late() -> None:
    risk = PortfolioRisk("p", CONFIG, SOURCE)
    risk.apply(Return("p", 1, 0.01), ReturnOffset(0, 0), lap=2)
    assert risk.apply(Return("p", 2, 0.01), ReturnOffset(1, 0), lap=1) == (ReturnOutcome.LATE, ())
    assert len(risk.returns) == 1


def restored(state: PortfolioState) -> PortfolioState:
    kept = decode(encode(state))
    assert isinstance(kept, PortfolioState)
    return kept


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
    assert {estimate.status for estimate in few.estimates} == {"insufficient_data"}
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
    assert {estimate.status for estimate in last.estimates} == {"ok"}


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
