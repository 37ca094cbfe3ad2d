"""Wait for Kafka, and create the topics of the catalogue."""

import time
from collections.abc import Iterable

from infra.errors import InfraError, KafkaUnreachable
from kafka_io.errors import TopicRefused, Unread
from kafka_io.topic_admin import TopicAdmin
from schemas.topics import CATALOGUE, Topic

_LEADERS_S = 30.0
_PING_S = 1.0
_POLL_S = 0.05


def wait_for_kafka(bootstrap_servers: str, *, within_s: float) -> None:
    """Return when a broker answers.

    Raises:
        KafkaUnreachable: no broker has answered within `within_s` seconds.
    """
    admin = TopicAdmin(bootstrap_servers)
    deadline = time.monotonic() + within_s
    while True:
        try:
            admin.ping(_PING_S)
        except Unread as error:
            if time.monotonic() > deadline:
                raise KafkaUnreachable(
                    f"no Kafka has answered at {bootstrap_servers} within {within_s:g} s "
                    f"({error}); set KAFKA_BOOTSTRAP_SERVERS to another address, or unset it to "
                    "start the embedded broker"
                ) from error
        else:
            return


def answers(bootstrap_servers: str) -> bool:
    """Return whether a broker answers now."""
    try:
        TopicAdmin(bootstrap_servers).ping(_PING_S)
    except Unread:
        return False
    return True


def cluster_id_of(bootstrap_servers: str, *, within_s: float) -> str:
    """Return the id of the cluster that answers.

    Raises:
        KafkaUnreachable: no broker has answered within `within_s` seconds.
    """
    try:
        return TopicAdmin(bootstrap_servers).ping(within_s)
    except Unread as error:
        raise KafkaUnreachable(
            f"no Kafka has answered at {bootstrap_servers} within {within_s:g} s ({error})"
        ) from error


def provision(
    bootstrap_servers: str, *, prefix: str = "", topics: Iterable[Topic] = CATALOGUE
) -> list[str]:
    """Create the topics that do not exist yet, and leave the others as they are.

    Replication is the cluster's default. A topic that was created has a leader for every partition
    when this returns; before that, Kafka answers a reader that there is no such topic.

    Returns:
        The names of the topics that were created.

    Raises:
        InfraError: Kafka refused a topic, or a topic has no leader; the message says which.
    """
    admin = TopicAdmin(bootstrap_servers)
    try:
        created = admin.create(topics, prefix=prefix)
    except TopicRefused as error:
        raise InfraError(str(error)) from error
    _wait_for_leaders(admin, created)
    return created


def _wait_for_leaders(admin: TopicAdmin, names: list[str]) -> None:
    missing = set(names)
    deadline = time.monotonic() + _LEADERS_S
    while missing:
        missing = admin.unanswered(missing)
        if missing and time.monotonic() > deadline:
            raise InfraError(
                f"topics without a leader {_LEADERS_S:g} s after they were created: "
                f"{', '.join(sorted(missing))}; is a broker down?"
            )
        if missing:
            time.sleep(_POLL_S)
