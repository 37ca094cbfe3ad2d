"""A table view: the last state of each entity of a compacted topic, in memory.

Every node has its own and can rebuild it at any time. Reading begins with the first request. A
topic that was made anew, or that has grown, is read again.

An entity is known by its tenant and its id (see `sse_edge.cache.table_rows`).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Generic

from kafka_io.log_lines import about
from schemas.errors import Refused
from schemas.events import Record
from schemas.gate import AHEAD_US, admit
from sse_edge.cache.table_rows import S, TableRows
from sse_edge.cursor import Cursor, TopicPosition, incarnation_of
from sse_edge.errors import LogUnavailable, OffsetOutOfRange
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition, Record as LogRecord, TopicInfo

logger = logging.getLogger(__name__)

_RETRY_S = 0.5
_TOPIC_CHECK_S = 5.0
"""How often a view asks whether its topic has changed."""


class TableView(Generic[S]):
    """The last state of each entity.

    Callers name a tenant: "" for what has no tenant, None for what any tenant has.
    """

    def __init__(
        self,
        log: Log,
        topic: str,
        kind: type[S],
        kept_ms: int | None,
        patience_s: float,
        *,
        also: tuple[type[Record], ...] = (),
        ahead_us: float = AHEAD_US,
    ) -> None:
        """Make an empty view; `run` reads the topic.

        Args:
            log: where the topic is.
            topic: the compacted topic's full name.
            kind: the class of its states.
            kept_ms: how long the log keeps a state that does not change; None for ever.
            patience_s: how long a caller waits for the topic to be read.
            also: further classes of records in the topic, which are no states.
            ahead_us: how far ahead of its time in the log a state may be, in microseconds.
        """
        self._ahead_us = ahead_us
        self._also = also
        self._log = log
        self._topic = topic
        self._kind = kind
        self._kept_ms = kept_ms
        self._patience_s = patience_s
        self._rows: TableRows[S] = TableRows(kept_ms)
        self.version = 0
        """A number that grows with each change."""
        self.cursor = Cursor(())
        """Where the view has read to."""
        self._changed = asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._is_complete = asyncio.Event()
        self._waiting: defaultdict[tuple[str | None, str], set[asyncio.Future[S]]]
        self._waiting = defaultdict(set)
        """The callers that wait for a state, by tenant and id."""

    async def run(self) -> None:
        """Follow the topic from the first request on, until cancelled."""
        await self._is_wanted.wait()
        while True:
            try:
                await self._follow()
            except (LogUnavailable, OffsetOutOfRange) as error:
                logger.warning("reading %s again: %s", self._topic, error)
                await asyncio.sleep(_RETRY_S)

    async def find(self, entity_id: str, within_s: float, tenant: str | None = None) -> S | None:
        """Return an entity's state; wait for one to be written; None if there is none in time.

        Args:
            entity_id: the entity.
            within_s: how long to wait for a processor to write it.
            tenant: the entity's tenant.

        Raises:
            LogUnavailable: the topic could not be read in time.
        """
        await self.complete()
        row = self._rows.find(tenant, entity_id)
        if row is not None:
            return row.state
        awaited = (tenant, entity_id)
        future: asyncio.Future[S] = asyncio.get_running_loop().create_future()
        self._waiting[awaited].add(future)
        try:
            async with asyncio.timeout(within_s):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting[awaited].discard(future)
            if not self._waiting[awaited]:
                del self._waiting[awaited]

    def last(self, entity_id: str, tenant: str | None = None) -> S | None:
        """Return an entity's state as far as the view has read; None where it has none."""
        self._is_wanted.set()
        row = self._rows.find(tenant, entity_id)
        return None if row is None else row.state

    async def all(self, tenant: str | None = None) -> Sequence[S]:
        """Return the states of a tenant; the state that changed last is last.

        Raises:
            LogUnavailable: the topic could not be read in time.
        """
        return [state for state, _ in await self.all_with_times(tenant)]

    async def all_with_times(self, tenant: str | None = None) -> Sequence[tuple[S, int]]:
        """Return the states as `all` does, each with the time of its record in ms since 1970.

        Raises:
            LogUnavailable: the topic could not be read in time.
        """
        await self.complete()
        return [(row.state, row.timestamp_ms) for row in self._rows.of(tenant)]

    async def complete(self) -> None:
        """Wait until the topic was read to the end that it had.

        Raises:
            LogUnavailable: it could not be read in time.
        """
        self._is_wanted.set()
        try:
            async with asyncio.timeout(self._patience_s):
                await self._is_complete.wait()
        except TimeoutError:
            raise LogUnavailable(f"{self._topic} could not be read in time") from None

    async def changed_since(self, version: int) -> None:
        """Wait until the view's version is another one."""
        while self.version == version:
            await self._changed.wait()

    async def _follow(self) -> None:
        """Read the topic, and its new records until the topic has changed."""
        info = (await self._log.describe([self._topic])).get(self._topic)
        if info is None:
            raise LogUnavailable(f"there is no topic {self._topic}")
        partitions = [Partition(self._topic, number) for number in range(info.partitions)]
        position = dict(await self._log.begin_offsets(partitions))
        ends = await self._log.end_offsets(partitions)
        # Old states are read first, so callers see the previous view until this one is complete.
        rows: TableRows[S] = TableRows(self._kept_ms)
        async with self._log.tail() as reader:
            reader.assign(position)
            checked_s = _now_s()
            while True:
                if _now_s() >= checked_s + _TOPIC_CHECK_S:
                    if await self._has_changed(info):
                        return
                    checked_s = _now_s()
                changed = False
                for partition, batch in (await reader.poll()).items():
                    for record in batch.records:
                        self._apply(rows, record)
                    changed = changed or bool(batch.records)
                    position[partition] = batch.next_offset
                if all(position[partition] >= ends[partition] for partition in partitions):
                    self._show(rows, info, position, changed=changed)

    async def _has_changed(self, known: TopicInfo) -> bool:
        try:
            info = (await self._log.describe([self._topic])).get(self._topic)
        except LogUnavailable as error:
            # The records still come while another broker is away.
            logger.debug("%s cannot be checked: %s", self._topic, error)
            return False
        return info not in (None, known)

    def _show(
        self,
        rows: TableRows[S],
        info: TopicInfo,
        position: Mapping[Partition, int],
        *,
        changed: bool,
    ) -> None:
        if not changed and self._rows is rows:
            return
        self._rows = rows
        offsets = tuple(
            (partition.number, offset) for partition, offset in sorted(position.items())
        )
        self.cursor = Cursor((TopicPosition(incarnation_of(info.topic_id), offsets),))
        self._is_complete.set()
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()
        for (tenant, entity_id), futures in self._waiting.items():
            row = rows.find(tenant, entity_id)
            if row is not None:
                for future in futures:
                    if not future.done():
                        future.set_result(row.state)

    def _apply(self, rows: TableRows[S], record: LogRecord) -> None:
        if record.value is None:
            rows.remove(record)
            return
        try:
            state = admit(
                record.value,
                self._kind,
                *self._also,
                logged_us=record.timestamp_ms * 1000,
                ahead_us=self._ahead_us,
            )
        except Refused as error:
            logger.warning(
                "skipping offset %d of %s: %s",
                *(record.offset, self._topic, error),
                extra=about(*record.partition, record.offset),
            )
            return
        if isinstance(state, self._kind):
            rows.put(record, state)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
