"""`tapewire tenant erase`: deletes the rows of a tenant by tombstones, and says what remains.

While nothing runs that could write the rows again, this process becomes the one writer of each
partition number's states, as processors are, and writes a tombstone for each key. A worker that was
paused, and goes on later, can write nothing then. First it writes to `operator.actions` that the
tenant is erased, without its name: rebuilds pass over its records in topics that keep them.

A command that was interrupted is run again: it finds what is left. Run once more when the log's
segments have been closed, its tombstones let Kafka compact those partitions too that nobody else
writes to.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cli.answers import Answer
from cli.errors import ErasureRefused, LogFailed
from cli.tenant_account import Fate, fate_of, lines_erased, row_of
from cli.tenant_shares import Share
from cli.tenant_survey import (
    COMMANDS,
    NOTIFIERS,
    PROCESSORS,
    Survey,
    check_tenant,
    group_of,
    survey,
    topics_of,
)
from kafka_io.clock import now_us
from kafka_io.errors import ProducerError
from kafka_io.operators import operator
from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import GroupMember, TopicAdmin
from kafka_io.transactions import OutgoingRecord, open_writer
from schemas.erasures import subject_of_erasure
from schemas.events import OperatorAction, OperatorActionKind
from schemas.topics import NOTIFICATION_QUEUES

_CHUNK = 2_000
"""The most tombstones of a transaction."""
_OPEN_S = 20.0
_TRANSACTION_S = 300.0
_ELSEWHERE = (
    "Not in the log, and not touched: trained models, archives of `tapewire backup`, log files, "
    "lakes (give --lake for each) and other tables made of the log, and what notifications have "
    "sent. "
    "docs/guides/erasure.md says of each how it ends."
)


class Writing(NamedTuple):
    """The tombstones that one writer writes."""

    group: str
    """The writer's group, with the prefix of topics; its id is the group and the number."""
    number: int
    """The partition."""
    records: Sequence[OutgoingRecord]


async def erase(
    settings: ProducerSettings, tenant: str, confirmed: str | None, *, is_dry: bool = False
) -> Answer:
    """Delete the rows of a tenant, and return what was erased, and what remains until when.

    Args:
        settings: where Kafka is.
        tenant: the tenant.
        confirmed: the tenant's name once more; not needed where nothing is written.
        is_dry: whether to write nothing, and return what would be done.

    Raises:
        InvalidArgument: no tenant has such a name.
        ErasureRefused: the name is not confirmed, something runs that would write rows again, or
            records of the tenant are not processed yet; nothing was written.
        LogFailed: Kafka cannot be read or written; run it again.
    """
    if confirmed != tenant and not is_dry:
        raise ErasureRefused(
            f"this deletes the limits, books, measures, jobs and other rows of {tenant!r} for "
            f"good; give --confirm {tenant} to agree, or --dry-run to see what it would do"
        )
    check_tenant(tenant)
    if not is_dry:
        await _refuse_running(settings)
    found = await survey(settings, tenant)
    if not is_dry:
        _refuse_unread(found)
        await _refuse_running(settings)  # which may have been started while the log was read
        try:
            await _note(settings, tenant)
            for writing in writings_of(found, settings.topic_prefix):
                await _write(settings, writing)
        except (ProducerError, TimeoutError) as error:
            raise LogFailed(
                f"{error!r}; start no processors, and run `tapewire tenant erase` again"
            ) from error
    return answer_of(found, now_us() // 1_000, is_dry=is_dry)


def answer_of(found: Survey, erased_ms: int, *, is_dry: bool) -> Answer:
    """Return what an erasure has done, or would do, and what remains. Pure.

    Args:
        found: what the log held of the tenant.
        erased_ms: when the tombstones were written, in milliseconds since 1970.
        is_dry: whether none was written.
    """
    fates = [
        (share, fate_of(share, found.found[share.name].config, erased_ms)) for share in found.shares
    ]
    document: dict[str, Any] = {
        "tenant": found.tenant,
        "erased": not is_dry,
        "rows": sum(sum(share.rows.values()) for share in found.shares),
        "topics": [{**row_of(share, fate), "fate": name_of(fate)} for share, fate in fates],
    }
    lines = lines_erased(fates) or [f"the log holds nothing of {found.tenant!r}"]
    if is_dry:
        return Answer(document, ["nothing was written; it would be:", *lines, _ELSEWHERE])
    return Answer(document, [*lines, _ELSEWHERE, _AGAIN])


_AGAIN = (
    "Kafka compacts a partition when a further record is written to it. Start the processors, "
    "restart the edges, which hold rows in memory, and run `tapewire tenant find` at the times "
    "above; where it finds records still, run this again."
)


def name_of(fate: Fate) -> str:
    """Return what becomes of a topic's records: erased, remains or kept_for_ever."""
    if fate.is_erasable:
        return "erased"
    return "kept_for_ever" if fate.is_kept_for_ever else "remains"


def writings_of(found: Survey, prefix: str) -> list[Writing]:
    """Return the tombstones that delete a tenant's rows, by the writers of their topics. Pure.

    Args:
        found: what the log holds of the tenant.
        prefix: the prefix of topics.
    """
    by_writer: defaultdict[tuple[str, int], list[OutgoingRecord]] = defaultdict(list)
    for share in found.shares:
        group = _writer_of(share, prefix)
        for number, key in (place for place, has_value in share.rows.items() if has_value):
            tombstone = OutgoingRecord(share.name, key, None, number)
            by_writer[group, number].append(tombstone)
    return [
        Writing(group, number, records[start : start + _CHUNK])
        for (group, number), records in sorted(by_writer.items())
        for start in range(0, len(records), _CHUNK)
    ]


def _writer_of(share: Share, prefix: str) -> str:
    if share.topic is NOTIFICATION_QUEUES:
        return prefix + NOTIFIERS
    return share.name.removesuffix(share.topic.name) + PROCESSORS


def groups_of(versions: Iterable[str], prefix: str) -> list[str]:
    """Return the groups whose members write rows or events of tenants, with the prefix. Pure."""
    names = [PROCESSORS, NOTIFIERS, *map(group_of, COMMANDS)]
    names += [f"{version}.{PROCESSORS}" for version in versions]
    return [prefix + name for name in names]


def running_text(members: Mapping[str, Sequence[GroupMember]]) -> str | None:
    """Return which members of groups must stop; None if there are none. Pure."""
    lines = [
        f"  {group}: {member.name}" + (f" ({member.client_id})" if member.client_id else "")
        for group, found in members.items()
        for member in sorted(found)
    ]
    if not lines:
        return None
    text = "\n".join(lines)
    return (
        "processors, notifiers or workers are running, and would write rows of the tenant again:\n"
        f"{text}\nstop all of them, and run this again ten seconds later: Kafka counts them so long"
    )


async def _refuse_running(settings: ProducerSettings) -> None:
    admin = TopicAdmin(settings.bootstrap_servers)
    try:
        _, versions = topics_of(await asyncio.to_thread(admin.names), settings.topic_prefix)
        members = {
            group: await asyncio.to_thread(admin.describe_members, group)
            for group in groups_of(versions, settings.topic_prefix)
        }
    except ProducerError as error:
        raise LogFailed(str(error)) from error
    text = running_text(members)
    if text is not None:
        raise ErasureRefused(text)


def _refuse_unread(found: Survey) -> None:
    """Refuse while records wait whose processing would write rows of the tenant.

    Raises:
        ErasureRefused: there are some; the message says how many, and where.
    """
    unread = [
        f"  {share.name}: {count:,} by {group}"
        for share in found.shares
        for group, count in share.unread.items()
    ]
    if unread:
        lines = "\n".join(unread)
        raise ErasureRefused(
            f"records of {found.tenant!r} are not processed yet, and would write its rows again:\n"
            f"{lines}\nlet nobody write for the tenant, start what reads them until `tapewire "
            "tenant find` counts none as unread, stop it, and run this again"
        )


async def _note(settings: ProducerSettings, tenant: str) -> None:
    """Write that the tenant is erased, before its first row is."""
    action = OperatorAction(
        action=OperatorActionKind.ERASE_TENANT,
        subject=subject_of_erasure(tenant),
        event_time_us=now_us(),
    )
    async with Publisher(settings) as publisher:
        await publisher.publish(action, partition=0, origin=operator())


async def _write(settings: ProducerSettings, writing: Writing) -> None:
    """Write tombstones in a transaction that fences the earlier writers."""
    async with open_writer(
        settings.bootstrap_servers,
        f"{writing.group}-{writing.number}",
        writing.group,
        timeout_s=_TRANSACTION_S,
        within_s=_OPEN_S,
    ) as writer:
        async with asyncio.timeout(_TRANSACTION_S):
            await writer.commit(writing.records, {})
