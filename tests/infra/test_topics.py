import uuid

import pytest

from infra.embedded_broker import free_port
from infra.errors import InfraError, KafkaUnreachable
from infra.topics import provision, wait_for_kafka
from schemas.topics import RISK_ALERTS, RISK_STATE
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
