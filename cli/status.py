"""`tapewire status`: the parts of a system, how far each has read, and what it writes.

Everything is read from Kafka: heartbeats of edges, consumer groups and their offsets, dead letters,
and the marks of the newest records. Only the states of parts of `tapewire up` come from its folder.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cli.dead_letters import Choice, read_letters
from cli.errors import LogFailed
from cli.log_survey import WrittenVersion, as_json as version_as_json, survey
from infra.data_dir import PARTS
from kafka_io.clock import now_us
from kafka_io.errors import ProducerError
from kafka_io.group_offsets import Offsets, read_group_offsets
from kafka_io.log_lines import escaped
from kafka_io.reader import read_table
from kafka_io.settings import ProducerSettings
from kafka_io.software import software_version
from kafka_io.topic_admin import GroupMember, TopicAdmin
from schemas.events import EdgeNode, Record
from schemas.instants import to_rfc3339
from schemas.keys import has_tenant
from schemas.topics import (
    AGENT_COMMANDS,
    BACKTEST_COMMANDS,
    DEAD_LETTERS,
    EDGE_NODES,
    OPERATOR_ACTIONS,
    TRAINING_COMMANDS,
)

GROUPS = {
    "tapewire": "processors",
    "tapewire-notifier": "notifiers",
    **{
        f"tapewire-{topic.name}": f"workers of {topic.name}"
        for topic in (TRAINING_COMMANDS, BACKTEST_COMMANDS, AGENT_COMMANDS)
    },
}
"""The consumer groups of a system, without the prefix of its topics."""

_HOUR_MS = 3_600_000
_MISSED_MAX = 3
"""An edge is taken for dead after so many intervals without a heartbeat, as edges do."""


@dataclass(frozen=True, slots=True)
class Lag:
    """The records of a partition that a group has not read."""

    topic: str
    partition: int
    committed: int | None
    """None if the group has read nothing of it."""
    end: int
    records: int


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group."""

    name: str
    purpose: str
    members: Sequence[Mapping[str, str]] = ()
    """The name, version and host of each member."""
    lags: Sequence[Lag] = ()
    """The partitions that the group has read of, or has to read."""

    @property
    def lag(self) -> int:
        """The records that the group has not read."""
        return sum(lag.records for lag in self.lags)


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge that is alive."""

    node_id: str
    address: str
    host: str
    version: str
    status: str
    connections: int
    started_at: str
    seen_s: float
    """How many seconds ago it wrote its heartbeat."""


@dataclass(frozen=True, slots=True)
class Status:
    """A system as the log has it."""

    software: str
    """The version of this command."""
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    edges: Sequence[Edge] = ()
    groups: Sequence[Group] = ()
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    """The dead letters of the last hour, by reason."""
    open_letters: int = 0
    """How many of them are neither re-driven nor discarded."""
    writes: Sequence[WrittenVersion] = ()

    @property
    def old_software(self) -> Sequence[str]:
        """The edges and workers with another version than this command, or without one."""
        edges = [
            f"edge {edge.node_id} {edge.version or 'without a version'}"
            for edge in self.edges
            if edge.version != self.software
        ]
        return edges + [
            f"{member['name']} of {group.name} {member['version'] or 'without a version'}"
            for group in self.groups
            for member in group.members
            if member["version"] != self.software
        ]

    @property
    def is_upgraded(self) -> bool | None:
        """Whether all edges and workers are of this command's version; None if that is unknown.

        A producer is in no group, and so is not among them.
        """
        if not self.software or not (self.edges or any(group.members for group in self.groups)):
            return None
        return not self.old_software

    @property
    def old_writes(self) -> Sequence[WrittenVersion]:
        """The versions of schemas that are written, and are not those of this command."""
        return [found for found in self.writes if not found.is_current]


async def read_status(
    settings: ProducerSettings, data_dir: Path, *, is_partial: bool = False
) -> Status:
    """Read the status of a system.

    Args:
        settings: where Kafka is.
        data_dir: the folder of `tapewire up`, if it runs the system.
        is_partial: whether dead letters are left out, and topics may be missing.

    Raises:
        LogFailed: Kafka cannot be read.
    """
    now = now_us()
    try:
        names = {
            topic: settings.topic_prefix + topic.name
            for topic in (EDGE_NODES, OPERATOR_ACTIONS, DEAD_LETTERS)
        }
        there = await asyncio.to_thread(
            TopicAdmin(settings.bootstrap_servers).describe, names.values()
        )
        missing = [name for name in names.values() if name not in there]
        if missing and not is_partial:
            raise LogFailed(f"there is no topic {missing[0]}; `tapewire topics create` makes it")
        nodes = await read_table(EDGE_NODES, settings) if names[EDGE_NODES] in there else {}
        committed = await read_group_offsets(
            [settings.topic_prefix + name for name in GROUPS], settings
        )
        groups = await asyncio.to_thread(_groups, committed, settings)
        since_ms = now // 1_000 - _HOUR_MS
        letters = [] if is_partial else await read_letters(settings, Choice(), since_ms=since_ms)
        found = await survey(settings)
    except (ProducerError, TimeoutError) as error:
        raise LogFailed(str(error) or "Kafka has not answered in time") from error
    return Status(
        software_version(),
        _parts(data_dir),
        edges_of(nodes, now),
        groups,
        Counter(known.letter.reason for known in letters),
        sum(known.state == "open" for known in letters),
        found.versions,
    )


def edges_of(nodes: Mapping[bytes, Record], now: int) -> list[Edge]:
    """Return the edges that are alive, the oldest first. Pure.

    Args:
        nodes: the rows of `edge.nodes`, by key: of a node, or of a tenant's share in one.
        now: the present time, in microseconds since 1970 UTC.
    """
    rows = [(key, row) for key, row in nodes.items() if isinstance(row, EdgeNode)]
    shares = Counter[str]()
    for key, row in rows:
        if has_tenant(key):
            shares[row.node_id] += row.connections
    found = [
        Edge(
            *(row.node_id, row.address, row.host, row.version, row.status),
            row.connections + shares[row.node_id],
            to_rfc3339(row.started_us),
            round(max(0, now - row.event_time_us) / 1e6, 1),
        )
        for key, row in rows
        if not has_tenant(key) and now - row.event_time_us <= _MISSED_MAX * row.interval_s * 1e6
    ]
    return sorted(found, key=lambda edge: edge.started_at)


def member_of(member: GroupMember) -> Mapping[str, str]:
    """Return a member's name, and the version and host that its client id names. Pure."""
    software, _, host = member.client_id.rpartition("@")
    version = software.removeprefix("tapewire").removeprefix("-")
    return {"name": member.name, "version": version, "host": host if software else ""}


def lags_of(
    committed: Mapping[tuple[str, int], int],
    begins: Mapping[tuple[str, int], int],
    ends: Mapping[tuple[str, int], int],
) -> list[Lag]:
    """Return what a group has not read of the partitions that it has read of. Pure."""
    found = []
    for (topic, partition), end in sorted(ends.items()):
        offset = committed.get((topic, partition))
        if offset is not None:
            start = max(offset, begins.get((topic, partition), 0))
            found.append(Lag(topic, partition, offset, end, max(0, end - start)))
    return found


def _groups(committed: Mapping[str, Offsets], settings: ProducerSettings) -> list[Group]:
    admin = TopicAdmin(settings.bootstrap_servers)
    partitions = sorted({where for offsets in committed.values() for where in offsets})
    begins = admin.begins(partitions)
    ends = {where: end.offset for where, end in admin.ends(partitions).items()}
    return [
        Group(
            settings.topic_prefix + name,
            purpose,
            [member_of(member) for member in admin.describe_members(settings.topic_prefix + name)],
            lags_of(
                committed[settings.topic_prefix + name],
                begins,
                {
                    where: end
                    for where, end in ends.items()
                    if where in committed[settings.topic_prefix + name]
                },
            ),
        )
        for name, purpose in GROUPS.items()
    ]


def _parts(data_dir: Path) -> Mapping[str, Mapping[str, str]]:
    with suppress(OSError, ValueError):
        parts: Mapping[str, Mapping[str, str]] = json.loads(
            (data_dir / PARTS).read_text(encoding="utf-8")
        )
        return parts
    return {}


def as_json(status: Status) -> dict[str, Any]:
    """Return a status for a program."""
    return {
        "software": status.software,
        "parts": dict(status.parts),
        "edges": [asdict(edge) for edge in status.edges],
        "groups": [{**asdict(group), "lag": group.lag} for group in status.groups],
        "dead_letters_last_hour": dict(status.dead_letters),
        "open_dead_letters_last_hour": status.open_letters,
        "writes": [version_as_json(found) for found in status.writes],
        "upgraded": status.is_upgraded,
        "old_software": list(status.old_software),
        "old_writes": [version_as_json(found) for found in status.old_writes],
    }


def lines_of(status: Status) -> Iterator[str]:
    """Return the lines of a status for people."""
    return map(escaped, _lines(status))


def _lines(status: Status) -> Iterator[str]:
    yield f"software   {status.software or 'without a version'}"
    for name, part in status.parts.items():
        failure = f", {part['failure']}" if "failure" in part else ""
        yield f"part       {name:<12} {part['state']} since {part['since']}{failure}"
    for edge in status.edges:
        yield (
            f"edge       {edge.address or edge.node_id}  {edge.version or '-'}  {edge.status}, "
            f"{edge.connections} connections, seen {edge.seen_s:g} s ago on {edge.host}"
        )
    if not status.edges:
        yield "edge       none is alive"
    for group in status.groups:
        yield from _lines_of_group(group)
    counted = ", ".join(f"{count} {reason}" for reason, count in status.dead_letters.items())
    more = f"; {status.open_letters} are open: `tapewire dead-letters list`" if counted else ""
    yield f"letters    {counted or 'none'} in the last hour{more}"
    for found in status.old_writes:
        version = "an unknown version" if found.version is None else f"version {found.version}"
        newest = "" if found.newest is None else f" of {found.newest}"
        yield f"schema     {found.source} writes {version}{newest} of {found.record}"
    if not status.old_writes:
        yield "schema     all writers write the versions of this software"
    yield from _lines_of_upgrade(status)


def _lines_of_upgrade(status: Status) -> Iterator[str]:
    if status.is_upgraded:
        yield f"upgrade    all edges and workers are of {status.software}"
    elif not status.software:
        yield "upgrade    this command has no version to compare; install the package"
    elif status.is_upgraded is None:
        yield "upgrade    no edge and no worker runs"
    else:
        count = len(status.old_software)
        yield f"upgrade    {count} edges and workers are not of {status.software}:"
        for text in status.old_software:
            yield f"           {text}"


def _lines_of_group(group: Group) -> Iterator[str]:
    members = ", ".join(f"{member['name']} {member['version'] or '-'}" for member in group.members)
    yield f"group      {group.name} ({group.purpose}): {members or 'no member'}; lag {group.lag}"
    for lag in group.lags:
        if lag.records:
            yield f"           {lag.topic}/{lag.partition}: {lag.records} records behind {lag.end}"
