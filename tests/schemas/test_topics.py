from collections import Counter

import pytest

from schemas.errors import UnknownEvent
from schemas.events import Return, ReturnBatch, TrainingProgress
from schemas.topics import (
    CATALOGUE,
    PORTFOLIO_RETURNS,
    RISK_ALERTS,
    RISK_MEASURES,
    RISK_STATE,
    TRAINING_EVENTS,
    key_of,
    topic_of,
)

PROGRESS = TrainingProgress(
    task_id="t-1", progress=1.0, status="running", message="", metrics={}, event_time_us=0
)


def test_each_record_has_one_topic() -> None:
    assert Counter(topic.record for topic in CATALOGUE).most_common(1)[0][1] == 1
    assert Counter(topic.name for topic in CATALOGUE).most_common(1)[0][1] == 1


def test_an_event_is_keyed_by_what_it_is_about() -> None:
    assert topic_of(PROGRESS) is TRAINING_EVENTS
    assert key_of(PROGRESS) == b"t-1"
    assert key_of(ReturnBatch(returns=[])) is None


def test_what_no_topic_carries_is_refused() -> None:
    with pytest.raises(UnknownEvent, match="no topic carries a Return"):
        topic_of(Return(portfolio_id="p", event_time_us=0, value=0.0))  # type: ignore[arg-type]


def test_what_a_portfolio_causes_lies_in_the_partition_of_its_returns() -> None:
    sizes = {
        item.partitions for item in (PORTFOLIO_RETURNS, RISK_MEASURES, RISK_ALERTS, RISK_STATE)
    }
    assert len(sizes) == 1


def test_kafka_stamps_the_records_so_that_replayed_history_is_not_deleted_at_once() -> None:
    for topic in CATALOGUE:
        assert topic.config()["message.timestamp.type"] == "LogAppendTime"
