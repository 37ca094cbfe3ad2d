"""Reads which tenants were erased, from `operator.actions`."""

import asyncio

from kafka_io.reader import stream_records
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from schemas.erasures import Erasures
from schemas.events import OperatorAction
from schemas.gate import admit_or_none
from schemas.topics import OPERATOR_ACTIONS


async def read_erasures(settings: ProducerSettings) -> Erasures:
    """Return which tenants were erased, and when by the log's time.

    Args:
        settings: where Kafka is.

    Returns:
        The erasures; none where the topic does not exist.

    Raises:
        Unread: Kafka cannot be read.
        TimeoutError: it has not answered for half a minute.
    """
    name = settings.topic_prefix + OPERATOR_ACTIONS.name
    if not await asyncio.to_thread(TopicAdmin(settings.bootstrap_servers).describe, [name]):
        return Erasures({})
    actions = []
    async for record in stream_records(name, settings):
        action = admit_or_none(OperatorAction, record.value)
        if action is not None:
            actions.append((action, round(record.timestamp * 1_000) * 1_000))
    return Erasures.of_actions(actions)
