import pytest

from cli.errors import InvalidArgument
from cli.topic_retention import (
    Change,
    change_retention,
    find_change,
    parse_duration,
    row_of,
    text_of,
)
from infra.topics import provision
from kafka_io.reader import read_all
from kafka_io.topic_admin import TopicAdmin
from schemas.topics import (
    DAY_MS,
    HOUR_MS,
    OPERATOR_ACTIONS,
    PORTFOLIO_RETURNS,
    RISK_ALERTS,
    RISK_MEASURES,
    RISK_STATE,
    TRAINING_TASKS,
    Topic,
)
from tests.conftest import World


@pytest.mark.parametrize(
    ("text", "topic", "retention_ms"),
    [
        ("30m", RISK_ALERTS, 1_800_000),
        ("12h", RISK_ALERTS, 12 * HOUR_MS),
        ("90d", PORTFOLIO_RETURNS, 90 * DAY_MS),
        ("for-ever", RISK_ALERTS, -1),
        ("default", RISK_ALERTS, 90 * DAY_MS),
        ("default", PORTFOLIO_RETURNS, -1),
    ],
)
def test_a_time_is_minutes_hours_days_or_a_word(text: str, topic: Topic, retention_ms: int) -> None:
    assert parse_duration(text, topic) == retention_ms
    if text != "default":
        assert text_of(retention_ms) == text


@pytest.mark.parametrize("text", ["", "0d", "90", "1w", "-1d", "forever", "1.5h"])
def test_another_time_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(InvalidArgument, match="write 30m, 12h, 90d, for-ever or default"):
        parse_duration(text, RISK_ALERTS)


def test_a_topic_of_rows_has_no_time() -> None:
    with pytest.raises(InvalidArgument, match=r"risk\.state keeps the newest record of each key"):
        parse_duration("7d", RISK_STATE)
    assert row_of(RISK_MEASURES, "x.risk.measures", {})["retention"] is None


def test_a_row_has_the_time_that_kafka_has_and_that_of_the_catalogue() -> None:
    row = row_of(TRAINING_TASKS, "x.training.tasks", {"retention.ms": str(HOUR_MS + 1)})
    assert row == {
        "topic": "x.training.tasks",
        "keeps": "records",
        "retention": "60m",
        "default": "7d",
        "newest_of_each_key": True,
    }


@pytest.mark.parametrize(
    ("before_ms", "after_ms", "is_shorter"),
    [(-1, 5, True), (5, -1, False), (5, 4, True), (5, 5, False), (4, 5, False), (-1, -1, False)],
)
def test_only_a_shorter_time_deletes(before_ms: int, after_ms: int, *, is_shorter: bool) -> None:
    change = Change(PORTFOLIO_RETURNS, "x.portfolio.returns", before_ms, after_ms)
    assert change.is_shorter is is_shorter
    assert "A rebuild will know no more than the log then." in change.question


@pytest.mark.kafka
async def test_a_topic_keeps_the_time_that_an_operator_has_set(world: World) -> None:
    settings, servers = world.producer_settings, world.kafka.bootstrap_servers
    name = world.topic(RISK_ALERTS.name)
    change = find_change(settings, RISK_ALERTS, "12h")
    assert (change.before_ms, change.after_ms) == (90 * DAY_MS, 12 * HOUR_MS)
    answer = await change_retention(settings, change)
    assert answer.document["retention"] == "12h"
    assert answer.lines == [f"{name:<30} 12h; by default 90d"]
    warnings: list[str] = []
    assert provision(servers, prefix=world.prefix, warn=warnings.append) == []
    found = TopicAdmin(servers).found([name])[name].config
    assert (found["retention.ms"], found["cleanup.policy"]) == (str(12 * HOUR_MS), "delete")
    assert "clients that are away for more than 12 hours get a gap" in warnings[0]
    [action] = await read_all(OPERATOR_ACTIONS, settings)
    assert getattr(action, "comment", "") == "from 90d to 12h"
