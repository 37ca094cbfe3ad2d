"""Topics as Kafka knows them: their ids, partitions and leader epochs, and how they are made.

aiokafka's admin client knows no topic ids, so this module uses confluent-kafka's. Its calls block;
coroutines call them in a thread.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported
    AdminClient,
    AlterConfigOpType,  # pyright: ignore[reportPrivateImportUsage]  # re-exported
    ConfigEntry,  # pyright: ignore[reportPrivateImportUsage]  # re-exported
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]  # re-exported
    NewPartitions,  # pyright: ignore[reportPrivateImportUsage]  # re-exported
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]  # re-exported
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]  # re-exported
)
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from kafka_io.client import Admin
from kafka_io.errors import TopicRefused, Unread
from kafka_io.refusals import denial_text
from kafka_io.topic_checks import FoundTopic
from schemas.topics import Topic

logger = logging.getLogger(__name__)

_CREATE_S = 30.0
_PING_S = 2.0
_AGAIN_S = 0.2
_DENIALS = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_MISSING = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND)
_LOADING = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
"""A new coordinator of a group, as on a new cluster, has not read the group yet."""
_MASK_64 = (1 << 64) - 1


class TopicIdentity(NamedTuple):
    """One incarnation of a topic."""

    name: str
    topic_id: bytes
    """16 bytes; a topic that is deleted and created again has another id."""
    partitions: int


class PartitionEnd(NamedTuple):
    """The end of a partition, as its leader knows it."""

    offset: int
    """The offset after the last committed record."""
    leader_epoch: int
    """A broker that is cut off from the others has an earlier one, and takes itself for leader."""


class PartitionReplicas(NamedTuple):
    """The brokers that have a partition, by their ids."""

    number: int
    leader: int | None
    """None while no broker leads."""
    replicas: Sequence[int]
    in_sync: Sequence[int]
    """The replicas that have all that the leader has."""


class GroupMember(NamedTuple):
    """A member of a consumer group."""

    name: str
    """The name that it keeps over restarts; else the one that the group gave it."""
    client_id: str


class Right(NamedTuple):
    """An ACL that allows an operation, from every host."""

    kind: str
    """`TOPIC`, `GROUP` or `TRANSACTIONAL_ID`."""
    name: str
    operation: str
    """Such as `READ`, `WRITE` and `DESCRIBE_CONFIGS`."""
    is_prefix: bool
    """Whether it is about every name that begins so."""


class TopicAdmin:
    """Asks Kafka about topics, and creates them."""

    def __init__(self, bootstrap_servers: str, *, timeout_s: float = _CREATE_S) -> None:
        """Make a client.

        Args:
            bootstrap_servers: Kafka's addresses, `host:port` with commas between.
            timeout_s: how long one request may take.
        """
        self._connection = Admin(bootstrap_servers)
        self._timeout_s = timeout_s

    @property
    def _admin(self) -> AdminClient:
        return self._connection.current()

    def ping(self, within_s: float) -> str:
        """Return the cluster's id when a broker answers.

        Raises:
            Unread: no broker has answered in time.
        """
        try:
            found = self._admin.list_topics(timeout=within_s)
        except KafkaException as error:
            reason = self._connection.refusal() or error.args[0].str()
            raise Unread(reason) from error
        return str(found.cluster_id)

    def names(self) -> set[str]:
        """Return the names of all topics that this client may know of.

        Raises:
            Unread: Kafka does not answer.
        """
        try:
            return set(self._admin.list_topics(timeout=self._timeout_s).topics)
        except KafkaException as error:
            raise Unread(self._connection.refusal() or error.args[0].str()) from error

    def describe(
        self, names: Iterable[str], *, leave_out_forbidden: bool = False
    ) -> Mapping[str, TopicIdentity]:
        """Return the identities of topics, without those that do not exist.

        Args:
            names: the topics.
            leave_out_forbidden: whether topics that this client may not know of are left out, too.

        Raises:
            Unread: Kafka does not answer, or an ACL is missing.
        """
        found = {}
        collection = TopicCollection(list(names))
        answers = self._admin.describe_topics(collection, request_timeout=self._timeout_s)
        for name, answer in answers.items():
            try:
                topic = answer.result()
            except KafkaException as error:
                code = error.args[0].code()
                is_forbidden = code == KafkaError.TOPIC_AUTHORIZATION_FAILED
                if code == KafkaError.UNKNOWN_TOPIC_OR_PART or (
                    is_forbidden and leave_out_forbidden
                ):
                    continue
                raise Unread(_reason(error, "DESCRIBE", "topic", name)) from error
            found[name] = TopicIdentity(name, _id_bytes(topic.topic_id), len(topic.partitions))
        return found

    def operations(
        self, topics: Iterable[str], groups: Iterable[str] = ()
    ) -> tuple[Mapping[str, frozenset[str]], Mapping[str, frozenset[str]]]:
        """Return what this client may do with topics and groups, as Kafka's authorizer judges.

        Without an authorizer, it is everything.

        Args:
            topics: the topics; those that do not exist are left out.
            groups: the groups; those that do not exist are left out.

        Returns:
            The operations by topic, and by group, such as READ, WRITE and DESCRIBE_CONFIGS; none
            where the client may not even describe it.

        Raises:
            Unread: Kafka does not answer.
        """
        of_topics = self._admin.describe_topics(
            TopicCollection(list(topics)),
            include_authorized_operations=True,
            request_timeout=self._timeout_s,
        )
        names = list(groups)
        of_groups = self._describe_groups(names, with_operations=True) if names else {}
        return _operations("topic", of_topics), _operations("group", of_groups)

    def _describe_groups(
        self, names: list[str], *, with_operations: bool = False
    ) -> Mapping[str, Any]:
        """Return the answers to a request for descriptions, after coordinators have loaded."""
        until_s = time.monotonic() + self._timeout_s
        while True:
            answers: Mapping[str, Any] = self._admin.describe_consumer_groups(
                names,
                include_authorized_operations=with_operations,
                request_timeout=self._timeout_s,
            )
            if time.monotonic() > until_s or not any(map(_is_loading, answers.values())):
                return answers
            time.sleep(_AGAIN_S)  # a coordinator that has loaded notifies nobody

    def allow(self, principal: str, rights: Iterable[Right]) -> None:
        """Add ACLs; those that are there stay.

        Args:
            principal: whom they allow it, as in `User:edge`.
            rights: what they allow.

        Raises:
            Unread: Kafka does not answer, has no authorizer, or this client may not add ACLs.
        """
        bindings = [
            AclBinding(
                ResourceType[right.kind],
                right.name,
                ResourcePatternType.PREFIXED if right.is_prefix else ResourcePatternType.LITERAL,
                principal,
                "*",
                AclOperation[right.operation],
                AclPermissionType.ALLOW,
            )
            for right in rights
        ]
        answers = self._admin.create_acls(bindings, request_timeout=self._timeout_s)
        for answer in answers.values():
            try:
                answer.result()
            except KafkaException as error:
                raise Unread(
                    f"the ACLs of {principal} were not added: {error.args[0].str()}"
                ) from error

    def found(
        self, names: Iterable[str], *, leave_out_forbidden: bool = False
    ) -> Mapping[str, FoundTopic]:
        """Return topics with their settings, without those that do not exist.

        A client without the right to read settings gets none of them.

        Args:
            names: the topics.
            leave_out_forbidden: whether topics that this client may not know of are left out, too.

        Raises:
            Unread: Kafka does not answer, or an ACL is missing.
        """
        topics = self.describe(names, leave_out_forbidden=leave_out_forbidden)
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in topics]
        answers = (
            self._admin.describe_configs(resources, request_timeout=self._timeout_s)
            if resources
            else {}
        )
        configs: dict[str, dict[str, str]] = {}
        for resource, answer in answers.items():
            try:
                entries = answer.result()
            except KafkaException as error:
                logger.info("the settings of %s are not known: %s", resource.name, error)
                continue
            configs[resource.name] = {
                name: entry.value for name, entry in entries.items() if entry.value is not None
            }
        return {
            name: FoundTopic(topic.partitions, configs.get(name, {}))
            for name, topic in topics.items()
        }

    def ends(self, partitions: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], PartitionEnd]:
        """Return the end of each partition, without those that no leader answers for."""
        latest: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # its stubs lack it
        queries: dict[TopicPartition, OffsetSpec] = {
            TopicPartition(*partition): latest for partition in partitions
        }
        if not queries:
            return {}
        ends = {}
        answers = self._admin.list_offsets(
            queries,
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=self._timeout_s,
        )
        for where, answer in answers.items():
            try:
                end = answer.result()
            except KafkaException as error:
                logger.debug("%s/%d has no leader: %s", where.topic, where.partition, error)
            else:
                # A broker that does not know yet since when it leads leaves the epoch out.
                if end.leader_epoch is not None:
                    ends[where.topic, where.partition] = PartitionEnd(end.offset, end.leader_epoch)
        return ends

    def begins(self, partitions: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """Return the first offset of each partition, without those that no leader answers for."""
        earliest: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # its stubs lack it
        queries = {TopicPartition(*partition): earliest for partition in partitions}
        found = {}
        if queries:
            answers = self._admin.list_offsets(queries, request_timeout=self._timeout_s)
            for where, answer in answers.items():
                with suppress(KafkaException):
                    found[where.topic, where.partition] = int(answer.result().offset)
        return found

    def replicas(self, name: str) -> list[PartitionReplicas]:
        """Return who has the partitions of a topic; nothing for a topic that does not exist.

        Raises:
            Unread: Kafka does not answer, or an ACL is missing.
        """
        answers = self._admin.describe_topics(
            TopicCollection([name]), request_timeout=self._timeout_s
        )
        try:
            found = answers[name].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return []
            raise Unread(_reason(error, "DESCRIBE", "topic", name)) from error
        return [
            PartitionReplicas(
                part.id,
                None if part.leader is None else part.leader.id,
                [node.id for node in part.replicas],
                [node.id for node in part.isr],
            )
            for part in found.partitions
        ]

    def leader_epochs(self, partitions: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """Return the leader epoch of each partition, without those that no leader answers for."""
        return {where: end.leader_epoch for where, end in self.ends(partitions).items()}

    def create(self, topics: Iterable[Topic], *, prefix: str = "") -> list[str]:
        """Create the topics that do not exist, with the cluster's default replication.

        Returns:
            The names of the topics that were created.

        Raises:
            TopicRefused: Kafka refused a topic; the message says which, and why.
        """
        created = []
        answers = self._admin.create_topics(
            [
                NewTopic(
                    prefix + topic.name, num_partitions=topic.partitions, config=topic.config()
                )
                for topic in topics
            ],
            request_timeout=self._timeout_s,
        )
        for name, answer in answers.items():
            try:
                answer.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    reason = _reason(error, "CREATE", "topic", name)
                    raise TopicRefused(f"topic {name} could not be made: {reason}") from error
            else:
                created.append(name)
        return created

    def add_partitions(self, names: Iterable[str], count: int) -> None:
        """Give topics more partitions.

        Args:
            names: the topics; each has fewer partitions.
            count: the partitions that each will have.

        Raises:
            TopicRefused: Kafka refused; the message says which topic, and why.
        """
        requests = [NewPartitions(name, count) for name in names]
        if not requests:
            return
        answers = self._admin.create_partitions(requests, request_timeout=self._timeout_s)
        for name, answer in answers.items():
            try:
                answer.result()
            except KafkaException as error:
                reason = _reason(error, "ALTER", "topic", name)
                raise TopicRefused(f"topic {name} could not get partitions: {reason}") from error

    def change_settings(self, name: str, settings: Mapping[str, str]) -> None:
        """Change settings of a topic; the others stay as they are.

        Raises:
            TopicRefused: Kafka refused; the message says why.
        """
        entries = [
            ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
            for setting, value in settings.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        answers = self._admin.incremental_alter_configs([resource], request_timeout=self._timeout_s)
        for answer in answers.values():
            try:
                answer.result()
            except KafkaException as error:
                reason = _reason(error, "ALTER_CONFIGS", "topic", name)
                raise TopicRefused(f"{name} could not be changed: {reason}") from error

    def members_of(self, group: str) -> list[str]:
        """Return the names of a group's members.

        Raises:
            Unread: Kafka does not answer.
        """
        return [member.name for member in self.describe_members(group)]

    def describe_members(self, group: str) -> list[GroupMember]:
        """Return a group's members.

        Raises:
            Unread: Kafka does not answer.
        """
        answers = self._describe_groups([group])
        try:
            members = answers[group].result().members
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return []
            raise Unread(_reason(error, "DESCRIBE", "group", group)) from error
        return [
            GroupMember(member.group_instance_id or member.member_id, member.client_id or "")
            for member in members
        ]

    def unanswered(self, names: Iterable[str]) -> set[str]:
        """Return the topics with a partition that no leader answers for.

        The metadata names a leader before the leader has its files and knows that it leads.
        """
        requested = set(names)
        topics = self._admin.list_topics(timeout=self._timeout_s).topics
        partitions = {
            (name, number)
            for name in requested & topics.keys()
            for number in topics[name].partitions
        }
        silent = {name for name, _ in partitions - self.leader_epochs(partitions).keys()}
        return requested - {name for name, _ in partitions} | silent


async def wait_until_answered(bootstrap_servers: str, name: str, stop: asyncio.Event) -> None:
    """Return when Kafka answers, or when `stop` is set; log that a part waits, and each reason.

    Args:
        bootstrap_servers: Kafka's addresses, `host:port` with commas between.
        name: the part that waits.
        stop: ends the wait.
    """
    logged = ""
    while not stop.is_set():
        try:
            await asyncio.to_thread(TopicAdmin(bootstrap_servers).ping, _PING_S)
        except Unread as error:
            if logged != str(error):
                logged = str(error)
                logger.warning("%s waits for Kafka at %s: %s", name, bootstrap_servers, error)
            await asyncio.sleep(_AGAIN_S)
        else:
            return


def _operations(kind: str, answers: Mapping[str, Any]) -> Mapping[str, frozenset[str]]:
    """Return the operations in answers to requests for descriptions; see `operations`."""
    found = {}
    for name, answer in answers.items():
        try:
            allowed = answer.result().authorized_operations
        except KafkaException as error:
            code = error.args[0].code()
            if code in _DENIALS:
                found[name] = frozenset[str]()
            elif code not in _MISSING:
                raise Unread(_reason(error, "DESCRIBE", kind, name)) from error
        else:
            found[name] = frozenset(operation.name for operation in allowed or ())
    return found


def _is_loading(answer: Any) -> bool:
    """Return whether a coordinator has not answered because it has not read its groups yet."""
    error = answer.exception()
    return isinstance(error, KafkaException) and error.args[0].code() in _LOADING


def _reason(error: KafkaException, operation: str, kind: str, name: str) -> str:
    """Return why an operation on a topic or group has failed."""
    if error.args[0].code() in _DENIALS:
        return denial_text(operation, kind, name)
    text: str = error.args[0].str()
    return f"{kind} {name}: {text}"


def _id_bytes(topic_id: Any) -> bytes:
    most: int = topic_id.get_most_significant_bits()
    least: int = topic_id.get_least_significant_bits()
    return (most & _MASK_64).to_bytes(8, "big") + (least & _MASK_64).to_bytes(8, "big")
