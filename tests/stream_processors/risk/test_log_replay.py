"""A replay of the log finds the alerts that were raised, and those that another method would."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from kafka_io.dead_letters import log_time_us
from producers.market.prices import load_prices, trading_days
from schemas.events import Return, ReturnBatch, RiskAlert, RiskLimit, RiskLimits
from schemas.topics import PORTFOLIO_RETURNS, RISK_ALERTS, RISK_LIMITS
from stream_processors.agents.risk import Risk
from stream_processors.messages import Admitted
from stream_processors.risk.log_replay import LogQuery, LogReplay, replay_log
from tests.support.messages import FakeMessage, admitted, message
from tests.support.processor_bench import ProcessorBench
from tests.support.risk_log import DAY_US, OLD, PORTFOLIOS, RED, SHORT, STEPS, Scene, Step, log_of

END_US = 60_000_000
BEGIN_S = 1_700_000_000.0


def messages_of(log: Sequence[FakeMessage]) -> list[Admitted]:
    return [admitted(received) for received in log]


def query_of(scene: Scene, name: str, method: str = "historical") -> LogQuery:
    return LogQuery(name, None, method, scene.settings.risk_config())


def alerts_of(found: LogReplay) -> list[RiskAlert]:
    return [past.alert for past in found.alerts]


async def ran(log: Sequence[FakeMessage], scene: Scene) -> list[RiskAlert]:
    """Return the alerts of the running system."""
    bench = ProcessorBench(Risk(scene.settings))
    alerts = (await bench.run(log)).sent(RISK_ALERTS, RiskAlert)
    end_us = log_time_us(log[-1]) + END_US
    return alerts + (await bench.tick(end_us)).sent(RISK_ALERTS, RiskAlert)


def test_of_equal_times_limits_come_first() -> None:
    values = [Return("p", day * DAY_US, 0.01 * (-1) ** day) for day in range(1, 41)]
    log = [message(PORTFOLIO_RETURNS, ReturnBatch(returns=values))._replace(timestamp=BEGIN_S)]
    limits = RiskLimits(portfolio_id="p", limits=[RiskLimit("var_95", 0.005)], event_time_us=0)
    log.append(message(RISK_LIMITS, limits)._replace(timestamp=BEGIN_S))
    found = replay_log(messages_of(log), query_of(SHORT, "p"), "var_95", 0)
    [raised] = alerts_of(found)
    assert raised.event_time_us == 22 * DAY_US, "the first day with a measure"


def test_a_method_is_measured_anew_after_a_return_that_is_not_in_the_tail() -> None:
    values = [Return("p", day * DAY_US, 0.001 * (-1) ** day) for day in range(1, 41)]
    values.append(Return("p", 41 * DAY_US, 0.06))
    log = [message(PORTFOLIO_RETURNS, ReturnBatch(returns=values))._replace(timestamp=BEGIN_S)]
    found = replay_log(messages_of(log), query_of(SHORT, "p", "normal"), "var_95", 0)
    [raised] = alerts_of(found)
    assert (raised.event_time_us, raised.level) == (41 * DAY_US, "warning")


@given(
    steps=STEPS,
    scene=st.sampled_from([SHORT, OLD, RED]),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_the_alerts_are_those_that_were_raised(
    steps: list[Step], scene: Scene, random: Random
) -> None:
    log = list(asyncio.run(log_of(steps, scene)))
    alerts = asyncio.run(ran(log, scene))
    end_us = log_time_us(log[-1]) + END_US
    random.shuffle(log)  # as topics are read one after another
    for name in PORTFOLIOS:
        found = replay_log(messages_of(log), query_of(scene, name), "var_95", end_us)
        assert alerts_of(found) == [alert for alert in alerts if alert.entity_id == name]


def history(symbol: str) -> list[FakeMessage]:
    """Return real returns, a day a message, with a stricter limit after 1,000 days."""
    returns = [
        observation
        for day in trading_days(load_prices())[:2_300]
        for observation in day.at_close()
        if observation.portfolio_id == symbol
    ]
    log = [
        message(PORTFOLIO_RETURNS, ReturnBatch(returns=[value]), offset)._replace(
            timestamp=BEGIN_S + offset
        )
        for offset, value in enumerate(returns)
    ]
    limits = RiskLimits(
        portfolio_id=symbol, limits=[RiskLimit("var_95", 0.03)], event_time_us=1_000_000
    )
    return [*log, message(RISK_LIMITS, limits)._replace(timestamp=BEGIN_S + 999.5)]


@pytest.mark.parametrize("method", ["historical", "normal", "ewma", "cornish_fisher", "fhs"])
def test_any_method_is_judged_by_the_limits_of_the_time(method: str) -> None:
    log = history("MSFT") if method != "fhs" else history("MSFT")[:500] + history("MSFT")[-1:]
    found = replay_log(messages_of(log), query_of(RED, "MSFT", method), "var_95", 0)
    alerts = [alert for alert in alerts_of(found) if alert.rule_id == "var_95"]
    limits = {alert.threshold for alert in alerts}
    assert limits <= {0.02, 0.03}
    assert alerts
    assert {alert.method for alert in alerts} == {method}
    first = log[min(999, len(log) - 2)]
    if method != "fhs":
        [before, after] = found.bounds
        assert (before.limit, after.limit) == (0.02, 0.03)
        record = admitted(first).record
        assert isinstance(record, ReturnBatch)
        assert after.at_us == record.returns[0].event_time_us


def test_a_portfolio_that_has_moved_to_a_new_partition_goes_on() -> None:
    log = history("MSFT")
    straight = replay_log(messages_of(log), query_of(RED, "MSFT"), "var_95", 0)
    grown = [
        received._replace(partition=8, offset=max(received.offset - 500, 0))
        if received.timestamp >= BEGIN_S + 500
        else received
        for received in log
    ]
    found = replay_log(messages_of(grown), query_of(RED, "MSFT"), "var_95", 0)
    assert found.bounds == straight.bounds
    assert [(at.event_time_us, at.state) for at in alerts_of(found)] == [
        (at.event_time_us, at.state) for at in alerts_of(straight)
    ]


def test_alerts_that_end_with_a_lap_are_of_that_lap() -> None:
    def lap(number: int, first: int) -> list[FakeMessage]:
        values = [Return("p", day, 0.1 * (-1) ** day) for day in range(first, 130)]
        batch = ReturnBatch(returns=values, lap=number)
        return [message(PORTFOLIO_RETURNS, batch, number)._replace(timestamp=number)]

    found = replay_log(messages_of(lap(0, 0) + lap(1, 3)), query_of(SHORT, "p"), "var_95", 0)
    steps = [(past.lap, past.alert.state) for past in found.alerts]
    assert steps == [(0, "raised"), (0, "cleared"), (1, "raised")]


def test_the_losses_in_scenarios_are_those_at_the_end() -> None:
    steps = [
        Step("scenario", 1, 0, 0.03, version=1),
        Step("scenario", 1, 1, 0.05, version=1),
    ]
    log = asyncio.run(log_of(steps, SHORT))
    found = {
        name: replay_log(messages_of(log), query_of(SHORT, name), "var_95", 0).stress
        for name in PORTFOLIOS
    }
    assert [loss.loss for loss in found["p"]] == [None]
    assert [loss.loss for loss in found["q"]] == [0.5]


def test_another_tenants_log_is_another_one() -> None:
    log = [received._replace(headers=[("tenant", b"acme")]) for received in history("MSFT")[:200]]
    asked = query_of(RED, "MSFT")
    assert replay_log(messages_of(log), asked, "var_95", 0) == LogReplay([], [], [])
    of_acme = replay_log(messages_of(log), replace(asked, tenant="acme"), "var_95", 0)
    assert len(of_acme.bounds) == 1
