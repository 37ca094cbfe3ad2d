"""Wait for Kafka, and create the topics of the catalogue."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from infra.errors import InfraError, KafkaUnreachable, TopicsUnfit
from kafka_io.errors import TopicRefused, Unread
from kafka_io.topic_admin import TopicAdmin
from kafka_io.topic_checks import find_differences
from schemas.topics import CATALOGUE, Topic

logger = logging.getLogger(__name__)

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
    bootstrap_servers: str,
    *,
    prefix: str = "",
    topics: Iterable[Topic] = CATALOGUE,
    warn: Callable[[str], None] = logger.warning,
) -> list[str]:
    """Create the topics that do not exist yet, and leave the others as they are.

    A topic that somebody has made otherwise is named with what mends it.

    Replication is the cluster's default. A topic that was created has a leader for every partition
    when this returns; before that, Kafka answers a reader that there is no such topic.

    Args:
        bootstrap_servers: Kafka's addresses, `host:port` with commas between.
        prefix: the prefix of the topics' names.
        topics: rows of the catalogue.
        warn: takes a text about a topic that differs without harm.

    Returns:
        The names of the topics that were created.

    Raises:
        TopicsUnfit: results would be lost or wrong with topics as they are.
        InfraError: Kafka refused a topic, or a topic has no leader; the message says which.
    """
    topics = tuple(topics)
    admin = TopicAdmin(bootstrap_servers)
    try:
        created = admin.create(topics, prefix=prefix)
    except TopicRefused as error:
        raise InfraError(str(error)) from error
    _wait_for_leaders(admin, created)
    _check(
        admin, bootstrap_servers, {prefix + topic.name: topic for topic in topics}, created, warn
    )
    return created


def _check(
    admin: TopicAdmin,
    bootstrap_servers: str,
    topics: Mapping[str, Topic],
    created: Collection[str],
    warn: Callable[[str], None],
) -> None:
    """Compare the topics that were there before with the catalogue."""
    found = admin.found(name for name in topics if name not in created)
    expected = {name: (topic, topic.partitions) for name, topic in topics.items()}
    differences = find_differences(bootstrap_servers, expected, found)
    for difference in differences:
        if not difference.is_harmful:
            warn(str(difference))
    harmful = [str(difference) for difference in differences if difference.is_harmful]
    if harmful:
        raise TopicsUnfit(
            "topics exist with settings by which results would be lost or wrong:\n"
            + "\n".join(harmful)
        )


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
