"""A table view: the last state of each key of a compacted topic, in memory.

Every node has its own and can rebuild it at any time. Reading begins with the first request. A
topic that was made anew, or that has grown, is read again.

Where a topic has grown, an earlier partition may still have a record of a key; the highest of the
key's partitions has the last one.
"""

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from schemas.errors import Refused
from schemas.events import Record
from schemas.gate import AHEAD_US, admit
from sse_edge.cursor import Cursor, TopicPosition, incarnation_of
from sse_edge.errors import LogUnavailable, OffsetOutOfRange
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition, Record as LogRecord, TopicInfo

logger = logging.getLogger(__name__)

_RETRY_S = 0.5
_TOPIC_CHECK_S = 5.0
"""How often a view asks whether its topic has changed."""


S = TypeVar("S", bound=Record)


class _Row(NamedTuple, Generic[S]):
    partition: int
    timestamp_ms: int
    state: S
    tenant: bytes


class TableView(Generic[S]):
    """The last state of each key."""

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
        self._newest_ms = 0
        """The latest time of a record, for records whose time is unknown."""
        self._patience_s = patience_s
        self._states: OrderedDict[str, _Row[S]] = OrderedDict()
        """By key; the state that changed last is last."""
        self.version = 0
        """A number that grows with each change."""
        self.cursor = Cursor(())
        """Where the view has read to."""
        self._changed = asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._is_complete = asyncio.Event()
        self._waiting: defaultdict[str, set[asyncio.Future[S]]] = defaultdict(set)

    async def run(self) -> None:
        """Follow the topic from the first request on, until cancelled."""
        await self._is_wanted.wait()
        while True:
            try:
                await self._follow()
            except (LogUnavailable, OffsetOutOfRange) as error:
                logger.warning("reading %s again: %s", self._topic, error)
                await asyncio.sleep(_RETRY_S)

    async def find(self, subject: str, within_s: float) -> S | None:
        """Return a key's state; wait for one to be written; None if there is none in time.

        Args:
            subject: the key.
            within_s: how long to wait for a processor to write it.

        Raises:
            LogUnavailable: the topic could not be read in time.
        """
        await self._complete()
        if subject in self._states:
            return self._states[subject].state
        future: asyncio.Future[S] = asyncio.get_running_loop().create_future()
        self._waiting[subject].add(future)
        try:
            async with asyncio.timeout(within_s):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting[subject].discard(future)
            if not self._waiting[subject]:
                del self._waiting[subject]

    def last(self, subject: str) -> S | None:
        """Return a key's state as far as the view has read; None for one that it does not have."""
        self._is_wanted.set()
        row = self._states.get(subject)
        return None if row is None else row.state

    async def all(self, tenant: str | None = None) -> Sequence[S]:
        """Return the states; the state that changed last is last.

        Args:
            tenant: whose states; "" for those without a tenant, None for all.

        Raises:
            LogUnavailable: the topic could not be read in time.
        """
        return [state for state, _ in await self.all_with_times(tenant)]

    async def all_with_times(self, tenant: str | None = None) -> Sequence[tuple[S, int]]:
        """Return the states as `all` does, each with the time of its record in ms since 1970.

        Raises:
            LogUnavailable: the topic could not be read in time.
        """
        await self._complete()
        named = None if tenant is None else tenant.encode()
        rows = self._states.values()
        return [(row.state, row.timestamp_ms) for row in rows if named in (None, row.tenant)]

    async def _complete(self) -> None:
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
        states: OrderedDict[str, _Row[S]] = OrderedDict()
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
                        self._apply(states, record)
                    changed = changed or bool(batch.records)
                    position[partition] = batch.next_offset
                if all(position[partition] >= ends[partition] for partition in partitions):
                    self._show(states, info, position, changed=changed)

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
        states: OrderedDict[str, _Row[S]],
        info: TopicInfo,
        position: Mapping[Partition, int],
        *,
        changed: bool,
    ) -> None:
        if not changed and self._states is states:
            return
        self._states = states
        offsets = tuple(
            (partition.number, offset) for partition, offset in sorted(position.items())
        )
        self.cursor = Cursor((TopicPosition(incarnation_of(info.topic_id), offsets),))
        self._is_complete.set()
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()
        for subject, futures in self._waiting.items():
            if subject in states:
                for future in futures:
                    if not future.done():
                        future.set_result(states[subject].state)

    def _apply(self, states: OrderedDict[str, _Row[S]], record: LogRecord) -> None:
        subject = (record.key or b"").decode(
            errors="replace"
        )  # a foreign record's key may not be text
        known = states.get(subject)
        if known is not None and record.partition.number < known.partition:
            return
        if record.value is None:
            states.pop(subject, None)
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
            logger.warning("skipping offset %d of %s: %s", record.offset, self._topic, error)
            return
        if not isinstance(state, self._kind):
            return
        self._newest_ms = max(self._newest_ms, record.timestamp_ms)
        changed_ms = record.timestamp_ms or self._newest_ms
        states[subject] = _Row(record.partition.number, changed_ms, state, record.tenant)
        states.move_to_end(subject)
        if self._kept_ms is None:
            return
        while next(iter(states.values())).timestamp_ms < changed_ms - self._kept_ms:
            states.popitem(last=False)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
