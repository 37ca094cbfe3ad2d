"""Values in Confluent's framings, read as values in single-object encoding.

A value may begin with a zero byte and the registry's id of its schema, or be a bare Avro body whose
header `__value_schema_id` has the id or a GUID. A `ResolvingConsumer` puts single-object encoding
in their place before it returns a record. So whatever is behind it needs no registry.

A schema that is not known yet is asked for in another thread. Its partition is held back at that
record, and the others go on; so are records of known schemas while the registry does not answer.
If there is no answer in time, the record is returned as it is, as a `RefusedValue` with the reason,
which the gate raises.

Only a value whose first byte is not that of single-object encoding is looked at. A bare body could
have this first byte, too, if its first field were a negative number or a block of an array; no
record of ours begins so.
"""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition

from kafka_io.counts import COUNTS, ForeignOutcome
from kafka_io.errors import SchemaUnknown
from kafka_io.schema_registry import SchemaRegistry, SchemaRegistrySettings
from schemas.codec import MARKER
from schemas.errors import ForeignSchema, Refused, RefusedValue, Undecodable, UnresolvedSchema
from schemas.foreign import Translate, resolve

logger = logging.getLogger(__name__)

SCHEMA_ID_HEADER = "__value_schema_id"
"""The header by which Confluent's serializers name the schema of a value without a prefix."""

_MARK = MARKER[0]
_ID_BYTES = 5
_SIZES = {b"\0": _ID_BYTES, b"\1": 17}
"""The sizes of a reference by its first byte: an id, or a GUID."""
_HELD_POLL_S = 0.05
"""How often it is looked whether the schema of a record that waits has come."""
_ASK_AGAIN_S = 1.0
_FORGOTTEN_S = 30.0
"""How long after the last value that waited the next one begins to wait anew."""
_GETONE_MS = 1_000
_REFUSED_S = 60.0
"""How long a schema that the registry does not know, or lies about, is not asked for again."""
_NO_PARTITION = TopicPartition("none", 0)
"""Fetched in place of an empty list, which aiokafka takes for all partitions."""


class SchemaSource(Protocol):
    """Where schemas are asked for: a `SchemaRegistry`."""

    url: str

    def fetch(self, reference: bytes) -> str:
        """Return the text of a schema, in some seconds at most."""
        ...


class _Answer(NamedTuple):
    """The answer about a schema: how to translate values, or why they are refused."""

    result: Translate | UnresolvedSchema
    until_s: float = float("inf")


@dataclass(slots=True)
class _Question:
    """A schema that values wait for."""

    since_s: float
    seen_s: float
    """When a value was last seen that waits for it."""
    future: "Future[_Answer] | None" = None


class _Pool(Protocol):
    """An executor of threads, or what a test has in its place."""

    def submit(self, function: Callable[..., _Answer], /, *args: Any) -> "Future[_Answer]":
        """Begin to call a function."""
        ...


class SchemaCache:
    """The schemas of a registry by the references that values have to them. Of any thread."""

    def __init__(
        self,
        source: SchemaSource | None,
        *,
        schemas_max: int = 1_000,
        now_s: Callable[[], float] = time.monotonic,
        pool: _Pool | None = None,
    ) -> None:
        """Make an empty cache.

        Args:
            source: the registry; None where none is set.
            schemas_max: the most schemas that are remembered.
            now_s: a clock.
            pool: runs questions; None for a thread.
        """
        self._source = source
        self._schemas_max = schemas_max
        self._now_s = now_s
        self._lock = threading.Lock()
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()
        self._questions: OrderedDict[bytes, _Question] = OrderedDict()
        self._pool: _Pool = pool or ThreadPoolExecutor(1, thread_name_prefix="schema-registry")
        self._away_since_s: float | None = None
        """When values began to wait for a registry that has answered nothing since."""
        self._failed_s = -inf
        """When the last question was left without an answer."""
        self._failure = ""

    def find(self, reference: bytes, wait_s: float) -> Translate | Refused | None:
        """Return what translates values of a schema, or why they are refused; None to wait.

        Args:
            reference: what a value has in place of its schema, as `SchemaRegistry.fetch` takes it.
            wait_s: how long values wait for a registry that does not answer.
        """
        if self._source is None:
            return Undecodable(
                f"the value is in Confluent's framing, with the {_named(reference)}; set "
                "TAPEWIRE_SCHEMA_REGISTRY_URL to the registry that has its schema"
            )
        with self._lock:
            now_s = self._now_s()
            answer = self._answers.get(reference)
            if answer is not None and answer.until_s > now_s:
                self._answers.move_to_end(reference)
                return answer.result
            return self._ask(self._source, reference, wait_s, now_s)

    def _ask(
        self, source: SchemaSource, reference: bytes, wait_s: float, now_s: float
    ) -> Translate | Refused | None:
        question = self._question(reference, now_s)
        if question.future is not None and question.future.done():
            error = question.future.exception()
            if error is None:
                del self._questions[reference]
                self._away_since_s = None
                return self._remember(reference, question.future.result())
            question.future = None
            if self._away_since_s is None:
                self._away_since_s = question.since_s
                logger.warning("records wait for their schemas: %s", error)
            self._failed_s, self._failure = now_s, str(error)
            COUNTS.registry_failures += 1
        if question.future is None and now_s >= self._failed_s + _ASK_AGAIN_S:
            question.future = self._pool.submit(_answer, source, reference, now_s)
        waited_s = now_s - question.since_s
        if self._away_since_s is not None and self._failed_s >= question.since_s:
            # Values of all schemas wait as long as one would, and a new one for one more question.
            waited_s = max(waited_s, now_s - self._away_since_s)
        if waited_s < wait_s:
            return None
        reason = self._failure or f"the schema registry at {source.url} does not answer"
        return UnresolvedSchema(
            f"the schema of the {_named(reference)} is not known after {waited_s:.1f} s: {reason}"
        )

    def _question(self, reference: bytes, now_s: float) -> _Question:
        if self._away_since_s is not None and now_s - self._failed_s > _FORGOTTEN_S:
            self._away_since_s = None  # nobody has asked for a while
        question = self._questions.get(reference)
        if question is None or now_s - question.seen_s > _FORGOTTEN_S:
            self._questions[reference] = question = _Question(now_s, now_s)
            if len(self._questions) > self._schemas_max:
                self._questions.popitem(last=False)
        question.seen_s = now_s
        return question

    def _remember(self, reference: bytes, answer: _Answer) -> Translate | UnresolvedSchema:
        self._answers[reference] = answer
        self._answers.move_to_end(reference)
        if len(self._answers) > self._schemas_max:
            self._answers.popitem(last=False)
        if isinstance(answer.result, UnresolvedSchema):
            logger.warning("records of a schema are refused: %s", answer.result)
        return answer.result


def _answer(source: SchemaSource, reference: bytes, now_s: float) -> _Answer:
    """Ask for a schema, in the thread that does this."""
    try:
        return _Answer(resolve(source.fetch(reference)))
    except (SchemaUnknown, ForeignSchema) as error:
        text = f"the schema of the {_named(reference)} at {source.url} {error}"
        return _Answer(UnresolvedSchema(text), now_s + _REFUSED_S)


def _named(reference: bytes) -> str:
    """Return the name of a schema in sentences."""
    if reference[0] == 0:
        return f"id {int.from_bytes(reference[1:])}"
    return f"GUID {UUID(bytes=reference[1:])}"


_caches: dict[SchemaRegistrySettings, SchemaCache] = {}
"""By settings; a process has one."""


def schema_cache(settings: SchemaRegistrySettings) -> SchemaCache:
    """Return the process's cache of the schemas of a registry.

    Raises:
        InvalidSetting: the settings cannot be used.
    """
    cache = _caches.get(settings)
    if cache is None:
        source = None if settings.url is None else SchemaRegistry(settings)
        cache = SchemaCache(source, schemas_max=settings.schemas_max)
        _caches[settings] = cache
    return cache


class _Foreign(NamedTuple):
    """A value in one of Confluent's framings."""

    reference: bytes
    body: bytes
    is_by_header: bool


def split(value: bytes, headers: Iterable[tuple[str, bytes | None]]) -> _Foreign | None:
    """Return what a value in one of Confluent's framings is made of; None for any other."""
    for name, reference in headers:
        if name == SCHEMA_ID_HEADER and reference is not None:
            size = _SIZES.get(reference[:1])
            return _Foreign(reference, value, True) if size == len(reference) else None  # noqa: FBT003  # fields in order
    if value[0] == 0 and len(value) >= _ID_BYTES:
        return _Foreign(value[:_ID_BYTES], value[_ID_BYTES:], False)  # noqa: FBT003  # as above
    return None


class _Held(NamedTuple):
    """The record at which a partition is held back."""

    offset: int
    reference: bytes


class ResolvingConsumer(AIOKafkaConsumer):
    """A consumer that returns values in Confluent's framings in single-object encoding."""

    def __init__(
        self, *topics: str, schemas: SchemaCache, schema_wait_s: float, **options: Any
    ) -> None:
        """Make a consumer.

        Args:
            topics: what to subscribe to.
            schemas: the schemas by the ids of values.
            schema_wait_s: how long a record waits whose schema is not known yet.
            options: aiokafka's.
        """
        super().__init__(*topics, **options)  # type: ignore[no-untyped-call]  # aiokafka has no types
        self._schemas = schemas
        self._schema_wait_s = schema_wait_s
        self._held: dict[TopicPartition, _Held] = {}

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Any]]:
        """Return the next records; see aiokafka's."""
        if self._held:
            return await self._getmany_beside_held(partitions, timeout_ms / 1_000, max_records)
        found: dict[TopicPartition, list[Any]] = await super().getmany(
            *partitions, timeout_ms=timeout_ms, max_records=max_records
        )
        for records in found.values():
            for record in records:
                value = record.value
                if value and value[0] != _MARK:
                    self._resolve(found)
                    # All records may be held back, and more time may be left than has passed.
                    return found or await self.getmany(
                        *partitions, timeout_ms=timeout_ms, max_records=max_records
                    )
        return found

    async def getone(self, *partitions: TopicPartition) -> Any:
        """Return the next record, once there is one."""
        while True:
            found = await self.getmany(*partitions, timeout_ms=_GETONE_MS, max_records=1)
            for records in found.values():
                return records[0]

    async def _getmany_beside_held(
        self, partitions: Sequence[TopicPartition], timeout_s: float, max_records: int | None
    ) -> dict[TopicPartition, list[Any]]:
        """Return records of partitions that are not held back, or of those that are no longer."""
        now_s = asyncio.get_running_loop().time
        end_s = now_s() + timeout_s
        this: Any = self  # aiokafka has no types
        while True:
            await self._release()
            wanted = partitions or tuple(this.assignment())
            free = [where for where in wanted if where not in self._held]
            left_s = max(0.0, end_s - now_s())
            pause_s = min(left_s, _HELD_POLL_S) if self._held else left_s
            found: dict[TopicPartition, list[Any]] = await super().getmany(
                *(free or [_NO_PARTITION]),
                timeout_ms=int(pause_s * 1_000),
                max_records=max_records,
            )
            self._resolve(found)
            if found or now_s() >= end_s:
                return found

    async def _release(self) -> None:
        """Let partitions go on whose schema is known or given up, or that are read elsewhere."""
        this: Any = self  # aiokafka has no types
        for where, held in tuple(self._held.items()):
            is_here = where in this.assignment() and await this.position(where) == held.offset
            if not is_here or self._schemas.find(held.reference, self._schema_wait_s) is not None:
                self._held.pop(where, None)

    def _resolve(self, found: dict[TopicPartition, list[Any]]) -> None:
        """Put single-object encoding in the place of other framings; leave out what has to wait."""
        for where, records in tuple(found.items()):
            for index, record in enumerate(records):
                value = record.value
                if not value or value[0] == _MARK:
                    continue
                foreign = split(value, record.headers)
                if foreign is None:
                    continue
                known = self._schemas.find(foreign.reference, self._schema_wait_s)
                if known is None:
                    self._hold(where, record, foreign.reference)
                    del records[index:]
                    break
                record.value = _translated(value, foreign.body, known)
                if foreign.is_by_header and not isinstance(record.value, RefusedValue):
                    # A copy of the record must not claim to be a bare body.
                    record.headers = tuple(
                        header for header in record.headers if header[0] != SCHEMA_ID_HEADER
                    )
            if not records:
                del found[where]

    def _hold(self, where: TopicPartition, record: Any, reference: bytes) -> None:
        """Hold a partition back at a record, which is fetched again later."""
        this: Any = self  # aiokafka has no types
        if where in this.assignment():
            this.seek(where, record.offset)
            self._held[where] = _Held(record.offset, reference)


def _translated(value: bytes, body: bytes, known: Translate | Refused) -> bytes:
    if isinstance(known, Refused):
        COUNTS.foreign_values[ForeignOutcome.REFUSED] += 1
        return RefusedValue.of(value, known)
    try:
        translated = known(body)
    except Refused as error:
        COUNTS.foreign_values[ForeignOutcome.REFUSED] += 1
        return RefusedValue.of(value, error)
    COUNTS.foreign_values[ForeignOutcome.READ] += 1
    return translated
