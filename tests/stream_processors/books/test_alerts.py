"""Limits and alerts of a book: the same levels, ids and acknowledgements as those of portfolios."""

from dataclasses import replace
from uuid import NAMESPACE_URL, uuid5

import pytest

from schemas.codec import decode, encode
from schemas.events import (
    AlertAck,
    BookMetric,
    BookRisk,
    PortfolioState,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    StressLoss,
)
from schemas.topics import TopicPartition
from stream_processors.books.alerts import BookAlerts, BookMeasurement
from stream_processors.risk.rules import BOOK_METRICS, rules_of
from stream_processors.risk.thresholds import InvalidRule

SOURCE = TopicPartition("risk.series", 3)
DAY_US = 86_400_000_000


def risk(day: int, amount: float, share: float | None = None, event_id: str = "") -> BookRisk:
    return BookRisk(
        root="firm",
        book_id="desk",
        as_of_us=day * DAY_US,
        status="ok",
        observations=250,
        series=1,
        missing=(),
        var_95=share,
        amounts={"var_95": amount, "es_95": 2 * amount},
        event_id=event_id or f"risk of day {day}",
        concentration=0.6,
    )


def limits(*limited: RiskLimit) -> RiskLimits:
    return RiskLimits(
        portfolio_id="firm/desk", limits=limited, entity_type="book", event_time_us=DAY_US
    )


def watched(*limited: RiskLimit) -> BookAlerts:
    book = BookAlerts("firm/desk", SOURCE, "acme")
    assert book.set_limits(limits(*limited), 0) == []
    return book


def restarted(book: BookAlerts, last: BookRisk | None) -> BookAlerts:
    state = decode(encode(book.pack()))
    assert isinstance(state, PortfolioState)
    return BookAlerts.unpack(state, SOURCE, last)


def states(alerts: list[RiskAlert]) -> list[tuple[str, str | None]]:
    return [(alert.state, alert.level) for alert in alerts]


AMOUNT = RiskLimit("var_95_amount", 1_000.0, warn_ratio=0.8, critical_ratio=1.5)


def test_a_limit_in_currency_raises_escalates_and_clears_under_one_id() -> None:
    book = watched(AMOUNT)
    amounts = [700, 850, 1_001, 1_600, 1_380, 950, 700]
    alerts = [
        alert for day, amount in enumerate(amounts) for alert in book.judge(risk(day, amount), day)
    ]
    assert states(alerts) == [
        ("raised", "warning"),
        ("escalated", "breach"),
        ("escalated", "critical"),
        ("deescalated", "breach"),
        ("cleared", "normal"),
    ]
    raised = alerts[0]
    name = "risk-alert:var_95_amount:firm/desk:risk of day 1"
    assert {alert.alert_id for alert in alerts} == {str(uuid5(NAMESPACE_URL, name))}
    assert (raised.entity_type, raised.entity_id, raised.alert_type) == (
        *("book", "firm/desk"),
        "var_exceeded",
    )
    assert raised.message == "VaR approaching threshold: 850.00, 85% of 1000.00"
    assert alerts[1].message == "VaR exceeded threshold: 1001.00 > 1000.00"
    assert (raised.source_topic, raised.source_partition, raised.source_offset) == (*SOURCE, 1)
    assert raised.limits_version == "1970-01-02T00:00:00Z"


def test_each_metric_of_a_book_can_have_a_limit_and_no_other() -> None:
    assert list(BOOK_METRICS) == list(BookMetric) == list(BookMeasurement._fields)
    book = watched(*(RiskLimit(metric, 1e-9) for metric in BookMetric))
    alerts = book.judge(replace(risk(1, 10.0, 0.1), es_95=0.2), 1)
    assert [alert.rule_id for alert in alerts] == [
        *("var_95", "es_95", "var_95_amount", "es_95_amount", "concentration"),
    ]
    assert alerts[-1].alert_type == "concentration_exceeded"
    with pytest.raises(InvalidRule, match="'beta' is no metric"):
        watched(RiskLimit("beta", 1.0))
    with pytest.raises(InvalidRule, match="limit is nan"):
        watched(RiskLimit("var_95", float("nan")))


def test_a_measure_without_values_changes_nothing_and_a_correction_is_judged_at_once() -> None:
    book = watched(RiskLimit("var_95", 0.05), AMOUNT)
    assert states(list(book.judge(risk(5, 900.0, None), 1))) == [("raised", "warning")]
    blind = replace(risk(6, 0.0), amounts={}, concentration=None, event_id="blind")
    assert list(book.judge(blind, 2)) == []
    corrected = replace(risk(5, 100.0, 0.06, "corrected"), supersedes="risk of day 5")
    alerts = list(book.judge(corrected, 3))
    assert states(alerts) == [("raised", "breach"), ("cleared", "normal")]
    assert {alert.supersedes for alert in alerts} == {"risk of day 5"}
    assert list(book.judge(corrected, 4)) == []  # the same risk once more


def test_limits_and_acknowledgements_survive_restarts_and_repeats_change_nothing() -> None:
    book = watched(AMOUNT)
    first = risk(1, 1_200.0)
    [raised] = book.judge(first, 1)
    book = restarted(book, first)
    ack = AlertAck(alert_id=raised.alert_id, entity_id="firm/desk", by="ann", event_time_us=0)
    [acknowledged] = book.acknowledge(ack, 7)
    assert (acknowledged.state, acknowledged.acknowledged_by) == ("acknowledged", "ann")
    book = restarted(book, first)
    assert book.acknowledge(ack, 7) == ()
    assert list(book.acknowledge(ack, 8)) == []
    assert book.set_limits(limits(AMOUNT), 0) == ()
    [escalated] = book.judge(risk(2, 1_600.0), 2)
    assert (escalated.alert_id, escalated.acknowledged) == (raised.alert_id, False)
    # Lower limits judge the last risk at once; without any, the alert clears.
    [cleared] = book.set_limits(limits(), 1)
    assert (cleared.state, cleared.message) == ("cleared", "the limit was withdrawn")


def test_a_closed_book_has_no_open_alert() -> None:
    book = watched(AMOUNT)
    book.judge(risk(1, 1_200.0), 1)
    assert states(list(book.close(2, 2 * DAY_US))) == [("cleared", "normal")]
    assert list(book.close(3, 3 * DAY_US)) == []
    assert states(list(book.judge(risk(4, 1_200.0), 4))) == [("raised", "breach")]


def test_changed_holdings_do_not_end_an_alert_about_missing_measures() -> None:
    """Not even if they let a book have the returns of a later day, as without an old series."""
    book = BookAlerts("firm/desk", SOURCE)
    book.set_limits(replace(limits(), stale_after_s=100.0), 0, 0)
    book.judge(risk(1, 500.0), 1, SECOND_US)
    [over] = book.tick(102 * SECOND_US)
    assert over.state == "stale"
    assert book.judge(risk(2, 400.0), 2, 103 * SECOND_US, "risk.books") == []
    [ended] = book.judge(risk(3, 400.0), 3, 104 * SECOND_US)
    assert ended.state == "stale_cleared"


SECOND_US = 1_000_000


def test_a_temporary_limit_holds_until_the_log_is_past_its_end_and_names_it() -> None:
    temporary = AMOUNT._replace(
        temporary_limit=2_000.0, valid_until_us=100 * SECOND_US, approved_by="bob"
    )
    asked = replace(limits(temporary), event_time_us=0)
    for way in ("tick", "risk", "limits", "ack", "restart"):
        book = BookAlerts("firm/desk", SOURCE)
        assert book.set_limits(asked, 0, 1) == []
        first = risk(1, 1_900.0)
        [warned] = book.judge(first, 1, 50 * SECOND_US)
        assert (warned.level, warned.threshold) == ("warning", 2_000.0)
        assert warned.limit_until_us == 100 * SECOND_US
        assert list(book.tick(99 * SECOND_US)) == []
        match way:
            case "tick":
                alerts = book.tick(100 * SECOND_US)
            case "risk":
                alerts = book.judge(replace(first, amounts={}, event_id="b"), 2, 101 * SECOND_US)
            case "limits":
                alerts = book.set_limits(limits(AMOUNT), 1, 101 * SECOND_US)
            case "ack":
                ack = AlertAck(alert_id="no", entity_id="firm/desk", event_time_us=0)
                alerts = book.acknowledge(ack, 1, 101 * SECOND_US)
            case _:
                alerts = restarted(book, first).tick(101 * SECOND_US)
        [critical] = alerts
        assert (critical.state, critical.level) == ("escalated", "critical")
        assert (critical.threshold, critical.limit_until_us) == (1_000.0, None)
        assert critical.alert_id == warned.alert_id


def test_a_book_without_a_new_measure_is_stale_until_there_is_one() -> None:
    book = BookAlerts("firm/desk", SOURCE)
    asked = replace(limits(AMOUNT), stale_after_s=60.0)
    assert book.set_limits(asked, 0, 10 * SECOND_US) == []
    assert book.due_us == 70 * SECOND_US + 1
    [stale] = book.tick(71 * SECOND_US)  # there was no measure at all
    assert (stale.state, stale.entity_type, stale.alert_type) == ("stale", "book", "stale_data")
    ack = AlertAck(alert_id=stale.alert_id, entity_id="firm/desk", by="ann", event_time_us=0)
    assert [item.state for item in book.acknowledge(ack, 0, 72 * SECOND_US)] == ["acknowledged"]
    assert list(book.judge(replace(risk(1, 0.0), amounts={}), 1, 80 * SECOND_US)) == []
    [over] = book.judge(risk(1, 500.0), 2, 90 * SECOND_US)
    assert (over.state, over.alert_id) == ("stale_cleared", stale.alert_id)
    # A correction is no new measure, and neither is a change of holdings.
    last = risk(1, 600.0, event_id="corrected")
    assert list(book.judge(last, 3, 140 * SECOND_US)) == []
    book = restarted(book, last)
    [again] = book.judge(risk(2, 500.0), 4, 151 * SECOND_US)[:1]
    assert again.state == "stale"
    assert again.metric_value == pytest.approx(60.000001)
    assert again.alert_id != stale.alert_id
    assert book.due_us == 211 * SECOND_US + 1


def test_staleness_ends_with_its_setting_and_with_the_book() -> None:
    for way in ("withdrawn", "closed"):
        book = BookAlerts("firm/desk", SOURCE)
        book.set_limits(replace(limits(), stale_after_s=60.0), 0, 0)
        book.judge(risk(1, 500.0), 1, SECOND_US)
        assert [alert.state for alert in book.tick(100 * SECOND_US)] == ["stale"]
        if way == "withdrawn":
            alerts = book.set_limits(limits(), 1, 101 * SECOND_US)
        else:
            alerts = list(book.close(2, 101 * SECOND_US))
        assert [alert.state for alert in alerts] == ["stale_cleared"]
        assert list(book.tick(10_000 * SECOND_US)) == []
    with pytest.raises(InvalidRule, match="stale_after_s is -1"):
        BookAlerts("firm/desk", SOURCE).set_limits(replace(limits(), stale_after_s=-1.0), 7, 0)


def stressed(measured: BookRisk, event_id: str, **losses: float | None) -> BookRisk:
    """Return a risk with the loss in each of some scenarios."""
    stress = [StressLoss(name, 1, loss, 1.0) for name, loss in losses.items()]
    return replace(measured, stress=stress, event_id=event_id)


CRASH = RiskLimit("stress_loss:crash_95", 0.25, warn_ratio=0.8)


def test_a_limit_on_a_stress_loss_of_a_book_raises_and_clears_with_the_scenario() -> None:
    book = watched(CRASH)
    assert book.judge(risk(1, 100.0), 1) == []  # no such scenario yet
    [raised] = book.judge(stressed(risk(1, 100.0), "put", crash_95=0.3), 2)
    assert (raised.alert_type, raised.entity_id, raised.metric_value) == (
        *("stress_exceeded", "firm/desk"),
        0.3,
    )
    assert raised.message == "Stress loss in crash_95 exceeded threshold: 0.3000 > 0.2500"
    assert raised.scenario_us is None
    assert book.judge(stressed(risk(2, 100.0), "unknown", crash_95=None), 3) == []
    [lower] = book.judge(stressed(risk(3, 100.0), "lower", crash_95=0.21), 4)
    assert (lower.state, lower.level, lower.alert_id) == (
        *("deescalated", "warning"),
        raised.alert_id,
    )
    [cleared] = book.judge(stressed(risk(3, 100.0), "withdrawn"), 5)
    assert (cleared.state, cleared.message) == ("cleared", "the scenario was withdrawn")
    assert book.judge(stressed(risk(4, 100.0), "still withdrawn"), 6) == []


def test_a_book_without_net_asset_value_has_limits_on_stress_losses_in_its_currency() -> None:
    book = watched(CRASH, RiskLimit("stress_loss_amount:crash_95", 1_000.0))
    neutral = replace(risk(1, 100.0), stress=[StressLoss("crash_95", 1, None, 1_500.0)])
    [raised] = book.judge(neutral, 1)
    assert raised.rule_id == "stress_loss_amount:crash_95"
    assert raised.alert_type == "stress_exceeded"
    assert raised.message == "Stress loss in crash_95 exceeded threshold: 1500.00 > 1000.00"
    less = [StressLoss("crash_95", 2, None, 500.0)]
    [cleared] = restarted(book, neutral).judge(replace(neutral, stress=less, event_id="put"), 2)
    assert (cleared.state, cleared.metric_value) == ("cleared", 500.0)
    for wrong in ("stress_loss_amount:", "stress_loss:", "stress:crash_95"):
        with pytest.raises(InvalidRule, match="is no metric"):
            watched(RiskLimit(wrong, 1.0))
    with pytest.raises(InvalidRule, match="is no metric"):
        rules_of([RiskLimit("stress_loss_amount:crash_95", 1_000.0)])


def test_a_stress_loss_is_judged_at_once_by_limits_that_are_put_after_it() -> None:
    last = stressed(risk(1, 100.0), "first", crash_95=0.3)
    book = watched()
    book.judge(last, 1)
    for judged in (book, restarted(book, last)):
        [raised] = judged.set_limits(limits(CRASH), 1)
        assert (raised.rule_id, raised.state) == ("stress_loss:crash_95", "raised")
        [cleared] = judged.set_limits(limits(), 2)
        assert (cleared.state, cleared.metric_value) == ("cleared", 0.3)


def test_a_change_of_scenarios_is_no_further_measure_of_the_other_metrics() -> None:
    twice = AMOUNT._replace(warn_ratio=None, critical_ratio=None, raise_after=2)
    book = watched(twice, CRASH._replace(raise_after=2))
    measured = risk(1, 1_200.0)
    assert book.judge(stressed(measured, "first", crash_95=0.3), 1) == []
    # Another scenario is put: neither VaR nor this loss has been measured again.
    other = stressed(measured, "second", crash_95=0.3, other=0.1)
    assert book.judge(other, 2) == []
    again = restarted(book, other)
    [raised] = again.judge(stressed(measured, "third", crash_95=0.4, other=0.1), 3)
    assert raised.rule_id == "stress_loss:crash_95"
    [raised] = again.judge(stressed(risk(2, 1_200.0), "fourth", crash_95=0.4), 4)
    assert raised.rule_id == "var_95_amount"
