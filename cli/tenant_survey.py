"""`tapewire tenant find`: reads the whole log, and counts what it holds of a tenant by topic."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cli.answers import Answer
from cli.errors import InvalidArgument, LogFailed
from cli.tenant_account import fate_of, lines_found, row_of
from cli.tenant_shares import Share, Shares
from kafka_io.errors import ProducerError
from kafka_io.group_offsets import Offsets, read_group_offsets
from kafka_io.reader import stream_records
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from kafka_io.topic_checks import INPUTS, FoundTopic
from schemas.bounds import NAME_CHARS_MAX
from schemas.topics import (
    AGENT_COMMANDS,
    BACKTEST_COMMANDS,
    CATALOGUE,
    DEAD_LETTERS,
    NOTIFICATION_REQUESTS,
    PORTFOLIO_RETURNS,
    RISK_ALERTS,
    RISK_STATE,
    TRAINING_COMMANDS,
    Topic,
)

PROCESSORS = "tapewire"
NOTIFIERS = "tapewire-notifier"
"""Groups of consumers, without the prefix of topics."""
COMMANDS = (TRAINING_COMMANDS, BACKTEST_COMMANDS, AGENT_COMMANDS)
_OF_NOTIFIERS = frozenset(topic.name for topic in (NOTIFICATION_REQUESTS, RISK_ALERTS))


def group_of(commands: Topic) -> str:
    """Return the group of the workers that share commands, without the prefix of topics."""
    return f"{PROCESSORS}-{commands.name}"


def readers_of(topic: Topic) -> Sequence[str]:
    """Return the groups that read a topic and act on its records, without the prefix."""
    groups = []
    if topic.name in INPUTS and topic is not NOTIFICATION_REQUESTS:
        groups.append(PROCESSORS)
    if topic.name in _OF_NOTIFIERS:
        groups.append(NOTIFIERS)
    if topic in COMMANDS:
        groups.append(group_of(topic))
    return groups


@dataclass(frozen=True, slots=True)
class Survey:
    """The records of a tenant in the log."""

    tenant: str
    shares: Sequence[Share] = field(default_factory=tuple)
    """The topics that hold anything."""
    found: Mapping[str, FoundTopic] = field(default_factory=dict)
    """All topics of the system, by their full names."""

    def answer(self) -> Answer:
        """Return the answer of `tapewire tenant find`."""
        fates = [(share, fate_of(share, self.found[share.name].config)) for share in self.shares]
        document = {
            "tenant": self.tenant,
            "topics": [row_of(share, fate) for share, fate in fates],
        }
        nothing = [f"the log holds nothing of {self.tenant!r}"]
        return Answer(document, lines_found(fates) or nothing)


def check_tenant(tenant: str) -> str:
    """Return the name of a tenant.

    Raises:
        InvalidArgument: no tenant has such a name.
    """
    if not 1 <= len(tenant) <= NAME_CHARS_MAX:
        raise InvalidArgument(
            f"the name of the tenant has {len(tenant)} characters; it must have 1 to "
            f"{NAME_CHARS_MAX}"
        )
    return tenant


async def survey(settings: ProducerSettings, tenant: str) -> Survey:
    """Read the whole log, and return what it holds of a tenant.

    Args:
        settings: where Kafka is.
        tenant: the tenant.

    Raises:
        InvalidArgument: no tenant has such a name.
        LogFailed: Kafka cannot be read.
    """
    shares = Shares(check_tenant(tenant))
    admin = TopicAdmin(settings.bootstrap_servers)
    try:
        names, _ = topics_of(await asyncio.to_thread(admin.names), settings.topic_prefix)
        if not names:
            raise LogFailed("there are no topics of Tapewire; is TAPEWIRE_TOPIC_PREFIX right?")
        found = await asyncio.to_thread(admin.found, list(names))
        counted = []
        for name, topic in names.items():
            share = Share(name, topic)
            committed = await _committed(share, settings)
            async for record in stream_records(name, settings):
                if not shares.take(share, record) or record.value is None:
                    continue
                for group, offsets in committed.items():
                    if record.offset >= offsets.get((name, record.partition), 0):
                        share.unread[group] = share.unread.get(group, 0) + 1
            counted.append(share)
    except (ProducerError, TimeoutError) as error:
        raise LogFailed(str(error) or "Kafka has not answered in time") from error
    there = [share for share in counted if not share.is_empty]
    return Survey(tenant, there, found)


async def _committed(share: Share, settings: ProducerSettings) -> Mapping[str, Offsets]:
    """Return the offsets that the readers of a topic have committed, by group.

    A group without any offset of the topic does not run in this system; but processors always do.
    """
    prefix = settings.topic_prefix
    if share.name != prefix + share.topic.name:
        return {}
    groups = [prefix + group for group in readers_of(share.topic)]
    return {
        group: offsets
        for group, offsets in (await read_group_offsets(groups, settings)).items()
        if group == prefix + PROCESSORS or any(name == share.name for name, _ in offsets)
    }


def topics_of(names: Iterable[str], prefix: str) -> tuple[dict[str, Topic], list[str]]:
    """Return the topics of a system by full name, and the versions of its rebuilds. Pure.

    Dead letters come first. The topics of a rebuild have its version and a dot before their names;
    those of another system, whose prefix may look like a version, include the returns.

    Args:
        names: all topics of the cluster.
        prefix: the prefix of the system's topics.
    """
    catalogue = {topic.name: topic for topic in CATALOGUE}
    there = set(names)
    found = {prefix + name: topic for name, topic in catalogue.items() if prefix + name in there}
    by_version: defaultdict[str, dict[str, Topic]] = defaultdict(dict)
    of_version = re.compile(rf"{re.escape(prefix)}([a-zA-Z0-9_-]+)\.(.+)")
    for name in sorted(there):
        match = of_version.fullmatch(name)
        if match is not None and match[2] in catalogue:
            by_version[match[1]][name] = catalogue[match[2]]
    versions = [
        version
        for version, topics in by_version.items()
        if RISK_STATE in topics.values() and PORTFOLIO_RETURNS not in topics.values()
    ]
    for version in versions:
        found |= by_version[version]
    letters_first = sorted(found.items(), key=lambda item: item[1] is not DEAD_LETTERS)
    return dict(letters_first), versions
