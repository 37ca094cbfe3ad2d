"""Follows a topic of one partition from its beginning, for as long as a process runs."""

import asyncio
import logging
from collections.abc import Callable

import aiokafka
from aiokafka.errors import KafkaError

from kafka_io import client
from kafka_io.errors import Unread
from kafka_io.idle_fetches import wait_longer_when_idle
from kafka_io.reader import ConsumedRecord, as_consumed
from kafka_io.refusals import reason_of

logger = logging.getLogger(__name__)

_POLL_MS = 200
"""How often the position is compared with the end, until it is reached."""
_CALM_POLL_MS = 60_000
_PAUSE_S = 1.0
_READ_S = 30.0


class Follower:
    """Passes on the records of a topic, in order; after a failure again from the first one."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        begin: Callable[[], None],
        take: Callable[[ConsumedRecord], None],
        reached_end: Callable[[], None],
    ) -> None:
        """Describe what is followed; `run` follows it.

        Args:
            bootstrap_servers: Kafka's addresses, `host:port` with commas between.
            topic: the full name of a topic with one partition.
            begin: is called before the first record.
            take: is called with each record.
            reached_end: is called once the records have come that were there at the beginning.
        """
        self._servers = bootstrap_servers
        self._topic = topic
        self._begin, self._take, self._reached_end = begin, take, reached_end
        self._is_complete = asyncio.Event()
        self._problem = "Kafka has not answered"
        """Why it was not read, as far as is known."""

    async def complete(self) -> None:
        """Wait until the topic has been read up to its end.

        Raises:
            Unread: it could not be read in time.
        """
        try:
            async with asyncio.timeout(_READ_S):
                await self._is_complete.wait()
        except TimeoutError:
            raise Unread(
                f"{self._topic} could not be read within {_READ_S:g} s: {self._problem}"
            ) from None

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        while True:
            try:
                await self._follow()
            except Unread as error:
                self._problem = str(error)
            except (KafkaError, OSError) as error:
                self._problem = reason_of(error)
            logger.warning("reading %s again: %s", self._topic, self._problem)
            await asyncio.sleep(_PAUSE_S)

    async def _follow(self) -> None:
        home = aiokafka.TopicPartition(self._topic, 0)
        consumer = client.consumer(self._servers, auto_offset_reset="earliest")
        try:
            await consumer.start()
            await client.require_topics(consumer, [self._topic])
            if self._topic not in await consumer.topics():
                # aiokafka would ask for it without a pause.
                raise Unread(f"there is no topic {self._topic}; `tapewire topics create` makes it")
            # Nothing is fetched yet: a request would wait for a fetch under way.
            end = (await consumer.end_offsets([home]))[home]
            consumer.assign([home])
            await consumer.seek_to_beginning(home)
            wait_longer_when_idle(consumer)
            self._begin()
            is_behind = True
            while True:
                if is_behind and await consumer.position(home) >= end:
                    is_behind = False
                    self._reached_end()
                    self._is_complete.set()
                batches = await consumer.getmany(
                    timeout_ms=_POLL_MS if is_behind else _CALM_POLL_MS
                )
                for record in batches.get(home, ()):
                    self._take(as_consumed(record))
        finally:
            await client.stop(consumer)
