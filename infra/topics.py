"""The catalogue's topics, made where they are missing."""

import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from infra.errors import InfraError, KafkaUnreachable
from schemas.topics import CATALOGUE, Topic

_REQUEST_TIMEOUT_S = 30.0
_ASK_S = 1.0
_ASK_AGAIN_S = 0.05


def wait_for_kafka(bootstrap_servers: str, *, within_s: float) -> None:
    """Return when a broker answers.

    Raises:
        KafkaUnreachable: none has within `within_s`.
    """
    admin = _admin(bootstrap_servers)
    deadline = time.monotonic() + within_s
    while True:
        try:
            admin.list_topics(timeout=_ASK_S)
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise KafkaUnreachable(
                    f"no Kafka has answered at {bootstrap_servers} within {within_s:g} s "
                    f"({error.args[0].str()}); KAFKA_BOOTSTRAP_SERVERS names another, and where "
                    "it is not set an embedded one is started"
                ) from error
        else:
            return


def provision(
    bootstrap_servers: str, *, prefix: str = "", topics: Iterable[Topic] = CATALOGUE
) -> list[str]:
    """Make the topics that do not exist yet; those that do are left as they are.

    Replication is the cluster's default.

    Returns:
        The names of those that were made.

    Raises:
        InfraError: Kafka refused one; the message says which, and why.
    """
    wanted = [
        NewTopic(prefix + topic.name, num_partitions=topic.partitions, config=topic.config())
        for topic in topics
    ]
    made = []
    admin = _admin(bootstrap_servers)  # the answers die with it
    answers = admin.create_topics(wanted, request_timeout=_REQUEST_TIMEOUT_S)
    for name, answer in answers.items():
        try:
            answer.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise InfraError(
                    f"topic {name} could not be made: {error.args[0].str()}"
                ) from error
        else:
            made.append(name)
    _wait_for_leaders(admin, made)
    return made


def _wait_for_leaders(admin: AdminClient, names: list[str]) -> None:
    """Return when topics can be read and written: a while after Kafka has said that they are made.

    Who asks for one before is told that there is none.
    """
    missing = set(names)
    deadline = time.monotonic() + _REQUEST_TIMEOUT_S
    while missing:
        missing = _without_leader(admin, missing)
        if missing and time.monotonic() > deadline:
            raise InfraError(
                f"topics without a leader {_REQUEST_TIMEOUT_S:g} s after they were made: "
                f"{', '.join(sorted(missing))}; is a broker down?"
            )
        if missing:
            time.sleep(_ASK_AGAIN_S)


def _without_leader(admin: AdminClient, names: set[str]) -> set[str]:
    """Topics some partition of which nobody answers for.

    The metadata name a leader some time before it has its files, and knows that it leads.
    """
    topics = admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
    latest: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked: dict[TopicPartition, OffsetSpec] = {
        TopicPartition(name, number): latest
        for name in names & topics.keys()
        for number in topics[name].partitions
    }
    if not asked:
        return names
    answers = admin.list_offsets(asked, request_timeout=_REQUEST_TIMEOUT_S)
    silent = {one.topic for one, answer in answers.items() if answer.exception() is not None}
    return names - {one.topic for one in asked} | silent


def _admin(bootstrap_servers: str) -> AdminClient:
    # Its own log goes to stderr, and says in other words what is raised here.
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
