"""Every Kafka client of this system is built here, for each of the three libraries.

aiokafka reads and writes records, confluent-kafka administers topics, and Faust runs the
processors. Each has its own form of Kafka's addresses, and of the settings of encryption and
authentication, which are the process's own: see `kafka_io.security`.
"""

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache, partial
from math import inf
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import KafkaError as LibrdkafkaError
from confluent_kafka.admin import AdminClient

from kafka_io.assignor import NumberAssignor
from kafka_io.connections import Connections
from kafka_io.errors import RecordRefused, RegistryUnavailable
from kafka_io.framing import ResolvingConsumer, schema_cache
from kafka_io.refusals import denial_text
from kafka_io.schema_registry import SchemaRegistrySettings
from kafka_io.security import (
    Credentials,
    NoSaslExchanges,
    SecuritySettings,
    current_credentials,
)
from kafka_io.subjects import current_wire
from kafka_io.tidy_clients import TidyProducer, close_if_interrupted, cut_off, read_errors
from kafka_io.tokens import TokenProvider, librdkafka_callback
from schemas.codec import VALUE_BYTES_MAX

logger = logging.getLogger(__name__)

_STOP_S = 5.0
_TRANSACTION_RETRY_MS = 20
"""A broker refuses the first records of a transaction while it verifies it, or while the markers of
the transaction before are on their way; both take milliseconds."""
_FETCH_WAIT_MS = 200
"""How long a broker may hold back a fetch that finds no records."""
_LOOK_MS = 5_000
"""How often a consumer looks for something to fetch without a reason. What changes that, such as an
answer, a seek or an assignment, wakes it at once; aiokafka's default is five times a second."""
_ANSWER_MS = 5_000
"""How long a request waits for its answer. A broker that is paused or cut off keeps its
connections, so this is how long its clients take to ask another one."""
_GROUP_ANSWER_MS = 9_000
"""How long a request of a group's member waits. The answer to a member that joins is held back
until the others have finished their transactions; a session is ten seconds."""
_CONNECT_WAIT_S = 1.0
"""How long a connection waits for another one that is being made."""

PRODUCER_METADATA_S = 5.0
"""How often a producer asks for the partitions of its topics. Kafka's default is five minutes, for
which a producer would not see that a topic has grown."""

MISSING_S = 5.0
"""How long a topic or partition may be unknown before a record for it is refused. One that was just
made is not known to every broker at once."""
_METADATA_POLL_S = 0.2
_METADATA_ANSWER_S = 2.0
_METADATA_MS = 1_000

_partitioner = DefaultPartitioner()
_no_sasl_exchanges = NoSaslExchanges()
_REFUSALS = (LibrdkafkaError._AUTHENTICATION, LibrdkafkaError._SSL)  # noqa: SLF001  # so librdkafka names its own


def consumer(
    bootstrap_servers: str,
    *topics: str,
    schema_wait_s: float = inf,
    resolves: bool = True,
    **options: Any,
) -> AIOKafkaConsumer:
    """Make a consumer, of committed records unless options differ, which commits nothing by itself.

    It returns values in Confluent's framings in single-object encoding; see `kafka_io.framing`.

    Args:
        bootstrap_servers: Kafka's addresses, `host:port` with commas between.
        topics: what to subscribe to; none for a consumer whose partitions are assigned.
        schema_wait_s: the longest time that a record waits whose schema is not known yet.
        resolves: whether it does; else values are as the log has them.
        options: aiokafka's, beyond those that every consumer has.

    Raises:
        InvalidSetting: the settings of the schema registry or of security cannot be used.
    """
    kind: Callable[..., AIOKafkaConsumer] = AIOKafkaConsumer
    if resolves:
        registry = SchemaRegistrySettings()
        kind = partial(
            ResolvingConsumer,
            schemas=schema_cache(registry),
            schema_wait_s=min(registry.wait_s, schema_wait_s),
        )
    made = kind(
        *topics,
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        consumer_timeout_ms=_LOOK_MS,
        **{"isolation_level": "read_committed", **options},
        **aiokafka_options(),
    )
    answer_ms = _ANSWER_MS if options.get("group_id") is None else _GROUP_ANSWER_MS
    _adapt(made._client, answer_ms)  # noqa: SLF001  # it has no name outside
    return made


def plain(bootstrap_servers: str) -> AIOKafkaClient:
    """Make a client for single requests; its caller bootstraps and closes it.

    Args:
        bootstrap_servers: Kafka's addresses, `host:port` with commas between.
    """
    made = AIOKafkaClient(bootstrap_servers=bootstrap_servers, **aiokafka_options())
    _adapt(made, _ANSWER_MS)
    return made


def producer(bootstrap_servers: str, *, linger_ms: int) -> AIOKafkaProducer:
    """Make an idempotent producer, whose sends end when all in-sync replicas have the record.

    Args:
        bootstrap_servers: Kafka's addresses, `host:port` with commas between.
        linger_ms: how long a batch waits for more records.
    """
    made = TidyProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        linger_ms=linger_ms,
        metadata_max_age_ms=int(PRODUCER_METADATA_S * 1000),
        max_request_size=VALUE_BYTES_MAX,
        **_framing(),
        **aiokafka_options(),
    )
    _adapt(made.client, _ANSWER_MS)
    return made


def transactional_producer(
    bootstrap_servers: str, transactional_id: str, *, timeout_s: float
) -> AIOKafkaProducer:
    """Make a producer of transactions; starting it fences the id's earlier producers.

    Args:
        bootstrap_servers: Kafka's addresses, `host:port` with commas between.
        transactional_id: the id.
        timeout_s: how long a transaction may stay open; then Kafka aborts it.
    """
    made = TidyProducer(
        bootstrap_servers=bootstrap_servers,
        transactional_id=transactional_id,
        transaction_timeout_ms=int(timeout_s * 1000),
        retry_backoff_ms=_TRANSACTION_RETRY_MS,
        acks="all",
        linger_ms=0,
        max_batch_size=1 << 19,
        max_request_size=VALUE_BYTES_MAX,
        **_framing(),
        **aiokafka_options(),
    )
    _adapt(made.client, _ANSWER_MS)
    return made


def group_consumer(
    bootstrap_servers: str,
    group: str,
    member: str,
    *,
    session_timeout_s: float,
    client_id: str = "tapewire",
) -> AIOKafkaConsumer:
    """Make a consumer that shares topics with the other members of a group.

    The same partition number of all topics goes to the same member. The caller seeks: a partition
    that is fetched at an offset that the log does not have is an error.

    Args:
        bootstrap_servers: Kafka's addresses, `host:port` with commas between.
        group: the group's name.
        member: a name that the member keeps; after a restart it gets its partitions back at once.
        session_timeout_s: how long the group waits for a member that is silent.
        client_id: what the group's description says of where the member runs.
    """
    registry = SchemaRegistrySettings()
    made = ResolvingConsumer(
        schemas=schema_cache(registry),
        schema_wait_s=registry.wait_s,
        bootstrap_servers=bootstrap_servers,
        client_id=client_id,
        group_id=group,
        group_instance_id=member,
        partition_assignment_strategy=[NumberAssignor],
        session_timeout_ms=int(session_timeout_s * 1000),
        heartbeat_interval_ms=int(session_timeout_s * 300),
        auto_offset_reset="none",
        metadata_max_age_ms=5_000,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        consumer_timeout_ms=_LOOK_MS,
        **aiokafka_options(),
    )
    _adapt(made._client, _GROUP_ANSWER_MS)  # noqa: SLF001  # it has no name outside
    return made


class Admin:
    """A client that administers topics, made anew when the credentials have changed.

    librdkafka reads certificates and keys only when a client is made.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        """Make a client.

        Args:
            bootstrap_servers: Kafka's addresses, `host:port` with commas between.

        Raises:
            InvalidSetting: the settings of security cannot be used.
        """
        self._servers = bootstrap_servers
        self._lock = threading.Lock()
        self._credentials = current_credentials()
        self._refusals: list[str] = []
        """The last refusal of a handshake, if any. It must not refer to this object: librdkafka
        would keep both for ever."""
        self._client = self._new()

    def current(self) -> AdminClient:
        """Return a client with the present credentials."""
        with self._lock:
            credentials = current_credentials()
            if credentials != self._credentials:
                self._credentials = credentials
                self._client = self._new()
            return self._client

    def refusal(self) -> str:
        """Return why the last handshake with a broker has failed; empty if none has."""
        self._client.poll(0)  # it calls the callback for errors
        return self._refusals[0] if self._refusals else ""

    def _new(self) -> AdminClient:
        refusals: list[str] = []
        self._refusals = refusals

        def note(error: LibrdkafkaError) -> None:
            if error.code() in _REFUSALS:
                refusals[:] = [error.str()]

        options: dict[str, Any] = {
            "bootstrap.servers": self._servers,
            # Its own log would go to stderr, and repeats what the callers raise.
            "log_level": 0,
            "error_cb": note,
            # librdkafka asks the leaders that it knows, and does not notice by itself that one has
            # ended: what it knows must be new.
            "metadata.max.age.ms": _METADATA_MS,
            # Where it connects to brokers on demand only, a question for a dead broker keeps two of
            # its threads busy until the question is given up.
            "enable.sparse.connections": False,
            **librdkafka_options(self._credentials),
        }
        return AdminClient(options)


def aiokafka_options(settings: SecuritySettings | None = None) -> dict[str, Any]:
    """Render the settings of security for aiokafka; empty for plain text.

    Raises:
        InvalidSetting: the settings cannot be used.
    """
    credentials = current_credentials(settings)
    settings = credentials.settings
    if settings.is_plain:
        return {}
    options: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.has_tls:
        options["ssl_context"] = _context(credentials)
    match settings.sasl_mechanism:
        case None:
            pass
        case "OAUTHBEARER" | "AWS_MSK_IAM":
            options["sasl_mechanism"] = "OAUTHBEARER"
            options["sasl_oauth_token_provider"] = TokenProvider(settings)
        case mechanism:
            options["sasl_mechanism"] = mechanism
            options["sasl_plain_username"] = credentials.username
            options["sasl_plain_password"] = credentials.password
    return options


def librdkafka_options(credentials: Credentials) -> dict[str, Any]:
    """Render the settings of security for librdkafka; empty for plain text."""
    settings = credentials.settings
    if settings.is_plain:
        return {}
    options: dict[str, Any] = {
        "security.protocol": settings.security_protocol,
        "ssl.ca.pem": credentials.ca,
        "ssl.certificate.pem": credentials.certificate,
        "ssl.key.pem": credentials.key,
        "ssl.key.password": credentials.key_password,
    }
    match settings.sasl_mechanism:
        case None:
            pass
        case "OAUTHBEARER" | "AWS_MSK_IAM":
            options["sasl.mechanism"] = "OAUTHBEARER"
            options["oauth_cb"] = librdkafka_callback(settings)
        case mechanism:
            options["sasl.mechanism"] = mechanism
            options["sasl.username"] = credentials.username
            options["sasl.password"] = credentials.password
    return {name: value for name, value in options.items() if value is not None}


@lru_cache(maxsize=8)
def _context(credentials: Credentials) -> ssl.SSLContext | None:
    return credentials.ssl_context()


def check_security() -> None:
    """Check the settings of security, and warn of what is not safe.

    Raises:
        InvalidSetting: they contradict each other, or a file of theirs cannot be used.
    """
    settings = current_credentials().settings
    aiokafka_options(settings)
    if settings.security_protocol == "SASL_PLAINTEXT":
        logger.warning(
            "KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT: everybody on the network can read what is "
            "sent, and with PLAIN or OAUTHBEARER the password or token; SASL_SSL is safe"
        )


def check_framing(*, writes: bool = True) -> None:
    """Check the settings of the schema registry, and whether it has the schemas to write with.

    A registry that does not answer yet is only logged: writers ask it again.

    Args:
        writes: whether this process writes values, as `TAPEWIRE_WIRE` says.

    Raises:
        InvalidSetting: they contradict each other, a file of theirs cannot be used, or schemas are
            not registered.
    """
    schema_cache(SchemaRegistrySettings())
    wire = current_wire() if writes else None
    if wire is not None:
        try:
            wire.load()
        except RegistryUnavailable as error:
            logger.warning("nothing can be written yet: %s", error)


async def prepare_wire() -> None:
    """Make ready what frames values; it must be done before a producer sends.

    Raises:
        InvalidSetting: the schema registry does not have the schemas, or its settings are invalid.
        RegistryUnavailable: the registry does not answer, or refuses this client.
    """
    wire = current_wire()
    if wire is not None:
        await asyncio.to_thread(wire.load)


def _framing() -> dict[str, Any]:
    """Return the options of a producer that frames values; none for single-object encoding."""
    wire = current_wire()
    return {} if wire is None else {"value_serializer": wire.frame}


def faust_brokers(bootstrap_servers: str) -> list[str]:
    """Render Kafka's addresses as Faust's broker URLs."""
    return [f"kafka://{server}" for server in bootstrap_servers.split(",")]


def known_partitions(made: AIOKafkaProducer, topic: str) -> set[int]:
    """Return the partitions of a topic that a producer knows; none for an unknown topic."""
    return made.client.cluster.partitions_for_topic(topic) or set()


def is_forbidden(made: AIOKafkaProducer, topic: str) -> bool:
    """Return whether Kafka denies a producer access to a topic."""
    return topic in made.client.cluster.unauthorized_topics


async def ask_for_topics(made: AIOKafkaProducer, topics: Iterable[str]) -> None:
    """Let a producer ask once for the partitions of topics; without an answer it returns, too."""
    for topic in topics:
        made.client._topics.add(topic)  # noqa: SLF001  # `add_topic` leaves a future behind
    with suppress(TimeoutError):
        async with asyncio.timeout(_METADATA_ANSWER_S):
            await made.client.force_metadata_update()


async def find_partitions(
    made: AIOKafkaProducer, topic: str, *, within_s: float = MISSING_S
) -> set[int]:
    """Return the partitions of a topic, once it is known.

    Raises:
        RecordRefused: the topic does not exist, or this client may not know of it.
    """
    now_s = asyncio.get_running_loop().time
    end_s = now_s() + within_s
    while not (partitions := known_partitions(made, topic)):
        await ask_for_topics(made, [topic])
        if is_forbidden(made, topic):
            raise RecordRefused(forbidden_text(topic)) from TopicAuthorizationFailedError(topic)
        if not known_partitions(made, topic):
            if now_s() >= end_s:
                raise RecordRefused(missing_text(made, topic, None))
            await asyncio.sleep(_METADATA_POLL_S)
    return partitions


async def require_topics(made: AIOKafkaConsumer, topics: Iterable[str]) -> None:
    """Check that a consumer may know of topics, of which aiokafka would ask without a pause.

    Call it before partitions are assigned: while it waits, aiokafka would look for their ends, and
    find them after a later seek.

    Raises:
        TopicAuthorizationFailedError: the ACLs do not allow it.
    """
    if SecuritySettings().is_plain:
        return
    connections: Any = made._client  # noqa: SLF001  # it has no name outside
    names = set(topics)
    connections._topics |= names  # noqa: SLF001  # `add_topic` leaves a future behind
    await connections.force_metadata_update()
    forbidden = names & connections.cluster.unauthorized_topics
    if forbidden:
        raise TopicAuthorizationFailedError(forbidden)


def forbidden_text(topic: str) -> str:
    """Return a sentence about a topic that Kafka hides from a client."""
    return denial_text("WRITE", "topic", topic)


def missing_text(made: AIOKafkaProducer, topic: str, partition: int | None) -> str:
    """Return a sentence about a topic or partition that does not exist."""
    known = known_partitions(made, topic)
    if not known:
        return f"there is no topic {topic}; `tapewire topics create` makes it"
    return f"{topic} has {len(known)} partitions, and no partition {partition}"


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key: murmur2, as Kafka's own producers compute it."""
    numbers = list(range(partitions))
    return int(_partitioner(key, numbers, numbers))


def homes_of(key: bytes, partitions: int, fewest: int) -> set[int]:
    """Return the partitions where a key's records can be if a topic has grown to its partitions.

    A topic grows to a multiple of the partitions that it has.

    Args:
        key: the records' key.
        partitions: the partitions that the topic has now.
        fewest: the partitions that it had first.
    """
    counts = range(fewest, partitions, fewest)
    earlier = {partition_of(key, count) for count in counts if partitions % count == 0}
    return earlier | {partition_of(key, partitions)}


def unanswered(made: AIOKafkaProducer) -> set[str]:
    """Return the addresses of the brokers that owe a producer an answer, `host:port`."""
    connections: Any = made.client
    return {
        f"{connection.host}:{connection.port}"
        for connection in connections._conns.values()  # noqa: SLF001  # they are shown nowhere else
        if connection._requests  # noqa: SLF001  # as above
    }


async def stop(client: AIOKafkaConsumer | AIOKafkaProducer, *, within_s: float = _STOP_S) -> None:
    """Stop a client in any state, also a broken one.

    Args:
        client: the client; it cannot be used afterwards.
        within_s: how long to wait for what is in flight, which could take for ever. What a producer
            has not sent by then, it sends no more.
    """
    is_stopped = False
    read_errors(client)
    try:
        with suppress(KafkaError, OSError, AssertionError, TimeoutError):
            async with asyncio.timeout(within_s):
                await client.stop()  # type: ignore[no-untyped-call]  # aiokafka has no types
                is_stopped = True
    except asyncio.CancelledError:
        # aiokafka awaits tasks that it has cancelled, and passes their cancellation on as if
        # it were the caller's; taken for that, it would silently end whatever stops a client.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
    finally:
        if not is_stopped:
            cut_off(client)


def _adapt(connections: AIOKafkaClient, answer_ms: int) -> None:
    """Change how an aiokafka client connects and waits; it has no settings for this.

    A request waits for an answer, and an operation of several requests as long as before. aiokafka
    has one setting for both. An operation must last longer than the election of a leader: a record
    that cannot be sent for so long costs an idempotent producer.
    """
    close_if_interrupted(connections)
    connections._request_timeout_ms = answer_ms  # noqa: SLF001  # there is no other way
    connections._get_conn_lock_value = _ConnectLock()  # noqa: SLF001  # there is no other way
    settings = SecuritySettings()
    if not settings.is_plain:
        logging.getLogger("aiokafka.conn").addFilter(_no_sasl_exchanges)
        secured = Connections(connections, lambda: aiokafka_options(settings))
        connections._get_conn = secured.get  # type: ignore[method-assign]  # noqa: SLF001  # there is no other way


class _ConnectLock(asyncio.Lock):
    """Held by an aiokafka client while it connects to a broker, to one at a time.

    Requests for a silent broker would wait for each other here, and each would try it in turn, long
    after the metadata have another leader. So a request that has waited gives up, and asks again.
    """

    async def acquire(self) -> Literal[True]:
        async with asyncio.timeout(_CONNECT_WAIT_S):
            return await super().acquire()
