from typing import cast

import pytest

from kafka_io.topic_checks import INPUTS, STATES, FoundTopic, find_differences
from schemas.topics import (
    BACKTEST_JOBS,
    CATALOGUE,
    CHAT_MESSAGES,
    PORTFOLIO_RETURNS,
    PROCESSOR_POSITIONS,
    RISK_ACKS,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_STATE,
    TRAINING_EVENTS,
    Topic,
)
from stream_processors.notifications.outbox import Outbox
from stream_processors.notifications.processors import RouteEvents, SendMessages
from stream_processors.notifications.route_table import RouteTable
from stream_processors.processor import Processor
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import processors_of

SERVERS = "kafka:9092"


def differences(topic: Topic, partitions: int | None = None, **settings: str) -> list[str]:
    """Return the differences of a topic with some settings of its own."""
    changed = {name.replace("_", "."): value for name, value in settings.items()}
    found = FoundTopic(partitions or topic.partitions, topic.config() | changed)
    expected = {f"x.{topic.name}": (topic, topic.partitions)}
    return [
        f"{'harmful' if difference.is_harmful else 'harmless'} {difference}"
        for difference in find_differences(SERVERS, expected, {f"x.{topic.name}": found})
    ]


def test_inputs_and_states_are_those_of_the_processors() -> None:
    routes = RouteTable(SERVERS, "")
    processors: list[Processor] = [
        *processors_of(ProcessorSettings()),
        RouteEvents(routes),
        SendMessages(routes, cast("Outbox", None), 1.0),
    ]
    assert {topic.name for part in processors for topic in part.inputs} == INPUTS
    states = {topic.name for part in processors for topic in part.states}
    assert states | {PROCESSOR_POSITIONS.name} == STATES


@pytest.mark.parametrize("topic", CATALOGUE, ids=lambda topic: topic.name)
def test_a_topic_as_the_catalogue_has_it_does_not_differ(topic: Topic) -> None:
    assert differences(topic) == []
    assert differences(topic, retention_ms="-1", max_message_bytes="10000000") == []
    assert find_differences(SERVERS, {topic.name: (topic, 6)}, {}) == [], "it does not exist yet"
    silent = {topic.name: FoundTopic(topic.partitions, {})}
    assert find_differences(SERVERS, {topic.name: (topic, topic.partitions)}, silent) == []


@pytest.mark.parametrize("topic", [RISK_STATE, RISK_MEASURES])
@pytest.mark.parametrize("policy", ["delete", "compact,delete", "compact, delete"])
def test_rows_that_would_be_deleted_are_harmful(topic: Topic, policy: str) -> None:
    [text] = differences(topic, cleanup_policy=policy, retention_ms="604800000")
    assert text.startswith("harmful x.risk.")
    assert f"has cleanup.policy={policy}, and needs compact" in text
    assert "rows that are not written again within 7 days would be lost" in text
    assert text.endswith(
        "kafka-configs.sh --bootstrap-server kafka:9092 --alter --entity-type topics "
        f"--entity-name x.{topic.name} --add-config cleanup.policy=compact"
    )


def test_events_that_would_be_compacted_are_harmful() -> None:
    [text] = differences(TRAINING_EVENTS, cleanup_policy="compact")
    assert text.startswith("harmful")
    assert text.endswith("--add-config cleanup.policy=delete")


@pytest.mark.parametrize("policy", ["delete", "compact"])
def test_a_list_that_forgets_too_late_or_is_long_is_harmless(policy: str) -> None:
    [text] = differences(BACKTEST_JOBS, cleanup_policy=policy)
    assert text.startswith("harmless")
    assert text.endswith("--add-config cleanup.policy=[compact,delete]")


def test_a_shorter_retention_is_harmless() -> None:
    [text] = differences(TRAINING_EVENTS, retention_ms="3600000")
    assert text.startswith("harmless")
    assert "clients that are away for more than 1 hours get a gap" in text
    assert text.endswith("--add-config retention.ms=604800000")
    assert differences(RISK_STATE, retention_ms="1000") == [], "nothing is deleted"


def test_the_settings_of_an_earlier_release_are_named_with_what_rebuilds_lack() -> None:
    [limits] = differences(RISK_LIMITS, cleanup_policy="compact")
    assert limits.startswith("harmless")
    assert "a rebuild would know only the newest record of each key" in limits
    assert limits.endswith("--add-config cleanup.policy=delete")
    for topic, days in ((PORTFOLIO_RETURNS, 30), (RISK_ACKS, 90)):
        [text] = differences(topic, retention_ms=str(days * 86_400_000))
        assert text.startswith("harmless")
        assert f"would not know what was written more than {days} days before" in text
        assert text.endswith("--add-config retention.ms=-1")


def test_times_of_producers_are_harmful_where_processors_go_by_them() -> None:
    [harmful] = differences(PORTFOLIO_RETURNS, message_timestamp_type="CreateTime")
    [harmless] = differences(CHAT_MESSAGES, message_timestamp_type="CreateTime")
    assert harmful.startswith("harmful")
    assert harmless.startswith("harmless")
    assert harmful.endswith("--add-config message.timestamp.type=LogAppendTime")
    assert differences(RISK_STATE, message_timestamp_type="CreateTime") == []


def test_too_small_records_are_harmless() -> None:
    [text] = differences(RISK_STATE, max_message_bytes="100000")
    assert text.startswith("harmless")
    assert text.endswith("--add-config max.message.bytes=1052672")
    assert differences(RISK_STATE, max_message_bytes="1048588") == [], "the default of brokers"


@pytest.mark.parametrize("topic", [PORTFOLIO_RETURNS, RISK_STATE])
def test_too_few_partitions_are_harmful_to_what_is_processed(topic: Topic) -> None:
    [text] = differences(topic, 1)
    assert text.startswith("harmful")
    assert "has 1 partition, and needs 6" in text
    assert text.endswith(
        f"kafka-topics.sh --bootstrap-server kafka:9092 --alter --topic x.{topic.name} "
        "--partitions 6"
    )
    assert differences(topic, 12) == [], "the worker knows whether it has grown"


def test_too_few_partitions_are_harmless_elsewhere() -> None:
    [text] = differences(CHAT_MESSAGES, 1)
    assert text.startswith("harmless")
