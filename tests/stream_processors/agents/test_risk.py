"""The processor that measures portfolios, run without Kafka."""

from collections import Counter

import pytest

from schemas.events import (
    AlertAck,
    DeadLetter,
    OpenAlert,
    PortfolioState,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskHistory,
    RiskLimit,
    RiskLimits,
    RiskMeasure,
    SeriesWanted,
    WindowTally,
)
from schemas.topics import (
    DASHBOARD_TALLIES,
    DEAD_LETTERS,
    PORTFOLIO_RETURNS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_HISTORY,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_STATE,
    RISK_WANTED,
)
from stream_processors.agents.risk import Risk
from stream_processors.settings import ProcessorSettings
from tests.support.messages import FakeMessage, message
from tests.support.processor_bench import NUMBER, ProcessorBench


def bench() -> ProcessorBench:
    settings = ProcessorSettings(risk_methods=("historical",), risk_observations_min=20)
    return ProcessorBench(Risk(settings))


def returns(count: int = 30, size: float = 0.02) -> ReturnBatch:
    values = [Return("p", at, size * (-1) ** at) for at in range(count)]
    return ReturnBatch(returns=values)


def limit(value: float, offset: int) -> FakeMessage:
    limits = [RiskLimit("var_95", value)]
    return message(
        RISK_LIMITS, RiskLimits(portfolio_id="p", limits=limits, event_time_us=0), offset
    )


async def test_alerts_and_measures_are_written_with_the_state_in_a_round_that_ends_at_once() -> (
    None
):
    journal = await bench().run([message(PORTFOLIO_RETURNS, returns(), 7), limit(0.01, 0)])
    [alert] = journal.sent(RISK_ALERTS, RiskAlert)
    assert (alert.state, alert.threshold, alert.source_offset) == ("raised", 0.01, 7)
    assert [row.alert_id for row in journal.sent(RISK_OPEN, OpenAlert)] == [alert.alert_id]
    [measure] = journal.sent(RISK_MEASURES, RiskMeasure)
    assert (measure.var_95, measure.observations) == (0.02, 30)
    [tally] = journal.sent(DASHBOARD_TALLIES, WindowTally)
    assert tally.counts == {"returns": 30, "risk_measures": 1}
    [state] = journal.sent(RISK_STATE, PortfolioState)
    assert (state.offset, state.partition) == (7, 2)
    assert journal.order == [
        RISK_ALERTS.name,
        RISK_OPEN.name,
        RISK_MEASURES.name,
        DASHBOARD_TALLIES.name,
        RISK_STATE.name,
    ]
    assert journal.ended_early == [True]


async def test_a_cleared_alert_is_deleted_from_the_open_ones() -> None:
    made = bench()
    await made.run([message(PORTFOLIO_RETURNS, returns(), 7), limit(0.01, 0)])
    [alert] = made.journal.sent(RISK_ALERTS, RiskAlert)
    journal = await made.run([limit(0.5, 1)])
    assert [cleared.state for cleared in journal.sent(RISK_ALERTS, RiskAlert)] == ["cleared"]
    assert journal.rows[RISK_OPEN.name, alert.alert_id.encode()] is None


async def test_open_alerts_are_counted_until_they_are_acknowledged_or_cleared() -> None:
    made = bench()
    await made.run([message(PORTFOLIO_RETURNS, returns(), 7), limit(0.01, 0)])
    [alert] = made.journal.sent(RISK_ALERTS, RiskAlert)
    await made.tick()
    assert +Counter(made.processor.open_alerts()) == {(alert.severity, False): 1}
    ack = AlertAck(alert_id=alert.alert_id, entity_id="p", by="ann", event_time_us=0)
    await made.run([message(RISK_ACKS, ack, 0)])
    await made.tick()
    assert +Counter(made.processor.open_alerts()) == {(alert.severity, True): 1}
    await made.run([limit(0.5, 1)])
    await made.tick()
    found = made.processor.open_alerts()
    assert found is not None
    assert set(found.values()) == {0}
    assert (alert.severity, False) in found


async def test_a_record_that_is_read_again_causes_no_event() -> None:
    made = bench()
    batches = [message(PORTFOLIO_RETURNS, returns(), 7)]
    await made.run(batches)
    journal = await made.run(batches)
    assert journal.order == []


async def test_an_undecodable_record_is_a_dead_letter_and_stops_nothing() -> None:
    made = bench()
    journal = await made.run(
        [message(PORTFOLIO_RETURNS, b"nonsense", 6)],
        [message(PORTFOLIO_RETURNS, returns(), 7)],
    )
    assert [letter.offset for letter in journal.sent(DEAD_LETTERS, DeadLetter)] == [6]
    assert len(journal.sent(RISK_MEASURES, RiskMeasure)) == 1


async def test_a_history_is_written_at_most_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1_000_000_000]
    monkeypatch.setattr("stream_processors.agents.risk.now_us", lambda: clock[0])
    made = bench()
    await made.run([message(PORTFOLIO_RETURNS, returns(), 7)])
    [history] = (await made.tick()).sent(RISK_HISTORY, RiskHistory)
    assert (history.portfolio_id, history.observations, history.as_of_us) == ("p", 30, 29)
    await made.run([message(PORTFOLIO_RETURNS, returns(31), 8)])
    clock[0] += 9_000_000
    assert (await made.tick()).sent(RISK_HISTORY, RiskHistory) == []
    clock[0] += 1_000_000
    [later] = (await made.tick()).sent(RISK_HISTORY, RiskHistory)
    assert (later.observations, len(later.var_95)) == (31, 8 * 31)
    clock[0] += 10_000_000
    assert (await made.tick()).sent(RISK_HISTORY, RiskHistory) == [], "nothing has changed"


async def test_a_worker_that_takes_over_writes_the_histories_that_it_finds() -> None:
    made = bench()
    await made.run([message(PORTFOLIO_RETURNS, returns(31), 7)])
    [before] = (await made.tick()).sent(RISK_HISTORY, RiskHistory)
    made.recover(made.rows())
    [history] = (await made.tick()).sent(RISK_HISTORY, RiskHistory)
    assert history == before
    assert len(history.var_95) == 8 * 31


async def test_a_time_that_is_reached_is_judged_only_if_all_before_it_was_read() -> None:
    made = bench()
    stale = RiskLimits(portfolio_id="p", limits=[], stale_after_s=5.0, event_time_us=0)
    await made.run([message(PORTFOLIO_RETURNS, returns(), 7)._replace(timestamp=100.0)])
    await made.run([message(RISK_LIMITS, stale, 0)._replace(timestamp=103.0)])
    assert not made.processor.needs_time(NUMBER, 105_000_000)
    assert made.processor.needs_time(NUMBER, 105_000_001)
    assert (await made.tick()).sent(RISK_ALERTS, RiskAlert) == [], "nobody knows the time"
    assert (await made.tick(105_000_000)).sent(RISK_ALERTS, RiskAlert) == []
    [alert] = (await made.tick(105_000_001)).sent(RISK_ALERTS, RiskAlert)
    assert alert.state == "stale"
    assert not made.processor.needs_time(NUMBER, 1 << 60)


async def test_a_tick_is_needed_while_something_has_changed_or_is_due() -> None:
    made = bench()
    await made.tick()
    assert not made.processor.needs_tick(NUMBER, 1 << 60)
    stale = RiskLimits(portfolio_id="p", limits=[], stale_after_s=5.0, event_time_us=0)
    await made.run([message(PORTFOLIO_RETURNS, returns(), 7)._replace(timestamp=100.0)])
    assert made.processor.needs_tick(NUMBER, 0)
    await made.run([message(RISK_LIMITS, stale, 0)._replace(timestamp=103.0)])
    await made.tick()
    assert not made.processor.needs_tick(NUMBER, 105_000_000)
    assert made.processor.needs_tick(NUMBER, 105_000_001)


async def test_a_message_of_another_portfolio_tells_the_time() -> None:
    made = bench()
    stale = RiskLimits(portfolio_id="p", limits=[], stale_after_s=5.0, event_time_us=0)
    other = ReturnBatch(returns=[Return("q", 1, 0.1)])
    wanted = SeriesWanted(series_id="q", root="fund", wanted=True, event_time_us=0)
    await made.run([message(RISK_LIMITS, stale, 0)._replace(timestamp=100.0)])
    await made.run([message(PORTFOLIO_RETURNS, other, 0)._replace(timestamp=104.0)])
    # Requests of books are read in no order with the others, so their times say nothing.
    await made.run([message(RISK_WANTED, wanted, 0)._replace(timestamp=110.0)])
    assert (await made.tick()).sent(RISK_ALERTS, RiskAlert) == []
    await made.run([message(PORTFOLIO_RETURNS, other, 1)._replace(timestamp=106.0)])
    [alert] = (await made.tick()).sent(RISK_ALERTS, RiskAlert)
    assert (alert.state, alert.entity_id) == ("stale", "p")
