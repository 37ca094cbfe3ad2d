"""The part of a message that concerns the portfolios of a rebuild."""

import pytest

from schemas.events import AlertAck, RebuildDone, Return, ReturnBatch, RiskLimits, SeriesWanted
from schemas.topics import (
    PORTFOLIO_RETURNS,
    RISK_ACKS,
    RISK_LIMITS,
    RISK_REBUILDS,
    RISK_WANTED,
)
from stream_processors.risk.scope import Scope, narrowed
from tests.support.messages import admitted, message

RETURNS = ReturnBatch(returns=[Return("p", 1, 0.1), Return("q", 1, 0.1), Return("p", 2, 0.1)])


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        (Scope(), {("p", None), ("p", "t"), ("q", "t")}),
        (Scope("t"), {("p", "t"), ("q", "t")}),
        (Scope(""), {("p", None)}),
        (Scope("t", "p"), {("p", "t")}),
        (Scope(None, "p"), {("p", None), ("p", "t")}),
    ],
)
def test_a_scope_is_of_a_tenant_or_a_portfolio(
    scope: Scope, covered: set[tuple[str, str | None]]
) -> None:
    everything: list[tuple[str, str | None]] = [("p", None), ("p", "t"), ("q", "t")]
    assert {of for of in everything if scope.covers(*of)} == covered


def test_returns_of_other_portfolios_are_left_out() -> None:
    read = admitted(message(PORTFOLIO_RETURNS, RETURNS, tenant="t"))
    assert narrowed(read, Scope("t").covers) is read
    part = narrowed(read, Scope("t", "p").covers)
    assert part is not None
    assert part.left_out == {"q"}
    assert narrowed(part, Scope("t", "q").covers) is None
    assert narrowed(read, Scope("u").covers) is None


def test_other_records_are_of_one_portfolio() -> None:
    ack = AlertAck(alert_id="a", entity_id="p", event_time_us=0)
    wanted = SeriesWanted(series_id="p", root="r", wanted=True, event_time_us=0)
    limits = RiskLimits(portfolio_id="p", limits=[], event_time_us=0)
    for topic, record in ((RISK_ACKS, ack), (RISK_WANTED, wanted), (RISK_LIMITS, limits)):
        read = admitted(message(topic, record))
        assert narrowed(read, Scope("", "p").covers) is read
        assert narrowed(read, Scope("", "q").covers) is None
    done = admitted(message(RISK_REBUILDS, RebuildDone(version="v", partition=2, event_time_us=0)))
    assert narrowed(done, Scope("t").covers) is done
