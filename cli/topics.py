"""`tapewire topics list`, `describe` and `tail`: topics with their records, as the log has them."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cli.errors import InvalidArgument, LogFailed
from cli.record_json import describe as describe_record, matches, text_of
from kafka_io.errors import ProducerError
from kafka_io.log_lines import escaped
from kafka_io.reader import ConsumedRecord, stream_records
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from kafka_io.topic_checks import find_differences
from schemas.topics import CATALOGUE, Topic

_VALUE_CHARS = 400


class Filter(NamedTuple):
    """A choice of records."""

    key: str | None = None
    """The key as text; of a tenant's record, its id or `TENANT/ID`."""
    where: Sequence[tuple[str, str]] = ()
    """Fields with their values, all of which a record must have."""

    def includes(self, described: Mapping[str, Any], key: bytes | None) -> bool:
        """Return whether a record is chosen. Pure."""
        if self.key is not None and self.key not in _names_of(key):
            return False
        return all(matches(described, path, value) for path, value in self.where)


def parse_where(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return fields with their values.

    Raises:
        InvalidArgument: a text has no `=`.
    """
    found = []
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise InvalidArgument(
                f"--where {text!r} names no field and value; write it as in status=failed, or "
                "returns.portfolio_id=p-1"
            )
        found.append((path, value))
    return found


def topic_named(name: str, prefix: str) -> Topic:
    """Return a topic of the catalogue by its name, with or without the system's prefix.

    Raises:
        InvalidArgument: the catalogue has no such topic.
    """
    for topic in CATALOGUE:
        if name in (topic.name, prefix + topic.name):
            return topic
    near = [topic.name for topic in CATALOGUE if name and name in topic.name]
    known = ", ".join(near or [topic.name for topic in CATALOGUE])
    raise InvalidArgument(f"{name!r} is no topic of Tapewire; there are {known}")


def list_topics(settings: ProducerSettings) -> list[dict[str, Any]]:
    """Return all topics of the catalogue with what Kafka has of them.

    Raises:
        LogFailed: Kafka does not answer, or an ACL is missing.
    """
    prefix, admin = settings.topic_prefix, TopicAdmin(settings.bootstrap_servers)
    try:
        found = admin.found([prefix + topic.name for topic in CATALOGUE])
        partitions = [
            (name, number) for name, topic in found.items() for number in range(topic.partitions)
        ]
        begins, ends = admin.begins(partitions), admin.ends(partitions)
    except ProducerError as error:
        raise LogFailed(str(error)) from error
    rows = []
    for topic in CATALOGUE:
        name = prefix + topic.name
        there = found.get(name)
        differences = find_differences(
            settings.bootstrap_servers, {name: (topic, topic.partitions)}, found
        )
        offsets = sum(
            ends[where].offset - begins.get(where, 0) for where in ends if where[0] == name
        )
        rows.append(
            {
                "topic": name,
                "record": topic.record.__name__,
                "key": topic.subject,
                "exists": there is not None,
                "partitions": None if there is None else there.partitions,
                "offsets": offsets,
                "differences": [difference.text for difference in differences],
            }
        )
    return rows


def lines_of_list(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a list of topics. Pure."""
    lines = []
    for row in rows:
        if not row["exists"]:
            lines.append(f"{row['topic']:<30} is missing; `tapewire topics create` makes it")
            continue
        note = f"  differs: {'; '.join(row['differences'])}" if row["differences"] else ""
        lines.append(
            f"{row['topic']:<30} {row['partitions']:>4} partitions {row['offsets']:>12,} offsets  "
            f"{row['record']}{note}"
        )
    return lines


def describe_topic(settings: ProducerSettings, topic: Topic) -> dict[str, Any]:
    """Return a topic with its partitions and settings, and how they differ from the catalogue.

    Raises:
        LogFailed: there is no such topic, Kafka does not answer, or an ACL is missing.
    """
    name, admin = settings.topic_prefix + topic.name, TopicAdmin(settings.bootstrap_servers)
    try:
        replicas = admin.replicas(name)
        if not replicas:
            raise LogFailed(f"there is no topic {name}; `tapewire topics create` makes it")
        partitions = [(name, part.number) for part in replicas]
        begins, ends = admin.begins(partitions), admin.ends(partitions)
        found = admin.found([name])
    except ProducerError as error:
        raise LogFailed(str(error)) from error
    differences = find_differences(
        settings.bootstrap_servers, {name: (topic, topic.partitions)}, found
    )
    expected = topic.config()
    return {
        "topic": name,
        "records": [record.__name__ for record in topic.records],
        "key": topic.subject,
        "settings": {key: found[name].config.get(key) for key in expected} if found else {},
        "expected_settings": expected,
        "differences": [
            {"text": difference.text, "mends": difference.command} for difference in differences
        ],
        "partitions": [
            {
                "partition": part.number,
                "leader": part.leader,
                "replicas": part.replicas,
                "in_sync": part.in_sync,
                "begin": begins.get((name, part.number)),
                "end": ends[name, part.number].offset if (name, part.number) in ends else None,
            }
            for part in replicas
        ],
    }


def lines_of_topic(row: Mapping[str, Any]) -> list[str]:
    """Return the lines of a described topic. Pure."""
    lines = [f"{row['topic']}: {', '.join(row['records'])}, key {row['key'] or 'of the writer'}"]
    lines += [f"  {name}={value}" for name, value in row["settings"].items()]
    lines += [
        f"  partition {part['partition']}: offsets {part['begin']} to {part['end']}, leader "
        f"{part['leader']}, replicas {part['replicas']}, in sync {part['in_sync']}"
        for part in row["partitions"]
    ]
    return lines + [
        f"  {difference['text']}; this mends it: {difference['mends']}"
        for difference in row["differences"]
    ]


async def tail(
    settings: ProducerSettings,
    topic: Topic,
    chosen: Filter,
    *,
    since_ms: int | None,
    count: int,
    follow: bool,
) -> AsyncGenerator[dict[str, Any]]:
    """Yield records of a topic, decoded, in the order of their times.

    Args:
        settings: where Kafka is.
        topic: the topic.
        chosen: which records.
        since_ms: the earliest time of appending; None for the newest `count`.
        count: how many records are shown at most of those that are in the log already.
        follow: whether to wait for further records, for ever.

    Raises:
        LogFailed: Kafka cannot be read.
    """
    name = settings.topic_prefix + topic.name
    has_filter = chosen != Filter()
    newest = None if has_filter or since_ms is not None else count

    def described(record: ConsumedRecord) -> dict[str, Any] | None:
        found = describe_record(record)
        return found if chosen.includes(found, record.key) else None

    last: deque[ConsumedRecord] = deque(maxlen=count)
    ends: dict[int, int] = {}
    try:
        async for record in stream_records(name, settings, since_ms=since_ms, newest=newest):
            ends[record.partition] = record.offset
            if described(record) is not None:
                last.append(record)
        for record in sorted(last, key=lambda each: (each.timestamp, each.partition, each.offset)):
            yield describe_record(record)
        if follow:
            records = stream_records(name, settings, since_ms=since_ms, newest=newest, follow=True)
            async for record in records:
                found = described(record)
                if record.offset > ends.get(record.partition, -1) and found is not None:
                    yield found
    except (ProducerError, TimeoutError) as error:
        raise LogFailed(str(error) or "Kafka has not answered in time") from error


def line_of_record(found: Mapping[str, Any]) -> str:
    """Return a decoded record as a line. Pure."""
    key = found["key"]
    shown = key if isinstance(key, str) else "-" if key is None else f"0x{key['hex']}"
    value = found.get("error") or json.dumps(found["value"])
    if len(value) > _VALUE_CHARS:
        value = f"{value[:_VALUE_CHARS]}... of {len(value)} characters; --json shows all"
    kind = found["record"] or ("deleted" if "error" not in found else "not readable")
    place = f"{found['partition']}/{found['offset']}"
    return escaped(f"{found['at'] or '-':<27} {place:<12} {shown}  {kind} {value}")


async def print_all(
    records: AsyncGenerator[dict[str, Any]], show: Callable[[dict[str, Any]], None]
) -> None:
    """Show records as they come, and close their source."""
    try:
        async for found in records:
            show(found)
    except asyncio.CancelledError:
        return
    finally:
        await records.aclose()


def _names_of(key: bytes | None) -> list[Any]:
    """Return the texts by which a key can be named."""
    if key is None:
        return []
    tenant, separator, entity = key.rpartition(b"\xff")
    names = [text_of(key)]
    if separator:
        names += [text_of(entity), f"{text_of(tenant)}/{text_of(entity)}"]
    return names
