"""The tail: one reader a process that follows, from their ends, all partitions with a reader.

The log's newest records arrive here and go into windows; the listeners of their keys are notified.
A partition is followed from the first request for it until it has had no reader for a while. When
Kafka is away the windows stay, and a new reader continues from their ends.

Offsets mean something only within one incarnation of a topic and one history of a partition, so
both are checked every few seconds. A topic with another id is another log. A partition with a new
leader is compared with its window: a leader that was not in sync has lost the end of the log, and
assigns the same offsets again.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager

from kafka_io.log_lines import about
from sse_edge.cache.topic_tail import FAR_AWAY, Cut, TopicTail, find_cut
from sse_edge.cache.window import Window
from sse_edge.errors import LogError, LogUnavailable, OffsetOutOfRange
from sse_edge.log.protocol import NO_TOPIC, Log, TailReader
from sse_edge.log.record import Partition
from sse_edge.settings import EdgeSettings

logger = logging.getLogger(__name__)

_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)

Listener = Callable[[], None]


class Tail:
    """The windows of all followed partitions."""

    def __init__(self, log: Log, settings: EdgeSettings) -> None:
        self._log = log
        self._settings = settings
        self._topics: dict[str, TopicTail] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._used_s: dict[Partition, float] = {}
        self._epochs: dict[Partition, int] = {}
        self._leaderless: dict[Partition, int] = {}
        """The last leader epoch of partitions that have no leader now."""
        self._topic_listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._key_listeners: defaultdict[str, dict[bytes, set[Listener]]] = defaultdict(dict)
        self._assignment_changed = asyncio.Event()
        self._checking = asyncio.Lock()
        self.connected = False
        """Whether Kafka answered the last request."""
        self.has_asked = asyncio.Event()
        """Set once Kafka has answered or failed for the first time."""
        self.records = 0
        """How many records have arrived."""

    @property
    def windows(self) -> Mapping[Partition, Window]:
        """The windows of all followed partitions."""
        return {
            partition: window
            for topic in self._topics.values()
            for partition, window in topic.windows.items()
        }

    @property
    def stuck_s(self) -> Mapping[Partition, float]:
        """For how many seconds open transactions have held partitions back."""
        return self._log.stuck_s()

    @property
    def leaders(self) -> Collection[Partition]:
        """The partitions that had a leader at the last check."""
        return self._epochs.keys()

    async def topic(self, name: str) -> TopicTail:
        """Return a topic; wait until it exists and Kafka answers, so call it under a timeout."""
        while True:
            async with self._locks[name]:
                topic = self._topics.get(name)
                if topic is not None:
                    return topic
                try:
                    info = (await self._log.describe([name])).get(name)
                except LogUnavailable:
                    info = None
                if info is not None:
                    return self._topics.setdefault(name, TopicTail(info))
            logger.warning("waiting for topic %s: it is missing, or Kafka does not answer", name)
            await asyncio.sleep(_BACKOFF_S[2])

    async def follow(self, topic: TopicTail, partitions: Iterable[Partition]) -> None:
        """Give each partition a window that starts at the log's present end.

        A partition without a leader gets an empty window that starts at `FAR_AWAY`, so that a
        reader with a position in it continues with its other partitions. Returns early if the
        topic is replaced meanwhile.
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
                tasks.create_task(self._open_window(topic, partition))

    async def check_now(self) -> None:
        """Check now whether topics and leaders have changed.

        Raises:
            LogUnavailable: Kafka is away.
        """
        await self._check_topics()

    @contextmanager
    def subscribed(
        self, topic: str, keys: Collection[bytes], listener: Listener
    ) -> Generator[None]:
        """Call a listener for new records of some keys; with no keys, for every new record."""
        by_key = self._key_listeners[topic]
        groups = [by_key.setdefault(key, set()) for key in keys] or [self._topic_listeners[topic]]
        for group in groups:
            group.add(listener)
        try:
            yield
        finally:
            for group in groups:
                group.discard(listener)
            for key in keys:
                if not by_key.get(key, True):
                    del by_key[key]

    def release(self, used: Collection[Partition]) -> None:
        """Stop following partitions that have not been used for `linger_s`."""
        now_s = _now_s()
        self._used_s |= dict.fromkeys(used, now_s)
        for partition, used_s in tuple(self._used_s.items()):
            if now_s - used_s > self._settings.linger_s:
                del self._used_s[partition]
                topic = self._topics.get(partition.topic)
                if topic is not None and topic.windows.pop(partition, None) is not None:
                    self._epochs.pop(partition, None)
                    self._assignment_changed.set()

    async def run(self) -> None:
        """Follow until cancelled; while Kafka is away, retry with backoff."""
        failures = 0
        while True:
            try:
                async with self._log.tail() as reader, asyncio.TaskGroup() as tasks:
                    await self._check_topics()
                    self.has_asked.set()
                    failures = 0
                    tasks.create_task(self._watch())
                    await self._follow_with(reader)
            except* LogError as errors:
                self.connected = False
                self.has_asked.set()
                logger.warning("cannot follow Kafka, retrying: %s", errors.exceptions[0])
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
            failures += 1

    async def _watch(self) -> None:
        """Check topics and leaders every `metadata_s`, beside the reader.

        A check that fails stops no reader: the records still come while another broker is away.
        """
        while True:
            await asyncio.sleep(self._settings.metadata_s)
            try:
                await self._check_topics()
            except LogError as error:
                self.connected = False
                logger.warning("the topics cannot be checked, retrying: %s", error)

    async def _open_window(self, topic: TopicTail, partition: Partition) -> None:
        async with self._locks[f"{partition.topic}/{partition.number}"]:
            while partition not in topic.windows and not topic.replaced:
                try:
                    start = FAR_AWAY
                    epochs = await self._log.leader_epochs([partition])
                    if epochs:
                        start = (await self._log.end_offsets([partition]))[partition]
                except LogError as error:
                    logger.warning(
                        "cannot follow %s/%d yet: %s", *partition, error, extra=about(*partition)
                    )
                    await asyncio.sleep(_BACKOFF_S[1])
                    continue
                self._epochs |= epochs
                topic.windows[partition] = Window(start, self._settings.window_bytes_max)
                self._assignment_changed.set()

    async def _check_topics(self) -> None:
        """Replace the topics that have changed, then check the leaders; one check at a time."""
        async with self._checking:
            await self._check_topics_and_leaders()

    async def _check_topics_and_leaders(self) -> None:
        # Without topics this still shows whether Kafka answers.
        infos = await self._log.describe(tuple(self._topics) or (NO_TOPIC,))
        self.connected = True
        for name, followed in tuple(self._topics.items()):
            info = infos.get(name)
            if info is not None and info != followed.info and not followed.replaced:
                logger.warning("topic %s has changed from %s to %s", name, followed.info, info)
                same_log = info.topic_id == followed.info.topic_id
                changed = TopicTail(info, dict(followed.windows) if same_log else None)
                changed.cuts = followed.cuts if same_log else ()
                self._replace(followed, changed)
        await self._check_leaders()

    async def _check_leaders(self) -> None:
        """Compare partitions that have a new leader with what their windows hold."""
        partitions = tuple(self.windows)
        epochs = await self._log.leader_epochs(partitions)
        for partition in partitions:
            if partition in self._epochs and partition not in epochs:
                self._leaderless[partition] = self._epochs.pop(partition)
        for partition, epoch in epochs.items():
            topic = self._topics[partition.topic]
            if partition in topic.windows and topic.windows[partition].start == FAR_AWAY:
                logger.warning("%s/%d has a leader now", *partition, extra=about(*partition))
                changed = topic.successor()
                del changed.windows[partition]
                self._replace(topic, changed)
                continue
            before = self._epochs.get(partition, self._leaderless.pop(partition, None))
            window = self._topics[partition.topic].windows.get(partition)
            if before is not None and epoch != before and window is not None:
                offset = await find_cut(self._log, partition, window)
                if offset is not None:
                    self._cut_off(partition, offset)
            self._epochs[partition] = epoch

    def _cut_off(self, partition: Partition, offset: int) -> None:
        logger.error(
            "%s/%d has lost its records from offset %d on",
            *(*partition, offset),
            extra=about(*partition, offset),
        )
        topic = self._topics[partition.topic]
        changed = topic.successor()
        changed.cuts = (*topic.cuts, Cut(partition, offset))
        changed.windows[partition] = Window(offset, self._settings.window_bytes_max)
        self._replace(topic, changed)

    async def _follow_with(self, reader: TailReader) -> None:
        self._assignment_changed.set()
        positions: dict[Partition, int] = {}
        while True:
            windows = self.windows
            if self._assignment_changed.is_set():
                self._assignment_changed.clear()
                positions = {
                    partition: window.next_offset
                    for partition, window in windows.items()
                    if window.start < FAR_AWAY
                }
                reader.assign(positions)
            if not positions:
                await self._assignment_changed.wait()
                continue
            try:
                batches = await reader.poll()
            except OffsetOutOfRange:
                await self._check_topics()
                await self._move_into_range()
                if self.windows == windows:
                    # The log has the positions. The broker that was asked does not lead any more.
                    raise LogUnavailable(
                        "new records were requested from a former leader"
                    ) from None
                continue
            for partition, batch in batches.items():
                # The poll may have begun before a window was released or replaced.
                window = windows[partition]
                followed = self._topics.get(partition.topic)
                is_current = followed is not None and followed.windows.get(partition) is window
                if is_current and batch.next_offset > window.next_offset:
                    window.append(batch)
                    self.records += len(batch.records)
                    self.connected = True
                    self._notify(partition.topic, {record.key for record in batch.records})

    async def _move_into_range(self) -> None:
        """Restart windows whose end is not in the log any more where the log continues."""
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
                changed = topic.successor()
                changed.windows[partition] = Window(inside, self._settings.window_bytes_max)
                self._replace(topic, changed)

    def _replace(self, topic: TopicTail, changed: TopicTail) -> None:
        """Put a changed topic in the place of another, and notify all of its listeners."""
        topic.replaced = True
        self._topics[topic.info.name] = changed
        for partition in topic.windows:
            self._epochs.pop(partition, None)
        self._assignment_changed.set()
        self._notify(topic.info.name, None)

    def _notify(self, topic: str, keys: Collection[bytes | None] | None) -> None:
        """Notify the listeners of a topic and of some of its keys; None notifies all keys."""
        by_key = self._key_listeners[topic]
        if keys is None:
            keys = tuple(by_key)
        listeners: Sequence[Listener] = tuple(self._topic_listeners[topic])
        for listener in listeners:
            listener()
        if by_key:
            for key in keys:
                for listener in tuple(by_key.get(key or b"", ())):
                    listener()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
