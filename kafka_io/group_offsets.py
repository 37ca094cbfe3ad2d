"""Asks for the offsets that consumer groups have committed.

librdkafka is not asked: while the coordinator of a group moves, or a new cluster makes its first
one, `list_consumer_group_offsets` ends the whole process (librdkafka's issue 5040).
"""

import asyncio
from collections.abc import Iterable, Mapping

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest

from kafka_io import client
from kafka_io.errors import Unread
from kafka_io.refusals import denial_text, reason_of
from kafka_io.settings import ProducerSettings

_ANSWER_S = 30.0
_RETRY_S = 0.2

Offsets = Mapping[tuple[str, int], int]
"""The next offset that a group reads, by topic and partition."""


async def read_group_offsets(
    groups: Iterable[str], settings: ProducerSettings
) -> Mapping[str, Offsets]:
    """Return the offsets that groups have committed, by group; none for a group that is unknown.

    Args:
        groups: the full names of the groups.
        settings: where Kafka is.

    Raises:
        Unread: Kafka does not answer for half a minute, or an ACL is missing.
    """
    servers = settings.bootstrap_servers
    connected = client.plain(servers)
    try:
        async with asyncio.timeout(_ANSWER_S):
            await connected.bootstrap()
            return {group: await _offsets_of(group, connected) for group in groups}
    except (KafkaError, TimeoutError) as error:
        raise Unread(f"{servers} does not answer: {reason_of(error)}") from error
    finally:
        await connected.close()


async def _offsets_of(group: str, connected: AIOKafkaClient) -> Offsets:
    while True:
        try:
            return await _ask(group, connected)
        except GroupAuthorizationFailedError as error:
            raise Unread(denial_text("DESCRIBE", "group", group)) from error
        except (KafkaConnectionError, NodeNotReadyError):
            await connected.force_metadata_update()
        except KafkaError as error:
            if not error.retriable:
                raise
        await asyncio.sleep(_RETRY_S)  # a coordinator that moves notifies nobody


async def _ask(group: str, connected: AIOKafkaClient) -> Offsets:
    coordinator = await connected.coordinator_lookup(CoordinationType.GROUP, group)
    answer = await connected.send(coordinator, OffsetFetchRequest(group, None))
    codes = [answer.error_code]
    found: dict[tuple[str, int], int] = {}
    for topic, partitions in answer.topics:
        for partition, offset, _, code in partitions:
            codes.append(code)
            if offset >= 0:
                found[topic, partition] = offset
    for code in filter(None, codes):
        raise for_code(code)
    return found
