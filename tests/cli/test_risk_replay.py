import json
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from cli.errors import NoHistory
from cli.risk_replay import (
    Past,
    admitted_of,
    as_json,
    batches_of,
    draw,
    newest_lap,
    query_of,
    table,
)
from kafka_io.client import partition_of
from kafka_io.reader import ConsumedRecord
from producers.market.prices import load_prices, trading_days
from schemas.codec import encode
from schemas.events import AlertTransition, Return, ReturnBatch, RiskLimits, StressLoss
from schemas.topics import PARTITIONS, RISK_LIMITS, TopicPartition
from stream_processors.risk.alert_events import AlertContext, alert_event
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.log_replay import Bound, LogReplay, PastAlert
from stream_processors.risk.replay import ReplayQuery, replay
from stream_processors.risk.thresholds import AlertLevel, Rule, transition_of
from stream_processors.settings import ProcessorSettings

ALL = [observation for day in trading_days(load_prices())[:400] for observation in day.at_close()]

RAISED, BREACH = AlertTransition.RAISED, AlertLevel.BREACH


def query(limit: float) -> ReplayQuery:
    return ReplayQuery(
        portfolio_id="AAPL",
        method="historical",
        level=ConfidenceLevel.of("0.95"),
        limit=limit,
        since_us=ALL[0].event_time_us,
        until_us=ALL[-1].event_time_us + 1,
    )


def test_the_table_has_each_transition_then_the_backtest() -> None:
    asked = query(0.05)
    result = replay(ALL, asked)
    lines = table(Past(result), asked)
    assert lines[0].split() == ["date", "step", "level", "VaR", "limit"]
    rows = lines[1 : 1 + len(result.steps)]
    assert [row.split()[1] for row in rows] == [step.transition.kind for step in result.steps]
    assert rows[0].split()[:3] == ["2000-07-24", "raised", "breach"]
    assert any("days with a forecast" in line for line in lines)
    assert lines[-1].startswith("the worst day: 2000-09-29, -0.5")


def test_a_program_gets_days_alerts_and_the_backtest() -> None:
    asked = query(0.05)
    result = replay(ALL, asked)
    shown = json.loads(json.dumps(as_json(Past(result), asked), allow_nan=False))
    assert (shown["portfolio_id"], shown["confidence"], shown["limit"]) == ("AAPL", 0.95, 0.05)
    assert len(shown["days"]) == len(result.days)
    assert shown["days"][0].keys() == {"date", "return", "var", "es", "exceeded"}
    assert shown["days"][0]["var"] is None
    first = shown["alerts"][0]
    assert (first["at"][:10], first["state"], first["level"]) == ("2000-07-24", "raised", "breach")
    assert first["metric"] == "var_95"
    assert shown["backtest"]["observations"] == sum(day.forecast is not None for day in result.days)


def test_a_limit_that_was_never_exceeded_says_so() -> None:
    asked = query(9.0)
    assert "nothing would have alerted" in table(Past(replay(ALL, asked)), asked)


def test_of_a_replay_the_newest_lap_with_the_days_counts() -> None:
    asked = query(0.05)
    of_aapl = [value for value in ALL if value.portfolio_id == "AAPL"]
    whole, again = ReturnBatch(returns=of_aapl), ReturnBatch(returns=of_aapl, lap=1)
    begun = ReturnBatch(returns=of_aapl[:10], lap=2)
    lap, returns = newest_lap([whole, again, begun], asked)
    assert (lap, returns) == (1, again.returns)
    assert replay(returns, asked) == replay(of_aapl, asked)
    assert newest_lap([], asked) == (0, [])


def test_returns_that_processors_refuse_are_left_out() -> None:
    day_us = 86_400_000_000
    asked = replace(query(0.05), portfolio_id="p", ahead_us=day_us)
    logged = [
        (0, [Return("p", 5 * day_us, 0.1), Return("p", 7 * day_us, 0.1)]),  # one is far ahead
        (1, [Return("p", 5 * day_us, 0.2)]),
        (2, [Return("p", 7 * day_us, 0.1), Return("p", 5 * day_us, nan)]),  # refused: no lap
        (1, [Return("p", 6 * day_us, 0.2)]),
        (0, [Return("p", 6 * day_us, 0.3)]),  # an earlier lap
        (0, [Return("q", 6 * day_us, 0.4)]),
    ]
    records = [
        ConsumedRecord("x", 3, 0, 5 * 86_400.0, b"p", encode(ReturnBatch(returns=of, lap=lap)), [])
        for lap, of in logged
    ]
    records.append(ConsumedRecord("x", 3, 0, 5 * 86_400.0, b"p", b"garbage", []))
    found = batches_of(records, asked)
    assert [(batch.lap, len(batch.returns)) for batch in found] == [(0, 1), (1, 1), (2, 1), (1, 1)]


def test_a_query_has_the_settings_of_the_processors() -> None:
    processors = ProcessorSettings(
        risk_window=300,
        risk_lateness_s=5,
        var_hysteresis=0.2,
        var_warn_ratio=0.7,
        risk_dof=8,
        risk_mean="zero",
        risk_ewma_start=0.01,
        risk_ewma_decay=0.97,
    )
    level = ConfidenceLevel.of("0.99")
    asked = query_of(
        processors,
        portfolio_id="p",
        method="historical",
        level=level,
        limit=0.1,
        since_us=0,
        until_us=1,
    )
    assert (asked.window, asked.lateness_us, asked.dof) == (300, 5_000_000, 8)
    assert (asked.mean, asked.ewma_start, asked.ewma_decay) == ("zero", 0.01, 0.97)
    assert asked.rule == Rule("var_99", 0.1, 0.2, 0.7)


def test_a_picture_is_drawn_by_its_files_name(tmp_path: Path) -> None:
    asked = query(0.05)
    result = Past(replay(ALL, asked))
    draw(result, asked, tmp_path / "a.png")
    draw(result, asked, tmp_path / "a.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    with pytest.raises(NoHistory, match=r"must end in \.png or \.svg"):
        draw(result, asked, tmp_path / "a.pdf")
    with pytest.raises(NoHistory, match="cannot be written"):
        draw(result, asked, tmp_path / "nowhere" / "a.png")


def test_what_ran_is_printed_and_drawn_by_the_limits_of_the_time(tmp_path: Path) -> None:
    asked = replace(query(0.05), limit=None)
    result = replay(ALL, asked)
    assert not result.steps
    at_us = result.days[200].at_us
    transition = transition_of("9e0d63fd-5b2c-4f0c-8f6a-6d5f4a2b1c00", 1, RAISED, BREACH, 0.06)
    context = AlertContext("m", at_us, {}, lambda _: None, TopicPartition("x", 0), 1)
    alert = alert_event("AAPL", Rule("var_95", 0.04), transition, context, "worse\nthan\x00ever")
    bounds = [Bound(result.days[0].at_us, None), Bound(at_us, 0.04)]
    stress = [StressLoss("crash", 1, 0.3), StressLoss("old", 1)]
    past = Past(result, LogReplay([PastAlert(0, alert)], bounds, stress))
    lines = table(past, asked)
    assert lines[0].split() == ["date", "step", "level", "metric", "message"]
    assert lines[1].split()[1:] == ["raised", "breach", "var_95", "worse", "than", "ever"]
    assert lines[2:4] == [
        "the loss in the scenario crash: 0.3000",
        "the loss in the scenario old: unknown",
    ]
    assert "nothing has alerted" in table(Past(result, LogReplay([], bounds, [])), asked)
    draw(past, asked, tmp_path / "a.svg")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


def test_the_gate_admits_what_was_in_its_partition_when_the_topic_was_smaller() -> None:
    key = b"p"
    homes = [partition_of(key, count) for count in (PARTITIONS, 2 * PARTITIONS)]
    limits = RiskLimits(portfolio_id="p", limits=[], event_time_us=0)
    elsewhere = (homes[0] + 1) % PARTITIONS
    records = [
        ConsumedRecord(f"x.{RISK_LIMITS.name}", home, 0, 1.0, key, encode(limits), [])
        for home in (*homes, elsewhere)
    ]
    found = list(admitted_of({"risk.limits": records}, key, "x.", 1e6))
    assert {message.partition for message in found} == set(homes)
