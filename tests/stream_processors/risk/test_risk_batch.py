"""Batches of messages: the events that follow, also from bad records and other tenants' records."""

from dataclasses import replace
from math import inf, nan
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given, settings, strategies as st

from schemas.codec import decode, encode
from schemas.events import (
    AlertAck,
    DeadLetter,
    Event,
    PortfolioState,
    Record,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    RiskMeasure,
    Scenario,
    SeriesReturns,
    SeriesWanted,
    Shock,
    WindowTally,
)
from schemas.instants import LATEST_US
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.render import render_value
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.estimates import CLOSED, Methods
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.risk.risk_batch import RiskBatch, gauges_of
from stream_processors.risk.thresholds import Rule
from stream_processors.settings import ProcessorSettings
from tests.support.messages import FakeMessage, admitted

CONFIG = RiskConfig(
    window=50, observations_min=20, lateness_us=10, default_rules=(Rule("var_95", 0.01),)
)
RETURNS = "portfolio.returns"
SECOND = 1_000_000


def message(
    record: Record | bytes, offset: int, tenant: str | None = None, topic: str = RETURNS
) -> FakeMessage:
    value = record if isinstance(record, bytes) else encode(record)
    headers = [] if tenant is None else [("tenant", tenant.encode())]
    return FakeMessage(topic, 2, offset, b"p", value, headers)


class Desk:
    """Portfolios, and the events that follow from each batch."""

    def __init__(self, config: RiskConfig = CONFIG) -> None:
        self.config = config
        self.portfolios: dict[bytes, PortfolioRisk] = {}

    def process(self, *messages: FakeMessage) -> list[Event]:
        batch = RiskBatch(self.portfolios, self.config, RETURNS, SECOND)
        for received in messages:
            batch.apply(admitted(received))
        return [event for event, _ in batch.events()]


E = TypeVar("E")


def of(events: list[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def steady(count: int = 30) -> list[Return]:
    return [Return("p", at, 0.02 * (-1) ** at) for at in range(100, 100 + count)]


def test_each_bad_return_has_its_outcome_and_is_counted() -> None:
    bad = [
        Return("p", 130, nan),
        Return("p", 130, inf),
        Return("p", 129, 0.5),  # known
        Return("p", 128, 0.01, 2),  # corrects
        Return("p", 50, 0.1),  # late
    ]
    events = Desk().process(message(ReturnBatch(returns=[*steady(), *bad]), 7))
    [tally] = of(events, WindowTally)
    assert tally.counts == {
        "returns": 35,
        "returns_rejected": 2,
        "returns_duplicate": 1,
        "returns_corrected": 1,
        "returns_late": 1,
        "risk_measures": 1,
    }
    assert tally.window_start_us == 100 * SECOND
    letters = of(events, DeadLetter)
    assert [(letter.reason, letter.offset, letter.index) for letter in letters] == [
        ("invalid", 7, 30),
        ("invalid", 7, 31),
    ]
    [measure] = of(events, RiskMeasure)
    assert measure.observations == 30


def test_returns_with_an_impossible_or_future_time_are_refused_and_move_no_window() -> None:
    """As when nanoseconds are taken for microseconds."""
    desk = Desk(replace(CONFIG, ahead_us=50 * SECOND))
    allowed = 100_500_000 + 50 * SECOND
    bad = [
        Return("p", 2**62, 0.1),
        Return("p", -(2**62), 0.1),
        Return("p", 2**62, nan),
        Return("p", allowed + 1, 0.1),
    ]
    events = desk.process(message(ReturnBatch(returns=[*bad, *steady()]), 7))
    [tally] = of(events, WindowTally)
    assert (tally.counts["returns_future"], tally.counts["returns_rejected"]) == (2, 2)
    letters = of(events, DeadLetter)
    assert [letter.index for letter in letters] == [0, 1, 2, 3]
    assert "4611686018427387904, in microseconds since 1970 UTC" in letters[0].error
    assert f"to {allowed}" in letters[3].error
    [measure] = of(events, RiskMeasure)
    assert (measure.observations, measure.as_of_us) == (30, 129)
    # Without a bound, any event time is accepted that RFC 3339 can write.
    events = Desk().process(message(ReturnBatch(returns=bad), 7))
    assert of(events, WindowTally)[0].counts["returns_future"] == 1


def test_a_record_that_is_read_again_changes_nothing_and_is_not_counted() -> None:
    desk = Desk()
    batch = message(ReturnBatch(returns=steady()), 7)
    assert of(desk.process(batch), WindowTally)
    assert desk.process(batch) == []


def test_returns_of_one_time_are_applied_and_counted_as_one_by_one() -> None:
    found = []
    for at_once in (False, True):
        desk = Desk()
        batch = RiskBatch(desk.portfolios, CONFIG, RETURNS, 10 * SECOND)
        messages = [
            admitted(message(ReturnBatch(returns=[Return(f"p{day % 3}", day, 0.01)]), day))
            for day in range(30)
        ]
        messages[3:3] = [messages[2]]  # again: it has no effect
        messages += [
            admitted(message(ReturnBatch(returns=[Return("p1", 4, value)]), 40))
            for value in (0.02, nan)
        ]
        messages.append(admitted(message(ReturnBatch(returns=[Return("p1", 60, nan)]), 50, "t")))
        if at_once:
            batch.apply_returns(messages)
        else:
            for each in messages:
                batch.apply(each)
        found.append(list(batch.events()))
    assert found[0] == found[1]
    tallies = of([event for event, _ in found[1]], WindowTally)
    assert [(tally.first_offset, tally.last_offset) for tally in tallies] == [(0, 40), (50, 50)]
    assert tallies[0].counts["returns"] == 31  # 30 days, and one of them again


def odd(random: Random, name: str, day: int) -> Return:
    """Return a return that is seldom like the others."""
    value = random.gauss(0, 0.01)
    return random.choice(
        [
            Return(name, day, 0.0),
            Return(name, day, -0.0),
            Return(name, day, value, 2),
            Return(name, day, -0.05),
            Return(name, day, nan),
            Return(name, day, inf),
            Return(name, day - 1, value),
            Return(name, day - 1, value, 3),
            Return(name, day - 40, value),
            Return(name, LATEST_US, value),
        ]
    )


@pytest.mark.parametrize("stale_after_s", [None, 40.0])
@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([0.0, 0.05, 0.3]))
@settings(max_examples=20, deadline=None)
def test_returns_that_are_applied_together_are_applied_as_one_by_one(
    stale_after_s: float | None, seed: int, together: int, odd_share: float
) -> None:
    """Windows are full after 25 of 330 days, so that most returns are calm."""
    methods = Methods(("historical", *CLOSED, "age_weighted"), slower_every=7)
    config = replace(CONFIG, window=25, methods=methods, ahead_us=500 * SECOND)
    messages, names, random = [], ["p", "q"], Random(seed)
    for day in range(330):
        returns = [
            odd(random, name, day)
            if random.random() < odd_share
            else Return(name, day, random.gauss(0, 0.01))
            for name in names
        ]
        messages.append(
            admitted(FakeMessage(RETURNS, 2, day, None, encode(ReturnBatch(returns=returns)), ()))
        )
    limit = RiskLimits(
        portfolio_id="q",
        limits=[RiskLimit("var_95", 0.012)],
        stale_after_s=stale_after_s,
        event_time_us=1,
    )
    found = []
    for is_together in (False, True):
        desk, events = Desk(config), list[object]()
        desk.process(message(limit, 0, topic="risk.limits"))
        for start in range(0, len(messages), together):
            batch = RiskBatch(desk.portfolios, config, RETURNS, 10 * SECOND)
            part = messages[start : start + together]
            if is_together:
                batch.apply_returns(part)
            else:
                for each in part:
                    batch.apply(each)
            events += list(batch.events())
            events += [risk.pack() for _, risk in sorted(desk.portfolios.items())]
        found.append(events)
    assert repr(found[0]) == repr(found[1])  # which tells -0.0 from 0.0


def test_returns_of_portfolios_that_belong_elsewhere_are_passed_over() -> None:
    desk = Desk()
    batch = RiskBatch(desk.portfolios, CONFIG, RETURNS, SECOND)
    returns = [Return("p", 1, 0.01), Return("q", 1, 0.01), Return("p", 2, 0.01)]
    received = admitted(message(ReturnBatch(returns=returns), 7))
    batch.apply(received._replace(left_out=frozenset({"q"})))
    assert list(desk.portfolios) == [b"p"]
    assert desk.portfolios[b"p"].position == ReturnOffset(7, 2)


def test_another_tenants_limits_and_requests_change_nothing() -> None:
    desk = Desk()
    desk.process(message(ReturnBatch(returns=steady()), 7, tenant="acme"))
    before = desk.portfolios[b"acme\xffp"].pack()
    limits = RiskLimits(portfolio_id="p", limits=[RiskLimit("var_95", 0.5)], event_time_us=0)
    wanted = SeriesWanted(series_id="p", root="fund", wanted=True, event_time_us=0)
    for tenant in ("blue", None):
        for record in (limits, wanted):
            assert desk.process(message(record, 1, tenant=tenant, topic="other")) == []
    assert desk.portfolios[b"acme\xffp"].pack() == before
    assert desk.portfolios.keys() == {b"acme\xffp", b"blue\xffp", b"p"}


_tenants = st.sampled_from([None, "acme", "blue"])


@given(st.lists(st.tuples(_tenants, st.integers(0, 9)), max_size=30))
def test_tenants_with_the_same_portfolio_get_what_each_would_get_alone(
    turns: list[tuple[str | None, int]],
) -> None:
    """Limits, acknowledgements, requests of books and returns come in any order."""

    def record(kind: int, at: int) -> Record:
        match kind:
            case 0:
                limit = RiskLimit("var_95", 0.001 * (1 + at % 7))
                return RiskLimits(portfolio_id="p", limits=[limit], event_time_us=0)
            case 1:
                wanted = at % 2 == 0
                return SeriesWanted(series_id="p", root="fund", wanted=wanted, event_time_us=0)
            case 2:
                return AlertAck(alert_id="a", entity_id="p", event_time_us=0)
            case _:
                return ReturnBatch(returns=[Return("p", 200 + at, 0.01 * (-kind) ** (at % 3))])

    def play(those: frozenset[str | None]) -> list[tuple[Event, str | None]]:
        portfolios: dict[bytes, PortfolioRisk] = {}
        found: list[tuple[Event, str | None]] = []
        for tenant in sorted(those, key=str):
            batch = RiskBatch(portfolios, CONFIG, RETURNS, SECOND)
            batch.apply(admitted(message(ReturnBatch(returns=steady()), 0, tenant)))
            found += batch.events()
        for offset, (tenant, kind) in enumerate(turns, 1):
            if tenant in those:
                batch = RiskBatch(portfolios, CONFIG, RETURNS, SECOND)
                batch.apply(admitted(message(record(kind, offset), offset, tenant)))
                batch.tick(300 * SECOND)
                found += batch.events()
        return found

    together = play(frozenset({None, "acme", "blue"}))
    for tenant in (None, "acme", "blue"):
        alone = [event for event, _ in play(frozenset({tenant}))]
        assert [event for event, of_tenant in together if of_tenant == tenant] == alone


def test_books_that_ask_for_a_series_get_its_window_then_each_new_return() -> None:
    desk = Desk()
    desk.process(message(ReturnBatch(returns=steady()), 7))
    wanted = SeriesWanted(series_id="p", root="fund", wanted=True, event_time_us=0)
    [window] = of(desk.process(message(wanted, 0, topic="risk.wanted")), SeriesReturns)
    assert (window.root, list(window.returns)) == ("fund", steady())
    more = [Return("p", 130, 0.03), Return("p", 130, nan), Return("q", 130, 0.01)]
    [passed_on] = of(desk.process(message(ReturnBatch(returns=more), 8)), SeriesReturns)
    assert list(passed_on.returns) == more[:1]
    again = ReturnBatch(returns=[Return("p", 1, 0.02)], lap=1)
    [of_lap] = of(desk.process(message(again, 9)), SeriesReturns)
    assert (list(of_lap.returns), of_lap.lap) == (again.returns, 1)
    no_more = SeriesWanted(series_id="p", root="fund", wanted=False, event_time_us=0)
    desk.process(message(no_more, 1, topic="risk.wanted"))
    events = desk.process(message(ReturnBatch(returns=[Return("p", 131, 0.01)], lap=1), 10))
    assert of(events, SeriesReturns) == []


def test_books_get_a_return_that_is_too_old_for_every_window_and_not_for_a_price() -> None:
    desk = Desk(replace(CONFIG, window=20, lateness_us=280))
    desk.process(message(ReturnBatch(returns=steady(400)), 7))
    wanted = SeriesWanted(series_id="p", root="fund", wanted=True, event_time_us=0)
    desk.process(message(wanted, 0, topic="risk.wanted"))
    old = [Return("p", 230, 0.03, 2), Return("p", 210, 0.03, 2)]  # too late, the second
    [passed_on] = of(desk.process(message(ReturnBatch(returns=old), 8)), SeriesReturns)
    assert list(passed_on.returns) == old[:1]
    [risk] = desk.portfolios.values()
    assert risk.outcomes == {"accepted": 400, "late": 2}


def test_the_books_of_a_rebuilt_portfolio_ask_for_its_returns_anew() -> None:
    desk = Desk()
    desk.process(message(ReturnBatch(returns=steady()), 7))
    wanted = SeriesWanted(series_id="p", root="fund", wanted=True, event_time_us=0)
    desk.process(message(wanted, 0, topic="risk.wanted"))
    batch = RiskBatch(desk.portfolios, CONFIG, RETURNS, SECOND)
    batch.take_over(desk.portfolios, {})
    [(told, _)] = batch.series_returns()
    assert told == SeriesReturns(root="fund", returns=(), rebuilt=["p"])
    again = replace(wanted, anew=True)
    [record] = of(desk.process(message(again, 1, topic="risk.wanted")), SeriesReturns)
    assert (list(record.anew), len(record.returns)) == (["p"], len(steady()))


@pytest.mark.parametrize("ticks", ["none", "before each"])
def test_a_scenario_is_judged_by_the_limits_of_its_time(ticks: str) -> None:
    """A temporary limit ends at 100 s, and the scenario comes after it."""
    temporary = RiskLimit("stress_loss:fall", 0.1, 0.1, None, None, 1, 1, 0.5, 100 * SECOND, "bob")
    limits = RiskLimits(portfolio_id="p", limits=[temporary], event_time_us=0)
    fall = Scenario(
        name="fall",
        version=1,
        kind="hypothetical",
        shocks=[Shock("p", -0.3)],
        others="zero",
        event_time_us=0,
    )
    portfolios: dict[bytes, PortfolioRisk] = {}
    batch = RiskBatch(portfolios, CONFIG, RETURNS, SECOND)
    for received, at_s in (
        (message(limits, 0, topic="risk.limits"), 1),
        (message(ReturnBatch(returns=steady()), 0), 2),
        (message(fall, 0, topic="risk.scenarios"), 101),
    ):
        if ticks != "none":
            batch.tick(at_s * SECOND)
        batch.apply(admitted(received._replace(timestamp=at_s)))
    [(alert, _)] = batch.alerts
    assert (alert.state, alert.threshold, alert.metric_value) == ("raised", 0.1, 0.3)


def test_gauges_are_by_partition_and_tenant() -> None:
    desk = Desk()
    calm = [Return("calm", at, 0.0001 * (-1) ** at) for at in range(100, 130)]
    desk.process(message(ReturnBatch(returns=[*steady(), *calm]), 7, tenant="acme"))
    assert gauges_of(desk.portfolios.values(), {1}) == []
    [gauges] = gauges_of(desk.portfolios.values(), {2})
    assert gauges.tenant == "acme"
    assert gauges.gauges == {
        "portfolios": 2,
        "portfolios_over_limit": 1,
        "alerts_open_high": 1,
    }
    assert gauges.worst == pytest.approx({"p": 2.0, "calm": 0.01})


ANY_CONFIG = replace(
    ProcessorSettings(var_limit=0.01, risk_slower_every=3, risk_horizons=(1, 3)).risk_config(),
    window=40,
    observations_min=20,
)
_names = st.sampled_from("pq")
_int32 = st.integers(-(2**31), 2**31 - 1)
_times = st.integers(90, 140) | st.integers(-(2**63), 2**63 - 1)
_values = st.floats(-0.1, 0.1) | st.floats()
_finite = st.floats(allow_nan=False, allow_infinity=False)
_ratios = st.none() | st.just(0.8) | st.just(1.5) | _finite
_metrics = st.sampled_from(["var_95", "es_95", "var_99", "es_99", "model", "nothing"])
_limits = st.builds(
    RiskLimit,
    *(_metrics, st.floats(0.001, 0.1) | _finite, st.just(0.1) | _finite),
    *(_ratios, _ratios, st.just(1) | _int32, st.just(1) | _int32),
    temporary_limit=st.none() | st.floats(0.1, 0.3) | _finite,
    valid_until_us=st.none() | st.integers(0, LATEST_US),
    approved_by=st.none() | st.just("ann"),
)
_now = st.just(0)
_records = (
    st.builds(
        ReturnBatch,
        returns=st.lists(
            st.builds(Return, _names, _times, _values, st.integers(1, 3) | _int32), max_size=8
        ),
    )
    | st.builds(
        RiskLimits,
        portfolio_id=_names,
        limits=st.lists(_limits, max_size=3),
        stale_after_s=st.none() | st.just(1.0) | _finite,
        event_time_us=_now,
    )
    | st.builds(AlertAck, alert_id=st.text(), entity_id=_names, event_time_us=_now)
    | st.builds(
        SeriesWanted,
        series_id=_names,
        root=st.sampled_from("ab"),
        wanted=st.booleans(),
        event_time_us=_now,
    )
)


@given(st.lists(_records, max_size=12), st.sets(st.integers(0, 12)), st.integers(-(2**62), 2**62))
def test_no_record_stops_a_batch_or_causes_an_event_that_cannot_be_encoded_or_rendered(
    records: list[ReturnBatch | RiskLimits | AlertAck | SeriesWanted],
    restarts: set[int],
    now_us: int,
) -> None:
    portfolios: dict[bytes, PortfolioRisk] = {}
    for offset, record in enumerate([ReturnBatch(returns=steady()), *records]):
        batch = RiskBatch(portfolios, ANY_CONFIG, RETURNS, SECOND)
        batch.apply(admitted(message(record, offset)))
        batch.tick(now_us)
        for event, _ in batch.events():
            channel = {RiskMeasure: "measures", RiskAlert: "alerts"}.get(type(event))
            value = encode(event)
            decode(value)
            assert channel is None or render_value(CHANNELS[channel], value, 0) is not None
        assert all(map(encode, gauges_of(portfolios.values(), {2})))
        states = {name: decode(encode(risk.pack())) for name, risk in portfolios.items()}
        if offset in restarts:
            portfolios = {
                name: PortfolioRisk.unpack(state, ANY_CONFIG, RETURNS)
                for name, state in states.items()
                if isinstance(state, PortfolioState)
            }
