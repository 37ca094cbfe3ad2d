"""A view: the last state of each task or job, kept in memory from a compacted topic.

Each node has its own, and can make it anew at any time. It is begun when somebody first asks.
"""

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.events import Record
from sse_edge.cursor import Cursor, TopicPosition, incarnation_of
from sse_edge.errors import LogUnavailable, OffsetOutOfRange
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition, Record as LogRecord, TopicInfo

logger = logging.getLogger(__name__)

_AGAIN_S = 0.5


S = TypeVar("S", bound=Record)


class _Kept(NamedTuple, Generic[S]):
    timestamp_ms: int
    state: S
    tenant: bytes


class TableView(Generic[S]):
    """The last state of each key."""

    def __init__(
        self, log: Log, topic: str, kind: type[S], kept_ms: int | None, patience_s: float
    ) -> None:
        """Have a view.

        Args:
            log: what it is read from.
            topic: the compacted topic's full name.
            kind: what stands in it.
            kept_ms: for how long the log keeps a state that does not change; None for ever.
            patience_s: for how long whoever asks waits for the log to be read.
        """
        self._log = log
        self._topic = topic
        self._kind = kind
        self._kept_ms = kept_ms
        self._patience_s = patience_s
        self._states: OrderedDict[str, _Kept[S]] = OrderedDict()
        """By subject; the last changed last."""
        self.version = 0
        """Another one after each change."""
        self.cursor = Cursor(())
        """Up to where the view has read."""
        self._bell = asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._is_complete = asyncio.Event()
        self._waiting: defaultdict[str, set[asyncio.Future[S]]] = defaultdict(set)

    async def run(self) -> None:
        """Follow the topic, for ever, once somebody has asked."""
        await self._is_wanted.wait()
        while True:
            try:
                await self._follow()
            except (LogUnavailable, OffsetOutOfRange) as error:
                logger.warning("%s is read again: %s", self._topic, error)
                await asyncio.sleep(_AGAIN_S)

    async def find(self, subject: str, within_s: float) -> S | None:
        """A story's state; None where there is still none after a while.

        Args:
            subject: which.
            within_s: how long to wait for whoever writes it.

        Raises:
            LogUnavailable: the log could not be read in time.
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
        """A state, as far as the view has read; None where it has just been begun."""
        self._is_wanted.set()
        found = self._states.get(subject)
        return None if found is None else found.state

    async def all(self, tenant: str | None = None) -> Sequence[S]:
        """Every state, the last changed one last.

        Args:
            tenant: whose; "" for nobody's, None for all.

        Raises:
            LogUnavailable: the log could not be read in time.
        """
        await self._complete()
        wanted = None if tenant is None else tenant.encode()
        return [one.state for one in self._states.values() if wanted in (None, one.tenant)]

    async def _complete(self) -> None:
        self._is_wanted.set()
        try:
            async with asyncio.timeout(self._patience_s):
                await self._is_complete.wait()
        except TimeoutError:
            raise LogUnavailable(f"{self._topic} could not be read") from None

    async def changed_since(self, version: int) -> None:
        """Wait until the view is of another version."""
        while self.version == version:
            await self._bell.wait()

    async def _follow(self) -> None:
        info = (await self._log.describe([self._topic])).get(self._topic)
        if info is None:
            raise LogUnavailable(f"there is no topic {self._topic}")
        partitions = [Partition(self._topic, number) for number in range(info.partitions)]
        position = dict(await self._log.begin_offsets(partitions))
        ends = await self._log.end_offsets(partitions)
        # Old states are read before newer ones: who asks sees the last whole view meanwhile.
        states: OrderedDict[str, _Kept[S]] = OrderedDict()
        async with self._log.tail() as reader:
            reader.assign(position)
            while True:
                changed = False
                for partition, batch in (await reader.poll()).items():
                    for record in batch.records:
                        self._take(states, record)
                    changed = changed or bool(batch.records)
                    position[partition] = batch.next_offset
                if all(position[one] >= ends[one] for one in partitions):
                    self._show(states, info, position, changed=changed)

    def _show(
        self,
        states: OrderedDict[str, _Kept[S]],
        info: TopicInfo,
        position: Mapping[Partition, int],
        *,
        changed: bool,
    ) -> None:
        if not changed and self._states is states:
            return
        self._states = states
        offsets = tuple((one.number, offset) for one, offset in sorted(position.items()))
        self.cursor = Cursor((TopicPosition(incarnation_of(info.topic_id), offsets),))
        self._is_complete.set()
        self.version += 1
        self._bell.set()
        self._bell = asyncio.Event()
        for subject, futures in self._waiting.items():
            if subject in states:
                for future in futures:
                    if not future.done():
                        future.set_result(states[subject].state)

    def _take(self, states: OrderedDict[str, _Kept[S]], record: LogRecord) -> None:
        subject = (record.key or b"").decode(errors="replace")  # somebody else's may be no text
        if record.value is None:
            states.pop(subject, None)
            return
        try:
            state = decode(record.value)
        except Undecodable as error:
            logger.warning("%s offset %d is skipped: %s", self._topic, record.offset, error)
            return
        if not isinstance(state, self._kind):
            logger.warning("%s offset %d is skipped: it is no state", self._topic, record.offset)
            return
        states[subject] = _Kept(record.timestamp_ms, state, record.tenant)
        states.move_to_end(subject)
        if self._kept_ms is None:
            return
        while next(iter(states.values())).timestamp_ms < record.timestamp_ms - self._kept_ms:
            states.popitem(last=False)
