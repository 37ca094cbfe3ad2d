"""The tail: one reader a process, from the end on, for every partition that somebody reads.

What arrives are the log's newest records; what leaves are windows, and a bell that wakes those who
wait. A topic is followed from the first moment that somebody asks for it. When Kafka goes away the
windows stay, and the tail goes on from their ends with a new reader.

The metadata is looked at every few seconds: a topic with another id is another log, and gets new
windows; a partition that was added gets one from its first record on.
"""

import asyncio
import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from sse_edge.cursor import incarnation_of
from sse_edge.errors import LogError, OffsetOutOfRange
from sse_edge.log import Log, TailReader
from sse_edge.record import Partition, TopicInfo
from sse_edge.settings import EdgeSettings
from sse_edge.window import Window

log = logging.getLogger(__name__)

_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)


class TopicTail:
    """One incarnation of a topic, as far as it is followed."""

    def __init__(self, info: TopicInfo, windows: Mapping[Partition, Window]) -> None:
        self.info = info
        self.windows = windows
        self.incarnation = incarnation_of(info.topic_id)
        self.replaced = False
        """Whether another one has taken its place: positions have to be found anew."""


class Tail:
    """The windows of all topics that are followed."""

    def __init__(self, source: Log, settings: EdgeSettings) -> None:
        self._log = source
        self._settings = settings
        self._topics: dict[str, TopicTail] = {}
        self._asked: dict[str, asyncio.Event] = {}
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._restart = False
        self._ask_again_at_s = self._look_at_s = 0.0
        self.connected = False
        """Whether Kafka answered when it was last asked."""

    async def follow(self, topic: str) -> TopicTail:
        """A topic's windows, once they are there; the caller puts a limit on the time."""
        while True:
            followed = self._topics.get(topic)
            if followed is not None:
                return followed
            asked = self._asked.setdefault(topic, asyncio.Event())
            await asked.wait()

    async def look_again(self) -> None:
        """See whether the topics are what they were.

        Raises:
            LogUnavailable: Kafka is away.
        """
        await self._look_at_metadata()

    @contextmanager
    def waking(self, topics: Sequence[str], wake: asyncio.Event) -> Generator[None]:
        """Set `wake` whenever something comes on one of the topics."""
        for topic in topics:
            self._waiting.setdefault(topic, set()).add(wake)
        try:
            yield
        finally:
            for topic in topics:
                self._waiting[topic].discard(wake)

    async def run(self) -> None:
        """Follow, for ever; Kafka's absence is waited for, with backoff."""
        failures = 0
        while True:
            try:
                async with self._log.tail() as reader:
                    await self._look_at_metadata()
                    self.connected = True
                    failures = 0
                    await self._follow_with(reader)
            except LogError as error:
                self.connected = False
                log.warning("the tail waits for Kafka: %s", error)
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
            failures += 1

    async def _look_at_metadata(self) -> Mapping[str, TopicInfo]:
        """See what the topics are; those that have changed get new windows."""
        self._look_at_s = _now_s() + self._settings.metadata_s
        names = {*self._topics, *self._asked}
        # While nobody reads anything, whether Kafka answers at all is still worth knowing.
        infos = await self._log.describe(names or {"tapewire.nothing"})
        for name, followed in tuple(self._topics.items()):
            info = infos.get(name)
            if info is not None and info != followed.info:
                log.warning("%s has changed: it is %s, and was %s", name, info, followed.info)
                self._replace(followed, info)
        return infos

    async def _follow_with(self, reader: TailReader) -> None:
        self._assign(reader)
        while True:
            if _now_s() >= self._look_at_s:
                await self._look_at_metadata()
            if self._asked and _now_s() >= self._ask_again_at_s:
                await self._begin_asked()
            if self._restart:
                self._assign(reader)
            if not self._topics:
                await asyncio.sleep(_BACKOFF_S[0])
                continue
            try:
                batches = await reader.poll()
            except OffsetOutOfRange:
                await self._look_at_metadata()
                await self._move_into_range()
                self._restart = True
                continue
            if self._restart:
                continue  # what was read may be of windows that are not there any more
            for partition, batch in batches.items():
                window = self._topics[partition.topic].windows.get(partition)
                if window is not None and batch.next_offset > window.next_offset:
                    window.append(batch)
                    self._wake(partition.topic)

    def _assign(self, reader: TailReader) -> None:
        self._restart = False
        reader.assign(
            {
                partition: window.next_offset
                for topic in self._topics.values()
                for partition, window in topic.windows.items()
            }
        )

    async def _begin_asked(self) -> None:
        """Make the windows that are waited for, from the log's present end on."""
        infos = await self._look_at_metadata()
        for name, asked in tuple(self._asked.items()):
            info = infos.get(name)
            if info is None:
                log.warning("%s is asked for, and does not exist", name)
                self._ask_again_at_s = _now_s() + _BACKOFF_S[-1]
                continue
            ends = await self._log.end_offsets(_partitions(info))
            self._put(info, ends)
            del self._asked[name]
            asked.set()
            self._restart = True

    def _replace(self, followed: TopicTail, info: TopicInfo) -> None:
        """Give a topic that is not what it was its new windows."""
        same_log = info.topic_id == followed.info.topic_id
        kept = followed.windows if same_log else {}
        followed.replaced = True
        # What an added partition, or a topic made again, holds is all new to our readers.
        self._put(info, dict.fromkeys(_partitions(info), 0), kept)
        self._restart = True
        self._wake(info.name)

    async def _move_into_range(self) -> None:
        """Windows whose end is not in the log any more go on where the log does."""
        partitions = [one for topic in self._topics.values() for one in topic.windows]
        begins = await self._log.begin_offsets(partitions)
        ends = await self._log.end_offsets(partitions)
        for name, topic in tuple(self._topics.items()):
            windows = dict(topic.windows)
            for partition, window in topic.windows.items():
                inside = max(begins[partition], min(window.next_offset, ends[partition]))
                if inside != window.next_offset:
                    windows[partition] = Window(inside, self._settings.window_bytes_max)
            if any(windows[one] is not topic.windows[one] for one in windows):
                topic.replaced = True
                self._topics[name] = TopicTail(topic.info, windows)
                self._wake(name)

    def _put(
        self,
        info: TopicInfo,
        starts: Mapping[Partition, int],
        kept: Mapping[Partition, Window] | None = None,
    ) -> None:
        kept = kept or {}
        self._topics[info.name] = TopicTail(
            info,
            {
                partition: kept.get(partition)
                or Window(starts[partition], self._settings.window_bytes_max)
                for partition in _partitions(info)
            },
        )

    def _wake(self, topic: str) -> None:
        for wake in self._waiting.get(topic, ()):
            wake.set()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _partitions(info: TopicInfo) -> list[Partition]:
    return [Partition(info.name, number) for number in range(info.partitions)]
