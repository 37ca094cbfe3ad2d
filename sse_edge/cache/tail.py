"""The tail: one reader a process, from the end on, for every partition that somebody reads.

What arrives are the log's newest records; what leaves are windows, and a bell for those whose
records they are. A partition is followed from the first moment that somebody asks for it until
nobody has read it for a while. When Kafka goes away the windows stay, and the tail goes on from
their ends with a new reader.

Offsets mean something only within one incarnation of a topic and one history of a partition. So
every few seconds it is asked whether they are what they were: a topic with another id is another
log; a partition whose leader has changed is compared with what the window holds, since a leader
that was not in sync has lost the end of the log, and gives its offsets out again.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from sse_edge.cache.window import Window
from sse_edge.cursor import OFFSET_MAX, incarnation_of
from sse_edge.errors import LogError, LogUnavailable, OffsetOutOfRange
from sse_edge.log.protocol import Log, TailReader
from sse_edge.log.record import Partition, Record, TopicInfo
from sse_edge.settings import EdgeSettings

logger = logging.getLogger(__name__)

_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_COMPARED = 500
FAR_AWAY = OFFSET_MAX
"""Where the window of a partition without a leader begins: beyond every position."""

Listener = Callable[[], None]


class Cut(NamedTuple):
    """A partition has lost what stood from an offset on, and gives its offsets out again."""

    partition: Partition
    offset: int


class TopicTail:
    """One incarnation of a topic, as far as it is followed."""

    def __init__(self, info: TopicInfo, windows: dict[Partition, Window] | None = None) -> None:
        self.info = info
        self.incarnation = incarnation_of(info.topic_id)
        self.windows = windows or {}
        self.replaced = False
        """Whether another one has taken its place: positions have to be found anew."""
        self.cuts: tuple[Cut, ...] = ()
        """Where partitions were cut off, for those who had read beyond."""


class Tail:
    """The windows of all partitions that are followed."""

    def __init__(self, source: Log, settings: EdgeSettings) -> None:
        self._log = source
        self._settings = settings
        self._topics: dict[str, TopicTail] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._used_s: dict[Partition, float] = {}
        self._epochs: dict[Partition, int] = {}
        self._leaderless: dict[Partition, int] = {}
        """The last epoch of those that have no leader now."""
        self._everything: defaultdict[str, set[Listener]] = defaultdict(set)
        self._by_key: defaultdict[str, dict[bytes, set[Listener]]] = defaultdict(dict)
        self._assigned_anew = asyncio.Event()
        self._look_at_s = 0.0
        self.connected = False
        """Whether Kafka answered when it was last asked."""
        self.records = 0
        """How many have come."""

    @property
    def windows(self) -> Mapping[Partition, Window]:
        """Everything that is followed."""
        return {
            partition: window
            for topic in self._topics.values()
            for partition, window in topic.windows.items()
        }

    @property
    def leaders(self) -> Collection[Partition]:
        """Partitions that had a leader when Kafka was last asked."""
        return self._epochs.keys()

    async def topic(self, name: str) -> TopicTail:
        """What a topic is; waits until it exists and Kafka says so, hence under a time limit."""
        while True:
            async with self._locks[name]:
                known = self._topics.get(name)
                if known is not None:
                    return known
                try:
                    info = (await self._log.describe([name])).get(name)
                except LogUnavailable:
                    info = None
                if info is not None:
                    return self._topics.setdefault(name, TopicTail(info))
            logger.warning("%s is asked for, and cannot be had yet", name)
            await asyncio.sleep(_BACKOFF_S[2])

    async def follow(self, topic: TopicTail, partitions: Iterable[Partition]) -> None:
        """Have windows for these partitions, from the log's present end on.

        One that has no leader gets a window that holds nothing, and is far away: whoever has a
        position there goes on with the others. Ends early where the topic is replaced meanwhile.
        """
        missing = []
        for partition in partitions:
            self._used_s[partition] = _now_s()
            if partition not in topic.windows:
                missing.append(partition)
        if not missing:
            return
        async with asyncio.TaskGroup() as tasks:
            for partition in missing:
                tasks.create_task(self._place(topic, partition))

    async def look_again(self) -> None:
        """See whether the topics are what they were.

        Raises:
            LogUnavailable: Kafka is away.
        """
        await self._look_at_metadata()

    @contextmanager
    def subscribed(
        self, topic: str, keys: Collection[bytes], listener: Listener
    ) -> Generator[None]:
        """Ring whenever something comes on a topic, or something of certain keys."""
        by_key = self._by_key[topic]
        places = [by_key.setdefault(key, set()) for key in keys] or [self._everything[topic]]
        for place in places:
            place.add(listener)
        try:
            yield
        finally:
            for place in places:
                place.discard(listener)
            for key in keys:
                if not by_key.get(key, True):
                    del by_key[key]

    def release(self, used: Collection[Partition]) -> None:
        """Let go of partitions that have not been used for a while."""
        now_s = _now_s()
        self._used_s |= dict.fromkeys(used, now_s)
        for partition, used_s in tuple(self._used_s.items()):
            if now_s - used_s > self._settings.linger_s:
                del self._used_s[partition]
                topic = self._topics.get(partition.topic)
                if topic is not None and topic.windows.pop(partition, None) is not None:
                    self._epochs.pop(partition, None)
                    self._assigned_anew.set()

    async def run(self) -> None:
        """Follow, for ever; Kafka's absence is waited for, with backoff."""
        failures = 0
        while True:
            try:
                async with self._log.tail() as reader:
                    await self._look_at_metadata()
                    failures = 0
                    await self._follow_with(reader)
            except LogError as error:
                self.connected = False
                logger.warning("the tail waits for Kafka: %s", error)
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
            failures += 1

    async def _place(self, topic: TopicTail, partition: Partition) -> None:
        """Give a partition its window."""
        async with self._locks[f"{partition.topic}/{partition.number}"]:
            while partition not in topic.windows and not topic.replaced:
                try:
                    start = FAR_AWAY
                    epochs = await self._log.leader_epochs([partition])
                    if epochs:
                        start = (await self._log.end_offsets([partition]))[partition]
                except LogError as error:
                    logger.warning("%s/%d cannot be followed yet: %s", *partition, error)
                    await asyncio.sleep(_BACKOFF_S[1])
                    continue
                self._epochs |= epochs
                topic.windows[partition] = Window(start, self._settings.window_bytes_max)
                self._assigned_anew.set()

    async def _look_at_metadata(self) -> None:
        """See what the topics are; those that have changed have to be found anew."""
        self._look_at_s = _now_s() + self._settings.metadata_s
        # While nobody reads anything, whether Kafka answers at all is still worth knowing.
        infos = await self._log.describe(tuple(self._topics) or ("tapewire.nothing",))
        self.connected = True
        for name, followed in tuple(self._topics.items()):
            info = infos.get(name)
            if info is not None and info != followed.info and not followed.replaced:
                logger.warning("%s has changed: it is %s, and was %s", name, info, followed.info)
                same_log = info.topic_id == followed.info.topic_id
                again = TopicTail(info, dict(followed.windows) if same_log else None)
                again.cuts = followed.cuts if same_log else ()
                self._replace(followed, again)
        await self._look_at_leaders()

    async def _look_at_leaders(self) -> None:
        """See whether partitions with a new leader still are what the windows hold."""
        asked = tuple(self.windows)
        epochs = await self._log.leader_epochs(asked)
        for partition in asked:
            if partition in self._epochs and partition not in epochs:
                self._leaderless[partition] = self._epochs.pop(partition)
        for partition, epoch in epochs.items():
            topic = self._topics[partition.topic]
            if partition in topic.windows and topic.windows[partition].start == FAR_AWAY:
                logger.warning("%s/%d has a leader", *partition)
                again = TopicTail(topic.info, dict(topic.windows))
                again.cuts = topic.cuts
                del again.windows[partition]
                self._replace(topic, again)
                continue
            before = self._epochs.get(partition, self._leaderless.pop(partition, None))
            window = self._topics[partition.topic].windows.get(partition)
            if before is not None and epoch != before and window is not None:
                cut = await self._cut_of(partition, window)
                if cut is not None:
                    self._cut_off(partition, cut)
            self._epochs[partition] = epoch

    async def _cut_of(self, partition: Partition, window: Window) -> int | None:
        """The first offset at which the log is not what was read from it; None if it is."""
        begin = (await self._log.begin_offsets([partition]))[partition]
        end = (await self._log.end_offsets([partition]))[partition]
        known = [one for one in window.last(_COMPARED) if begin <= one.offset < end]
        found: dict[int, Record] = {}
        offset = known[0].offset if known else end
        cut = offset
        while known and offset <= known[-1].offset:
            piece = await self._log.read(partition, offset)
            if piece.next_offset <= offset:
                raise LogUnavailable(f"{partition.topic}/{partition.number} cannot be compared")
            found |= {record.offset: record for record in piece.records}
            offset = piece.next_offset
        for record in known:
            # One that is missing may have been compacted; one that differs is another history's.
            if found.get(record.offset, record) != record:
                return cut
            cut = record.offset + 1
        return end if end < window.next_offset else None

    def _cut_off(self, partition: Partition, offset: int) -> None:
        logger.error("%s/%d has lost what stood from offset %d on", *partition, offset)
        topic = self._topics[partition.topic]
        again = TopicTail(topic.info, dict(topic.windows))
        again.cuts = (*topic.cuts, Cut(partition, offset))
        again.windows[partition] = Window(offset, self._settings.window_bytes_max)
        self._replace(topic, again)

    async def _follow_with(self, reader: TailReader) -> None:
        self._assigned_anew.set()
        near: dict[Partition, int] = {}
        while True:
            if _now_s() >= self._look_at_s:
                await self._look_at_metadata()
            windows = self.windows
            if self._assigned_anew.is_set():
                self._assigned_anew.clear()
                near = {at: one.next_offset for at, one in windows.items() if one.start < FAR_AWAY}
                reader.assign(near)
            if not near:
                await self._wait_for_work()
                continue
            try:
                batches = await reader.poll()
            except OffsetOutOfRange:
                await self._look_at_metadata()
                await self._move_into_range()
                continue
            for partition, batch in batches.items():
                # What was read may be of a window that is not there any more, or not yet.
                window = windows[partition]
                followed = self._topics.get(partition.topic)
                is_current = followed is not None and followed.windows.get(partition) is window
                if is_current and batch.next_offset > window.next_offset:
                    window.append(batch)
                    self.records += len(batch.records)
                    self._notify(partition.topic, {record.key for record in batch.records})

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout_at(self._look_at_s):
                await self._assigned_anew.wait()
        except TimeoutError:
            self._look_at_s = _now_s()  # due is due: a timer may fire a clock tick early

    async def _move_into_range(self) -> None:
        """Windows whose end is not in the log any more go on where the log does."""
        for partition, window in self.windows.items():
            if window.start == FAR_AWAY:
                continue
            begin = (await self._log.begin_offsets([partition]))[partition]
            end = (await self._log.end_offsets([partition]))[partition]
            inside = max(begin, min(window.next_offset, end))
            if inside < window.next_offset:
                self._cut_off(partition, inside)
            elif inside > window.next_offset:
                topic = self._topics[partition.topic]
                again = TopicTail(topic.info, dict(topic.windows))
                again.cuts = topic.cuts
                again.windows[partition] = Window(inside, self._settings.window_bytes_max)
                self._replace(topic, again)

    def _replace(self, topic: TopicTail, again: TopicTail) -> None:
        """Put one in another's place, and tell everybody who reads it."""
        topic.replaced = True
        self._topics[topic.info.name] = again
        for partition in topic.windows:
            self._epochs.pop(partition, None)
        self._assigned_anew.set()
        self._notify(topic.info.name, None)

    def _notify(self, topic: str, keys: Collection[bytes | None] | None) -> None:
        """Ring for everybody who reads one of these keys, or anything at all of a topic."""
        by_key = self._by_key[topic]
        if keys is None:
            keys = tuple(by_key)
        listeners: Sequence[Listener] = tuple(self._everything[topic])
        for listener in listeners:
            listener()
        if by_key:
            for key in keys:
                for listener in tuple(by_key.get(key or b"", ())):
                    listener()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
