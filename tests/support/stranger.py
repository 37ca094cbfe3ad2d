"""A producer of another house, librdkafka, which writes raw bytes and absurd records.

Processors set each of its records aside with a known reason.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from confluent_kafka import KafkaError, Message, Producer

from kafka_io.client import partition_of
from kafka_io.clock import now_us
from producers.progress import training_progress
from schemas.codec import encode
from schemas.events import DeadLetter, Record, Return, ReturnBatch, TrainingProgress
from schemas.topics import PARTITIONS
from tests.conftest import World
from tests.support.straight_run import TopicReader
from tests.support.strangers import encoded

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
HOME = partition_of(b"p", PARTITIONS)
PARTITION_UA = -1
"""Librdkafka chooses the partition."""

Strange = tuple[str, bytes | None, bytes | None, int | None, str]
"""The topic, key, value and partition of a record, and the reason of its dead letter."""

_PACE_S = 0.4
_LARGE_BYTES = 100_000
_LARGE_SHARE = 0.1
_FLUSH_S = 60.0


def fields(record: Record) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def strange_records() -> Iterator[Strange]:
    """Yield a record of each kind."""
    event = training_progress("T", 50.0, "running", now_us=now_us())
    for topic in ("training.events", "portfolio.returns", "backtest.events", "market.trades"):
        yield topic, b"k", b"\x00\xffgarbage", None, "undecodable"
        yield topic, None, None, 0, "undecodable"
        yield topic, b"k", b"\xc3\x01" + b"x" * 900_000, None, "undecodable"
        yield topic, b"k" * 520_000, b"{}", None, "undecodable"
    deep = fields(event) | {"metrics_json": "[" * 1_100 + "]" * 1_100}
    for wrong in (
        fields(event) | {"task_id": "T" * 200_000},
        fields(event) | {"progress": float("nan")},
        deep,
    ):
        yield "training.events", b"T", encoded(TrainingProgress, wrong), None, "invalid"
    ahead = replace(event, event_time_us=now_us() + 10 * 86_400_000_000)
    yield "training.events", b"T", encode(ahead), None, "future"
    yield "training.events", b"other", encode(event), None, "misplaced"
    away = (partition_of(b"T", PARTITIONS) + 1) % PARTITIONS
    yield "training.events", b"T", encode(event), away, "wrong_partition"
    elsewhere = encode(ReturnBatch(returns=[Return("p", now_us(), 0.01)]))
    yield "portfolio.returns", None, elsewhere, (HOME + 1) % PARTITIONS, "wrong_partition"
    infinite = encode(ReturnBatch(returns=[Return("p", now_us(), float("inf"))]))
    yield "portfolio.returns", None, infinite, HOME, "invalid"


def producer_of(world: World, codec: str, **settings: object) -> Producer:
    """Return a producer of librdkafka that compresses by a codec."""
    return Producer(
        {
            "bootstrap.servers": world.kafka.bootstrap_servers,
            "compression.type": codec,
            "message.max.bytes": 2_000_000,
            **settings,
        }
    )


class Stranger:
    """Writes strange records at random, and accounts for their dead letters."""

    def __init__(self, world: World, reader: TopicReader, dice: random.Random) -> None:
        """Make a stranger that has not begun.

        Args:
            world: where it writes.
            reader: a reader of the dead letters.
            dice: chooses the records and codecs.
        """
        self.written: dict[tuple[str, int, int], str] = {}
        """By topic, partition and offset, the reason of the dead letter that must follow."""
        self.unconfirmed = 0
        """Records that Kafka may have or not."""
        self._world = world
        self._reader = reader
        self._dice = dice

    async def write_while(self, goes_on: Callable[[], bool]) -> None:
        """Write one record after another; none is written twice."""
        producers = [
            producer_of(
                self._world, codec, **{"enable.idempotence": True, "message.timeout.ms": 300_000}
            )
            for codec in CODECS
        ]
        while goes_on():
            records = list(strange_records())
            topic, key, value, partition, reason = self._dice.choice(records)
            size = len(key or b"") + len(value or b"")
            if size < _LARGE_BYTES or self._dice.random() < _LARGE_SHARE:
                producer = self._dice.choice(producers)
                producer.produce(
                    self._world.topic(topic),
                    value,
                    key,
                    partition=PARTITION_UA if partition is None else partition,
                    on_delivery=self._confirming(topic, reason),
                )
            for producer in producers:
                producer.poll(0)
            await asyncio.sleep(_PACE_S)  # its rate
        for producer in producers:
            self.unconfirmed += await asyncio.to_thread(producer.flush, _FLUSH_S)

    def _confirming(self, topic: str, reason: str) -> Callable[[KafkaError | None, Message], None]:
        def confirm(error: KafkaError | None, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is not None or partition is None or offset is None:
                self.unconfirmed += 1
            else:
                self.written[topic, partition, offset] = reason

        return confirm

    async def set_aside(self, within_s: float) -> None:
        """Read dead letters until there is one of each record, or for some seconds."""
        try:
            async with asyncio.timeout(within_s):
                while not self.written.keys() <= self._letters().keys():
                    await self._reader.poll()
        except TimeoutError:
            return  # what is missing is seen in the account

    @property
    def lost(self) -> int:
        """The records without a dead letter, or with one of another reason."""
        letters = self._letters()
        return sum(reason not in letters.get(at, ()) for at, reason in self.written.items())

    @property
    def repeated(self) -> int:
        """The dead letters beside the first of a record."""
        return sum(reasons.total() - 1 for reasons in self._letters().values())

    def _letters(self) -> dict[tuple[str, int, int], Counter[str]]:
        """Return the reasons of the dead letters, by the place of their record."""
        found: dict[tuple[str, int, int], Counter[str]] = {}
        for letter in self._reader.records:
            if isinstance(letter, DeadLetter):
                topic = letter.topic.removeprefix(self._world.prefix)
                at = topic, letter.partition, letter.offset
                found.setdefault(at, Counter())[letter.reason] += 1
        return found
