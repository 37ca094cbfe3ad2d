"""Fetches record batches as they are, to be unpacked elsewhere.

Only what is usual is read this way. For everything else, such as an error of a broker, an offset
that is not in the log, or batches of an old format, there is None, and a consumer has to be asked.
"""

import asyncio
import logging
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest

from kafka_io import client
from kafka_io.batches import Packed, packed_of

logger = logging.getLogger(__name__)

_ANSWER_S = 2.0
_FETCH_BYTES = 1 << 18
"""About how much a fetch returns; a broker returns one batch at least, of up to a MiB."""
_WITH_ABORTED = 4
"""The first version of a fetch's answer that names aborted transactions."""
_WITH_REPLICA = 11
"""The first version that names a replica to read from after them."""


class BatchReader:
    """Fetches batches through a connection of its own, which is made when it is first needed."""

    def __init__(self, bootstrap_servers: str) -> None:
        """Connect to nothing yet.

        Args:
            bootstrap_servers: Kafka's addresses, `host:port` with commas between.
        """
        self._servers = bootstrap_servers
        self._connected: AIOKafkaClient | None = None
        self._connecting = asyncio.Lock()

    async def read(self, topic: str, number: int, offset: int) -> Packed | None:
        """Return the batches from an offset on; None if a consumer has to be asked.

        It does not wait for records.
        """
        used = self._connected
        try:
            async with asyncio.timeout(_ANSWER_S):
                used = await self._client(topic)
                return await self._fetched(used, topic, number, offset)
        except (KafkaError, OSError) as error:  # a TimeoutError is an OSError
            logger.debug("%s/%d is read by a consumer: %r", topic, number, error)
        if used is not None and used is self._connected:
            await self.close()
        return None

    async def close(self) -> None:
        """Close the connection; the next read makes another one."""
        connected, self._connected = self._connected, None
        if connected is not None:
            await connected.close()

    async def _client(self, topic: str) -> AIOKafkaClient:
        async with self._connecting:
            if self._connected is None:
                made = client.plain(self._servers)
                try:
                    await made.bootstrap()
                except BaseException:
                    await made.close()
                    raise
                self._connected = made
            await self._connected.add_topic(topic)
            return self._connected

    async def _fetched(
        self, connected: AIOKafkaClient, topic: str, number: int, offset: int
    ) -> Packed | None:
        leader = connected.cluster.leader_for_partition(TopicPartition(topic, number))
        if leader is None or leader < 0:
            connected.force_metadata_update()
            return None
        request = FetchRequest(
            0, 1, _FETCH_BYTES, READ_COMMITTED, [(topic, [(number, offset, _FETCH_BYTES)])]
        )
        answer: Any = await connected.send(leader, request)
        version = answer.API_VERSION
        ((_, ((_, error_code, _, *rest),)),) = answer.topics
        if error_code or version < _WITH_ABORTED:
            connected.force_metadata_update()  # another broker may lead now
            return None
        aborted = rest[2] if version >= _WITH_REPLICA else rest[-2]
        return packed_of(topic, number, offset, rest[-1], aborted or ())
