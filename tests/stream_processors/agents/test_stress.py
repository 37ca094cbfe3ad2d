"""Stress scenarios in the processors of portfolios and books, run without Kafka."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import pytest

from schemas.codec import decode
from schemas.events import (
    Book,
    BookRisk,
    Holding,
    OpenAlert,
    OtherSeries,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    RiskMeasure,
    Scenario,
    Shock,
    StressLoss,
)
from schemas.keys import scenario_key
from schemas.topics import (
    PORTFOLIO_RETURNS,
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_SCENARIOS,
    RISK_STATE,
)
from stream_processors.agents.books import Books
from stream_processors.agents.risk import Risk
from stream_processors.settings import ProcessorSettings
from tests.support.messages import FakeMessage, message
from tests.support.processor_bench import ProcessorBench
from tests.support.risk_log import take_over

SETTINGS = ProcessorSettings(risk_methods=("historical",), risk_observations_min=20, risk_draws=100)
NEVER_US = 1 << 52


def scenario(
    version: int, *, withdrawn: bool = False, tenant: str = "", **shocks: float
) -> FakeMessage:
    record = Scenario(
        name="lehman",
        version=version,
        kind="historical",
        shocks=[Shock(name, value) for name, value in shocks.items()],
        others=OtherSeries.MISSING,
        withdrawn=withdrawn,
        event_time_us=0,
    )
    return message(RISK_SCENARIOS, record, version, tenant=tenant)


def returns(offset: int, first: int, count: int = 30, tenant: str = "") -> FakeMessage:
    values = [Return("p", at, 0.02 * (-1) ** at) for at in range(first, first + count)]
    return message(PORTFOLIO_RETURNS, ReturnBatch(returns=values), offset, tenant=tenant)


def limits(offset: int, *given: RiskLimit, tenant: str = "") -> FakeMessage:
    record = RiskLimits(portfolio_id="p", limits=given, event_time_us=0)
    return message(RISK_LIMITS, record, offset, tenant=tenant)


def lost(
    version: int, loss: float | None, amount: float | None = None, missing: Sequence[str] = ()
) -> StressLoss:
    return StressLoss("lehman", version, loss, amount, list(missing))


BOUND = RiskLimit("stress_loss:lehman", 0.25, warn_ratio=0.8)


async def test_a_portfolio_is_valued_by_a_scenario_when_it_is_put_and_with_each_return() -> None:
    bench = ProcessorBench(Risk(SETTINGS))
    await bench.run([returns(0, 0)])
    [before] = bench.journal.sent(RISK_MEASURES, RiskMeasure)
    assert before.stress == []
    journal = await bench.run([scenario(1, p=-0.3), scenario(2, q=-0.3)])
    [put] = journal.sent(RISK_MEASURES, RiskMeasure)
    event_id = f"{before.event_id}:scenario/lehman/2"  # or an edge would take it for a repeat
    assert put == replace(before, event_id=event_id, stress=[lost(2, None, missing=["p"])])
    journal = await bench.run([scenario(3, p=-0.3)], [returns(1, 30)])
    [put, later] = journal.sent(RISK_MEASURES, RiskMeasure)
    assert put.stress == later.stress == [lost(3, 0.3)]
    again = await bench.run([scenario(3, p=-0.4)])
    assert again.sent(RISK_MEASURES, RiskMeasure) == []


async def test_scenarios_are_their_tenants() -> None:
    bench = ProcessorBench(Risk(SETTINGS))
    await bench.run([returns(0, 0), returns(1, 0, tenant="acme")])
    journal = await bench.run([scenario(1, tenant="acme", p=-0.3)])
    [measure] = journal.sent(RISK_MEASURES, RiskMeasure)
    assert measure.stress
    assert bench.journal.rows.keys() >= {
        (RISK_STATE.name, scenario_key("lehman", "acme")),
        (RISK_MEASURES.name, b"acme\xffp"),
    }
    assert (RISK_STATE.name, scenario_key("lehman")) not in bench.journal.rows


async def test_a_stress_loss_raises_escalates_and_clears_an_alert() -> None:
    bench = ProcessorBench(Risk(SETTINGS))
    await bench.run([returns(0, 0), limits(0, BOUND)])
    assert bench.journal.sent(RISK_ALERTS, RiskAlert) == []
    journal = await bench.run(
        [scenario(1, p=-0.22)],
        [scenario(2, p=-0.3)],
        [returns(1, 30)],
        [scenario(3, p=-0.1)],
    )
    alerts = journal.sent(RISK_ALERTS, RiskAlert)
    assert [(alert.state, alert.alert_type, alert.message) for alert in alerts] == [
        (
            "raised",
            "stress_exceeded",
            "Stress loss in lehman approaching threshold: 0.2200, 88% of 0.2500",
        ),
        (
            "escalated",
            "stress_exceeded",
            "Stress loss in lehman exceeded threshold: 0.3000 > 0.2500",
        ),
        (
            "cleared",
            "stress_exceeded",
            "Stress loss in lehman back within threshold: 0.1000 <= 0.2500",
        ),
    ]
    assert len({alert.alert_id for alert in alerts}) == 1
    assert {alert.metric_name for alert in alerts} == {"stress_loss:lehman"}
    assert {alert.scenario_us for alert in alerts} == {None}
    assert bench.journal.table(RISK_OPEN) == {}


async def test_a_limit_on_a_scenario_that_stands_is_judged_at_once() -> None:
    bench = ProcessorBench(Risk(SETTINGS))
    await bench.run([scenario(1, p=-0.3), returns(0, 0)])
    journal = await bench.run([limits(0, BOUND)])
    [alert] = journal.sent(RISK_ALERTS, RiskAlert)
    assert (alert.state, alert.metric_value, alert.severity) == ("raised", 0.3, "high")


async def test_a_withdrawn_scenario_ends_its_alert() -> None:
    bench = ProcessorBench(Risk(SETTINGS))
    await bench.run([scenario(1, p=-0.3), returns(0, 0), limits(0, BOUND)])
    journal = await bench.run([scenario(2, withdrawn=True)], [returns(1, 30)])
    [alert] = journal.sent(RISK_ALERTS, RiskAlert)
    assert (alert.state, alert.message) == ("cleared", "the scenario was withdrawn")
    assert [measure.stress for measure in journal.sent(RISK_MEASURES, RiskMeasure)] == [[], []]
    assert journal.rows[RISK_STATE.name, scenario_key("lehman")] is None


LOG = (
    returns(0, 0),
    limits(0, BOUND, RiskLimit("var_95", 0.01)),
    scenario(1, p=-0.3),
    returns(1, 30, 5),
    scenario(2, p=-0.22),
    returns(2, 35, 5),
    scenario(3, withdrawn=True),
    scenario(4, p=-0.9),
    limits(1, RiskLimit("stress_loss:lehman", 0.95)),
)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("restarts", [False, True])
async def test_alerts_are_the_same_whatever_the_batches_and_restarts(
    size: int,
    *,
    restarts: bool,
) -> None:
    async def run(batches: Sequence[Sequence[FakeMessage]], *, restart: bool) -> list[RiskAlert]:
        bench = ProcessorBench(Risk(SETTINGS))
        found = []
        for batch in batches:
            found.append(list((await bench.run(batch)).sent(RISK_ALERTS, RiskAlert)))
            if restart:
                bench.processor = Risk(SETTINGS)
                bench.recover(bench.rows())
        [*_, state] = bench.journal.table(RISK_MEASURES).values()
        assert state.stress == [lost(4, 0.9)]
        return list(chain.from_iterable(found))

    expected = await run([LOG], restart=False)
    assert len(expected) == 6
    batches = [LOG[start : start + size] for start in range(0, len(LOG), size)]
    assert await run(batches, restart=restarts) == expected


@pytest.mark.parametrize("middle", range(len(LOG) + 1))
async def test_a_rebuild_that_is_behind_learns_the_scenarios_that_were_read(
    middle: int,
) -> None:
    live, rebuilt = ProcessorBench(Risk(SETTINGS)), ProcessorBench(Risk(SETTINGS))
    live.recover({}, row_limit=0)
    later = [scenario(5, p=-0.1), returns(3, 40, 5), scenario(6, p=-0.97)]
    sent = (await live.run(LOG)).sent(RISK_ALERTS, RiskAlert)
    await rebuilt.run(LOG[:middle])
    journal = await take_over(live, rebuilt.rows(), [*LOG[middle:], later[0]], sent)
    assert journal.sent(RISK_ALERTS, RiskAlert) == []
    straight = ProcessorBench(Risk(SETTINGS))
    await straight.run(LOG)
    for bench in (live, straight):
        await bench.run(later)
    alerts = straight.journal.sent(RISK_ALERTS, RiskAlert)
    assert [alert.state for alert in alerts] == ["cleared", "raised"]
    assert live.journal.sent(RISK_ALERTS, RiskAlert) == alerts
    assert live.rows() == straight.rows()


async def test_an_open_stress_alert_has_its_row() -> None:
    bench = ProcessorBench(Risk(SETTINGS))
    await bench.run([returns(0, 0), limits(0, BOUND), scenario(1, p=-0.3)])
    [row] = bench.journal.sent(RISK_OPEN, OpenAlert)
    assert (row.rule_id, row.alert_type) == ("stress_loss:lehman", "stress_exceeded")


def book(book_id: str, **held: float) -> FakeMessage:
    holdings = [Holding(name, value / 10, 10.0, NEVER_US) for name, value in held.items()]
    record = Book(root="firm", book_id=book_id, holdings=holdings, event_time_us=0)
    return message(RISK_BOOKS, record, 0, tenant="acme")


async def test_a_tree_is_valued_by_a_scenario_and_by_todays_holdings() -> None:
    bench = ProcessorBench(Books(SETTINGS))
    await bench.run([book("tech", AAPL=1_000.0), book("old", IBM=-400.0)])
    await bench.run([scenario(1, tenant="acme", AAPL=-0.25, IBM=-0.1)])
    found = {risk.book_id: risk for risk in bench.journal.sent(RISK_BOOK_RISKS, BookRisk)}
    assert {name: list(risk.stress) for name, risk in found.items()} == {
        "tech": [lost(1, 0.25, 250.0)],
        "old": [lost(1, None, -40.0)],
        "firm": [lost(1, 0.35, 210.0)],
    }
    [row] = [decode(bench.journal.rows[RISK_BOOK_STATE.name, scenario_key("lehman", "acme")])]
    assert isinstance(row, Scenario)
    assert row.tenant == "acme"
    bench.processor = Books(SETTINGS)
    bench.recover(bench.rows())
    await bench.run([book("tech", AAPL=2_000.0)])
    found = {risk.book_id: risk for risk in bench.journal.sent(RISK_BOOK_RISKS, BookRisk)}
    assert found["firm"].stress == [lost(1, 460.0 / 1_600.0, 460.0)]
    assert found.keys() == {"tech", "firm"}
    await bench.run([scenario(2, tenant="other", AAPL=-1.0)])
    assert bench.journal.sent(RISK_BOOK_RISKS, BookRisk) == []
    await bench.run([scenario(2, tenant="acme", withdrawn=True)])
    assert [risk.stress for risk in bench.journal.sent(RISK_BOOK_RISKS, BookRisk)] == [[]] * 3
