"""Makes the records by which the record of a dead letter is written again. Pure.

The record is the one that the log has, with its key, its headers and so its CloudEvents id. Where a
letter is about some returns of a batch, only these are written: the others were applied. Each
record is judged by the gate that it will meet, as if the log got it now.
"""

from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256
from math import isfinite
from typing import NamedTuple

from cli.errors import NotRedriven
from kafka_io.client import partition_of
from kafka_io.reader import ConsumedRecord
from kafka_io.topic_checks import INPUTS
from kafka_io.transactions import OutgoingRecord
from schemas.codec import encode
from schemas.errors import Refused
from schemas.events import DeadLetter, DeadLetterReason, Record, Return, ReturnBatch
from schemas.gate import AHEAD_US, admit
from schemas.headers import REDRIVE, fault_of_tenant, tenant_in
from schemas.instants import EARLIEST_US, to_rfc3339
from schemas.keys import encode_key, fault_of_key
from schemas.topics import AGENT_COMMANDS, BACKTEST_COMMANDS, CATALOGUE, TRAINING_COMMANDS, Topic
from stream_processors.gate import Fault, RecordGate, place_of

COMMANDS = (TRAINING_COMMANDS, BACKTEST_COMMANDS, AGENT_COMMANDS)
"""The topics whose records workers of commands read; all others are read by processors."""


class Home(NamedTuple):
    """A topic of dead letters' records."""

    topic: Topic
    name: str
    """Its full name."""
    partitions: int


def topic_of_letter(letter: DeadLetter, prefix: str) -> Topic:
    """Return the topic of the record of a dead letter.

    Raises:
        NotRedriven: nobody reads records of the topic in this system.
    """
    read = {topic.name for topic in COMMANDS} | INPUTS
    for topic in CATALOGUE:
        if prefix + topic.name == letter.topic and topic.name in read:
            return topic
    raise NotRedriven(f"{letter.topic} is no topic whose records this system reads")


class Original(NamedTuple):
    """The record of a dead letter."""

    record: ConsumedRecord
    """As readers get it: its value is in single-object encoding."""
    logged: bytes | None
    """The value as the log has it; a letter about a value that could not be read is about this."""


def check_original(letter: DeadLetter, original: Original | None) -> ConsumedRecord:
    """Return the record of a letter, if the log still has it.

    Raises:
        NotRedriven: the log has no record there, or another one.
    """
    where = f"{letter.topic}/{letter.partition} at offset {letter.offset}"
    if original is None:
        kept = 0 if letter.value is None else len(letter.value)
        whole = kept if letter.value_bytes is None else letter.value_bytes
        raise NotRedriven(
            f"the log has no record any more in {where}, so it cannot be written again; the letter "
            f"keeps {kept} of the {whole} bytes of its value, and none of its headers. Let its "
            "producer send the record again, and discard the letter"
        )
    record, logged = original
    for name, candidates, part, digest in (
        ("key", (record.key,), letter.key, letter.key_sha256),
        ("value", (record.value, logged), letter.value, letter.value_sha256),
    ):
        # Letters of 0.1.0 have no digest.
        is_same = any(
            (found or b"").startswith(part or b"")
            if digest is None
            else found is not None and sha256(found).digest() == digest
            for found in candidates
        )
        if not is_same:
            raise NotRedriven(
                f"the log has another record in {where}: the SHA-256 of its {name} is not that of "
                "the letter. The topic was made anew, or has lost its end"
            )
    return record


def records_of(
    letter: DeadLetter,
    original: ConsumedRecord,
    home: Home,
    now_us: int,
    ahead_us: float = AHEAD_US,
) -> Sequence[OutgoingRecord]:
    """Return the records to write for a letter.

    Args:
        letter: the letter.
        original: its record.
        home: the record's topic.
        now_us: the present time.
        ahead_us: how far ahead of the log's time an event may be.

    Raises:
        NotRedriven: the record would become a dead letter again; the message says why.
    """
    if letter.reason == DeadLetterReason.LATE:
        raise NotRedriven("it came too late, and is later now: what it belonged to is closed")
    try:
        record = admit(original.value, *home.topic.records)
    except Refused as error:
        raise _still(str(error)) from error
    made = []
    for value, partition in _parts(letter, original, record, home, now_us + ahead_us):
        judged = original._replace(value=value, partition=partition, timestamp=now_us / 1e6)
        fault = _fault(judged, home, ahead_us)
        if fault is not None:
            raise _still(fault)
        headers = [pair for pair in original.headers if pair[0] != REDRIVE]
        headers.append((REDRIVE, letter.letter_id.encode()))
        made.append(OutgoingRecord(home.name, original.key, value, partition, headers))
    return made


def _parts(
    letter: DeadLetter, original: ConsumedRecord, record: Record, home: Home, latest_us: float
) -> list[tuple[bytes, int]]:
    """Return the records to write, each with its partition."""
    assert original.value is not None  # it was decoded
    tenant = tenant_in(original.headers)
    if not isinstance(record, ReturnBatch):
        if letter.index is not None:
            raise NotRedriven(
                f"it is about part {letter.index} of a {type(record).__name__}, whose other parts "
                "were applied; let its producer send this part again"
            )
        place = place_of(record, tenant) if home.topic not in COMMANDS else original.key
        partition = original.partition if place is None else partition_of(place, home.partitions)
        return [(original.value, partition)]
    by_home: defaultdict[int, list[Return]] = defaultdict(list)
    for index, value in enumerate(record.returns):
        partition = partition_of(encode_key(value.portfolio_id, tenant), home.partitions)
        is_meant = letter.index in (None, index) and (
            letter.reason != DeadLetterReason.WRONG_PARTITION or partition != letter.partition
        )
        if is_meant:
            _check_return(value, latest_us)
            by_home[partition].append(value)
    if not by_home:
        raise NotRedriven("it has no return that was refused: each is in its partition now")
    if len(by_home) == 1 and sum(map(len, by_home.values())) == len(record.returns):
        return [(original.value, partition) for partition in by_home]
    return [
        (encode(ReturnBatch(returns=returns, lap=record.lap)), partition)
        for partition, returns in by_home.items()
    ]


def _check_return(value: Return, latest_us: float) -> None:
    if not isfinite(value.value):
        raise _still(f"the return of {value.portfolio_id} is {value.value}")
    if not EARLIEST_US <= value.event_time_us <= latest_us:
        at = value.event_time_us
        shown = to_rfc3339(at) if at >= EARLIEST_US else str(at)
        raise _still(f"the return of {value.portfolio_id} has the time {shown}")


def _fault(message: ConsumedRecord, home: Home, ahead_us: float) -> str | None:
    """Return why the gate of its readers would refuse a record."""
    if home.topic not in COMMANDS:
        gate = RecordGate({home.name: home.topic}, lambda _: home.partitions, ahead_us)
        judged = gate.judge(message)
        return judged.text if isinstance(judged, Fault) else None
    fault = fault_of_tenant(message.headers) or fault_of_key(
        message.key, tenant_in(message.headers)
    )
    if fault is not None:
        return fault
    try:
        logged_us = int(message.timestamp * 1e6)
        admit(message.value, home.topic.record, logged_us=logged_us, ahead_us=ahead_us)
    except Refused as error:
        return str(error)
    return None


def _still(text: str) -> NotRedriven:
    return NotRedriven(f"it would become a dead letter again: {text}")
