"""The ACLs of each part: what the code reads and writes, and nothing beside it."""

from typing import cast

import pytest

from build_tools.compose_files import USERS
from infra.acls import PARTS, Grant, Operation, Resource, commands_of, grants_of
from kafka_io.topic_checks import INPUTS, STATES
from schemas.topics import (
    CATALOGUE,
    NOTIFICATION_DELIVERIES,
    NOTIFICATION_QUEUES,
    NOTIFICATION_ROUTES,
    OPERATOR_ACTIONS,
    PARTITIONS,
    PROCESSOR_POSITIONS,
    TOPIC_GROWTHS,
)
from sse_edge.streams.channels import CHANNELS
from stream_processors import rekey
from stream_processors.growths import GROWING
from stream_processors.notifications.outbox import Outbox
from stream_processors.notifications.processors import RouteEvents, SendMessages
from stream_processors.notifications.route_table import RouteTable
from stream_processors.processor import Processor
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import processors_of


def names(part: str, operation: Operation, prefix: str = "") -> set[str]:
    return {
        grant.name
        for grant in grants_of(part, prefix=prefix)
        if grant.operation is operation and grant.resource is Resource.TOPIC
    }


def test_processors_read_the_inputs_and_states_of_their_code() -> None:
    processors = processors_of(ProcessorSettings())
    inputs = {topic.name for processor in processors for topic in processor.inputs}
    states = {topic.name for processor in processors for topic in processor.states}
    assert inputs <= INPUTS
    assert states <= STATES
    own = {PROCESSOR_POSITIONS.name}
    assert names("processor", Operation.READ) == inputs | states | own | {TOPIC_GROWTHS.name}
    assert states | own <= names("processor", Operation.WRITE)


def test_a_notifier_reads_and_writes_what_its_code_does() -> None:
    routes = RouteTable("localhost:1", "")
    processors: tuple[Processor, ...] = (
        RouteEvents(routes),
        SendMessages(routes, cast("Outbox", None), 1.0),
    )
    inputs = {topic.name for processor in processors for topic in processor.inputs}
    states = {topic.name for processor in processors for topic in processor.states}
    assert inputs <= INPUTS
    assert states <= STATES
    read = names("notifier", Operation.READ)
    assert inputs | states | {NOTIFICATION_ROUTES.name, PROCESSOR_POSITIONS.name} <= read
    assert states | {NOTIFICATION_DELIVERIES.name} <= names("notifier", Operation.WRITE)


def test_topics_grow_that_grow_together() -> None:
    assert names("grow", Operation.ALTER) == {topic.name for topic in GROWING}


def test_topics_get_other_keys_that_the_command_moves() -> None:
    tables = (*rekey._HISTORY, *rekey._UNREAD, *rekey._COMMANDS, *rekey._TABLES)
    moved = {topic.name for topic in tables} | STATES - {NOTIFICATION_QUEUES.name}
    assert names("rekey", Operation.WRITE) == moved | {OPERATOR_ACTIONS.name}
    assert names("rekey", Operation.READ) == moved | {TOPIC_GROWTHS.name}


def test_only_retention_changes_the_settings_of_topics() -> None:
    assert names("retention", Operation.ALTER_CONFIGS) == {topic.name for topic in CATALOGUE}
    assert names("retention", Operation.WRITE) == {OPERATOR_ACTIONS.name}
    others = [part for part in PARTS if part != "retention"]
    assert not any(names(part, Operation.ALTER_CONFIGS) for part in others)


def test_an_erasure_reads_all_topics_and_writes_those_with_rows() -> None:
    rows = {topic.name for topic in CATALOGUE if topic.is_compacted}
    written = names("erase", Operation.WRITE)
    tombstoned = {"risk.books", "risk.limits", "risk.scenarios"}
    assert rows | tombstoned | {OPERATOR_ACTIONS.name} == written
    assert names("erase", Operation.READ) == {topic.name for topic in CATALOGUE}
    ids = {
        grant.name for grant in grants_of("erase") if grant.resource is Resource.TRANSACTIONAL_ID
    }
    assert {"tapewire-0", "tapewire-notifier-0"} <= ids


def test_edges_read_the_topic_of_each_channel() -> None:
    channels = {channel.topic.name for channel in CHANNELS.values()}
    assert channels <= names("edge", Operation.READ)


def test_the_provisioner_makes_each_topic_and_reads_none() -> None:
    catalogue = {topic.name for topic in CATALOGUE}
    assert names("provision", Operation.CREATE) == catalogue
    assert names("provision", Operation.READ) == names("provision", Operation.WRITE) == set()


def test_each_topic_has_a_writer_and_a_reader() -> None:
    running = [user for user in USERS if user not in ("admin", "provision", "demo")]
    written = set().union(*(names(part, Operation.WRITE) for part in running))
    read = set().union(*(names(part, Operation.READ) for part in (*running, "rebuild", "grow")))
    catalogue = {topic.name for topic in CATALOGUE}
    assert catalogue - written == {"risk.rebuilds", "topic.growths"}  # of commands
    assert catalogue - read == {"dead.letters"}  # for people


@pytest.mark.parametrize("part", PARTS)
def test_names_have_the_prefix_of_the_system(part: str) -> None:
    for grant in grants_of(part, prefix="desk.", version="v2"):
        assert grant.name.startswith("desk.")
        assert not grant.is_prefix or len(grant.name) > len("desk.")


def test_an_id_of_processors_is_none_of_a_worker_of_commands() -> None:
    def prefixes(part: str) -> list[str]:
        return [
            grant.name
            for grant in grants_of(part)
            if grant.resource is Resource.TRANSACTIONAL_ID and grant.is_prefix
        ]

    assert all(
        f"tapewire-{number}".startswith(tuple(prefixes("processor"))) for number in range(99)
    )
    for number in range(PARTITIONS):
        command = f"tapewire-training.commands-{number}"
        assert command.startswith(tuple(prefixes("trainer")))
        assert not command.startswith(tuple(prefixes("processor")))
        assert not f"tapewire-{number}".startswith(tuple(prefixes("trainer")))


def test_a_rebuild_has_topics_and_a_group_of_its_own() -> None:
    without, grants = grants_of("rebuild"), grants_of("rebuild", version="v2")
    more = set(grants) - set(without)
    assert Grant(Resource.TOPIC, "v2.", Operation.CREATE, is_prefix=True) in more
    assert Grant(Resource.GROUP, "v2.tapewire", Operation.READ) in more
    assert set(grants_of("processor", version="v2")) - set(grants_of("processor")) == {
        Grant(Resource.TOPIC, "v2.", Operation.READ, is_prefix=True),
        Grant(Resource.GROUP, "v2.tapewire", Operation.DESCRIBE),
    }


def test_commands_add_each_acl_once() -> None:
    grants = grants_of("trainer", prefix="desk.")
    comment, *commands = commands_of("trainer", "User:t", grants, "kafka:9093")
    assert comment == "# trainer: `python -m producers trainer`: trains models"
    start = "kafka-acls.sh --bootstrap-server kafka:9093 --add --allow-principal 'User:t' "
    assert all(command.startswith(start) for command in commands)
    assert f"{start}--operation Read --operation Write --topic desk.training.events" in commands
    assert f"{start}--operation Read --group desk.tapewire-training.commands" in commands
    text = "\n".join(commands)
    assert all(text.count(f" {grant.name}") >= 1 for grant in grants)
    assert text.count("prefixed") == 1
