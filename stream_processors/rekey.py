"""Give the records of tenants the keys that name them, in a log of an earlier release.

All processors are stopped meanwhile, and producers should be. For each partition number, this
process becomes the one writer of its states, and moves what `stream_processors.tenant_keys` says:

    history    what the states have read of returns, limits and acknowledgements, for rebuilds
    states     each in its new partition, as having read what stands there
    tables     the last measure, alert, book and so on, for edges
    the rest   what the states have not read yet

The last three are one transaction, so a state is moved once, and what it has not read follows it.
History that is written twice, after a crash, has no effect on a state. Records that no processor
reads stay where they are: edges read them by their headers.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from kafka_io.client import partition_of
from kafka_io.clock import now_us
from kafka_io.operators import operator
from kafka_io.publisher import Publisher
from kafka_io.reader import (
    ConsumedRecord,
    OffsetRange,
    read_between,
    read_offsets,
    read_rows,
)
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from kafka_io.transactions import OutgoingRecord, TransactionalWriter, open_writer
from schemas.codec import encode
from schemas.errors import Refused
from schemas.events import (
    OperatorAction,
    OperatorActionKind,
    ProcessorPositions,
    Record,
    ReturnBatch,
)
from schemas.gate import admit
from schemas.keys import decode_key, encode_key
from schemas.topics import (
    AGENT_COMMANDS,
    BACKTEST_COMMANDS,
    BACKTEST_EVENTS,
    DASHBOARD_TALLIES,
    MARKET_TRADES,
    PARTITIONS,
    PORTFOLIO_RETURNS,
    PROCESSOR_POSITIONS,
    RISK_ACKS,
    RISK_BOOK_RISKS,
    RISK_BOOKS,
    RISK_HISTORY,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_SERIES,
    RISK_WANTED,
    TRAINING_COMMANDS,
    TRAINING_EVENTS,
    Topic,
)
from stream_processors.errors import RekeyRefused
from stream_processors.kafka_adapter import read_growths
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import processors_of
from stream_processors.tenant_keys import (
    Progress,
    headers_with,
    lacks_tenant,
    moved,
    old_rows,
    parts_of,
    place_of,
    tenant_of_input,
)

Say = Callable[[str], None]

_HISTORY = (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS)
"""The inputs whose records states have read are copied, since rebuilds read them."""
_UNREAD = (
    RISK_WANTED,
    RISK_SERIES,
    TRAINING_EVENTS,
    BACKTEST_EVENTS,
    MARKET_TRADES,
    DASHBOARD_TALLIES,
)
"""The other inputs; only what has not been read is copied."""
_COMMANDS = (TRAINING_COMMANDS, BACKTEST_COMMANDS, AGENT_COMMANDS)
"""What workers have not done yet is copied too."""
_TABLES = (RISK_MEASURES, RISK_HISTORY, RISK_OPEN, RISK_BOOKS, RISK_BOOK_RISKS)
_CHUNK = 2_000
"""The most offsets that are read, and records that are written, at a time."""
_OPEN_S = 20.0
_TRANSACTION_S = 300.0


async def rekey(settings: ProcessorSettings, say: Say) -> None:
    """Move what earlier releases have written of tenants to keys that name them.

    Records without a tenant are left as they are, and so are those whose keys name theirs.

    Args:
        settings: those of the processors.
        say: prints a line.

    Raises:
        RekeyRefused: processors are running, or topics have grown.
        ProducerError, TimeoutError: Kafka does not answer; run it again.
    """
    await _Rekeying(settings, say).run()


class _Rekeying:
    """One run of the command."""

    def __init__(self, settings: ProcessorSettings, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._prefix = settings.topic_prefix
        self._group = f"{self._prefix}tapewire"
        self._clients = ProducerSettings(
            bootstrap_servers=settings.bootstrap_servers, topic_prefix=self._prefix
        )
        self._states = [state for known in processors_of(settings) for state in known.states]

    async def run(self) -> None:
        """Move each partition number's records."""
        servers = self._settings.bootstrap_servers
        if await read_growths(servers, self._prefix):
            raise RekeyRefused(
                "the topics of portfolios have grown, and the keys of earlier releases cannot be "
                "followed then. No state has such a key, or they could not have grown; what a "
                "producer of an earlier release has written since is in dead.letters: publish it "
                "again by a present release"
            )
        for group in (self._group, *map(self._group_of, _COMMANDS)):
            members = await asyncio.to_thread(TopicAdmin(servers).members_of, group)
            if members:
                raise RekeyRefused(
                    f"processors or workers are running: {', '.join(sorted(members))}; stop all of "
                    "them, and run this again"
                )
        await self._note()
        for number in range(PARTITIONS):
            await self._move(number)
        for number in range(PARTITIONS):
            await self._let_rows_be_ahead(number)
        self._say("done; start the processors again")

    async def _note(self) -> None:
        """Write who changes the keys, before the first key changes."""
        action = OperatorAction(
            action=OperatorActionKind.REKEY, subject="keys of tenants", event_time_us=now_us()
        )
        async with Publisher(self._clients) as publisher:
            await publisher.publish(action, partition=0, origin=operator())

    def _writer(self, number: int) -> AbstractAsyncContextManager[TransactionalWriter]:
        return open_writer(
            self._settings.bootstrap_servers,
            f"{self._group}-{number}",
            self._group,
            timeout_s=_TRANSACTION_S,
            within_s=_OPEN_S,
        )

    async def _move(self, number: int) -> None:
        async with self._writer(number) as writer:
            names = {self._prefix + topic.name: topic for topic in self._states}
            found = await read_rows(names, number, self._clients)
            progress = Progress({topic.name: found[name] for name, topic in names.items()})
            offsets = await self._offsets((*_HISTORY, *_UNREAD, *_TABLES), number)
            read, unread = await self._history(number, offsets, progress)
            for start in range(0, len(read), _CHUNK):
                await writer.commit(read[start : start + _CHUNK], {})
            for topic in _UNREAD:
                unread += await self._unread(topic, number, offsets[topic.name], progress)
            for topic in _COMMANDS:
                found_of = await self._offsets([topic], number, self._group_of(topic))
                unread += await self._unread(topic, number, found_of[topic.name], progress)
            tables = [
                record
                for topic in _TABLES
                for record in await self._table(topic, number, offsets[topic.name])
            ]
            rows = [row async for row in self._moved_rows(number, progress)]
            if rows or tables or unread:
                await self._commit(writer, [*rows, *tables, *unread])
        moved_rows = sum(row.value is not None for row in rows)
        self._say(
            f"partition {number}: {moved_rows} states have moved, and {len(read) + len(unread)} "
            "of their records"
        )

    @staticmethod
    async def _commit(writer: TransactionalWriter, records: Sequence[OutgoingRecord]) -> None:
        async with asyncio.timeout(_TRANSACTION_S):
            await writer.commit(records, {})

    def _group_of(self, commands: Topic) -> str:
        """Return the group of the workers that share commands."""
        return f"{self._group}-{commands.name}"

    async def _offsets(
        self, topics: Sequence[Topic], number: int, group: str | None = None
    ) -> Mapping[str, OffsetRange]:
        """Return the offsets of a partition number, by the topic's name in the catalogue."""
        names = [self._prefix + topic.name for topic in topics]
        found = await read_offsets(names, number, group or self._group, self._clients)
        return {topic.name: found[self._prefix + topic.name] for topic in topics}

    async def _history(
        self, number: int, offsets: Mapping[str, OffsetRange], progress: Progress
    ) -> tuple[list[OutgoingRecord], list[OutgoingRecord]]:
        """Return the returns, limits and acknowledgements that states have read, and the others."""
        read: list[OutgoingRecord] = []
        unread: list[OutgoingRecord] = []
        for topic in _HISTORY:
            span = offsets[topic.name]
            async for message, record, tenant in self._of_tenants(topic, number, span, span.begin):
                is_new = message.offset >= (span.committed or 0)
                if isinstance(record, ReturnBatch):
                    parts = parts_of(record, tenant, message, _home, progress)
                    read += _batches(message, parts.read)
                    unread += _batches(message, parts.unread) if is_new else ()
                elif _is_read(topic, message, progress):
                    read.append(_keyed(message, record, tenant))
                elif is_new:
                    unread.append(_keyed(message, record, tenant))
        return read, unread

    async def _unread(
        self, topic: Topic, number: int, span: OffsetRange, progress: Progress
    ) -> list[OutgoingRecord]:
        """Return what states have not read of a topic."""
        first = max(span.begin, span.committed or 0)
        return [
            _keyed(message, record, tenant)
            async for message, record, tenant in self._of_tenants(topic, number, span, first)
            if not _is_read(topic, message, progress)
        ]

    async def _table(self, topic: Topic, number: int, span: OffsetRange) -> list[OutgoingRecord]:
        """Return the last row of each key of a table, and what deletes the old ones."""
        name = self._prefix + topic.name
        last: dict[bytes, ConsumedRecord] = {}
        async for message in self._read(name, number, range(span.begin, span.end)):
            last.pop(message.key or b"", None)
            if message.value is not None:
                last[message.key or b""] = message
        found = [
            _keyed(message, record, tenant)
            for message, record, tenant in _those_of_tenants(topic, last.values())
        ]
        # A processor that reads the table would refuse a record without a value.
        old = () if topic is RISK_BOOKS else (decode_key(row.key or b"").entity_id for row in found)
        return [*found, *(OutgoingRecord(name, encode_key(key), None, number) for key in old)]

    async def _moved_rows(self, number: int, progress: Progress) -> AsyncGenerator[OutgoingRecord]:
        """Yield the states under their new keys, and what deletes the old ones."""
        inputs = (*_HISTORY, TRAINING_EVENTS, BACKTEST_EVENTS)
        ends = [await self._offsets(inputs, home) for home in range(PARTITIONS)]
        by_home = [{name: span.end for name, span in found.items()} for found in ends]
        for topic, rows in progress.states.items():
            name = self._prefix + topic
            for key, row, tenant in old_rows(rows):
                where = moved(key, row, tenant, _home, by_home[0]).partition
                state = moved(key, row, tenant, _home, by_home[where])
                yield OutgoingRecord(name, state.key, encode(state.row), state.partition)
                yield OutgoingRecord(name, key, None, number)

    async def _let_rows_be_ahead(self, number: int) -> None:
        """Note that the states of a number have read what was copied for them.

        A recovery would take it for records that the log has lost.
        """
        name = self._prefix + PROCESSOR_POSITIONS.name
        async with self._writer(number) as writer:
            rows = await read_rows({name: PROCESSOR_POSITIONS}, number, self._clients)
            key = str(number).encode()
            saved = rows[name].get(key)
            if not isinstance(saved, ProcessorPositions):
                return
            ends = await self._offsets(_HISTORY, number)
            positions = [
                at._replace(row_limit=max(at.row_limit, ends[at.topic].end))
                if at.topic in ends
                else at
                for at in saved.positions
            ]
            row = encode(replace(saved, positions=positions))
            await self._commit(writer, [OutgoingRecord(name, key, row, number)])

    async def _of_tenants(
        self, topic: Topic, number: int, span: OffsetRange, first: int
    ) -> AsyncGenerator[tuple[ConsumedRecord, Record, str]]:
        """Yield the records of tenants whose keys do not name them, from an offset on."""
        name = self._prefix + topic.name
        async for message in self._read(name, number, range(first, span.end)):
            for found in _those_of_tenants(topic, [message]):
                yield found

    async def _read(self, name: str, number: int, offsets: range) -> AsyncGenerator[ConsumedRecord]:
        """Yield the records of a partition."""
        for start in range(offsets.start, offsets.stop, _CHUNK):
            chunk = range(start, min(start + _CHUNK, offsets.stop))
            for message in await read_between(name, number, chunk, self._clients):
                yield message


def _those_of_tenants(
    topic: Topic, messages: Iterable[ConsumedRecord]
) -> Iterable[tuple[ConsumedRecord, Record, str]]:
    for message in messages:
        record = _admitted(topic, message)
        tenant = None if record is None else tenant_of_input(message, record)
        if record is not None and tenant is not None and lacks_tenant(message.key or b"", tenant):
            yield message, record, tenant


def _admitted(topic: Topic, message: ConsumedRecord) -> Record | None:
    try:
        return admit(message.value, *topic.records)
    except Refused:
        return None


def _is_read(topic: Topic, message: ConsumedRecord, progress: Progress) -> bool:
    key = (message.key or b"").decode(errors="replace")
    return message.offset <= progress.read_up_to(topic.name, key)


def _home(key: bytes) -> int:
    return partition_of(key, PARTITIONS)


def _keyed(message: ConsumedRecord, record: Record, tenant: str) -> OutgoingRecord:
    key, partition = place_of(record, message.key or b"", tenant, _home)
    return OutgoingRecord(
        message.topic, key, message.value, partition, headers_with(message, tenant)
    )


def _batches(message: ConsumedRecord, parts: Mapping[int, ReturnBatch]) -> Iterable[OutgoingRecord]:
    return [
        OutgoingRecord(message.topic, None, encode(batch), number, message.headers)
        for number, batch in parts.items()
    ]
