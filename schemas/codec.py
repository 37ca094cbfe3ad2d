"""Events to bytes and back: Avro's single-object encoding.

A value is a two-byte marker, the schema's 64-bit fingerprint and the Avro body, so that a reader
needs no registry: every version of every record is in `schemas/avro/NAME/VERSION.avsc`, writers
use the newest, and readers resolve whichever one was written to it.

Whatever arrives either decodes or is refused by name. fastavro checks neither the fingerprint nor
what trails the body, and an array of zero-size items takes gigabytes from 41 bytes; so the marker,
the size and the end are checked here, and no schema with such an array is let in.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any, NamedTuple

import fastavro
from avro.schema import parse as parse_strictly
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from schemas import events
from schemas.errors import TooLarge, Undecodable, UnknownEvent
from schemas.events import (
    BacktestProgress,
    Bar,
    BarChunk,
    BoardState,
    Book,
    BookPart,
    BookRisk,
    Candle,
    CandleState,
    Holding,
    JobStep,
    ModelBacktest,
    PortfolioState,
    Record,
    Return,
    ReturnBatch,
    RiskEstimate,
    RiskLimit,
    RiskLimits,
    RiskMeasure,
    SeriesReturns,
    SourceState,
    TaskStep,
    Trade,
    TradeBatch,
    TrainingProgress,
    WatchState,
    WindowSlice,
    WindowTotal,
)
from schemas.instants import EARLIEST_US, LATEST_US

MARKER = b"\xc3\x01"
_HEAD_BYTES = len(MARKER) + 8

VALUE_BYTES_MAX = 1 << 20
"""The largest value that is decoded; Kafka's own default limit for a message."""

_RECORDS: dict[str, type[Record]] = {
    kind.__name__: kind
    for kind in (
        events.TrainingProgress,
        events.TrainingCommand,
        events.StoryState,
        events.BacktestProgress,
        events.BacktestCommand,
        events.BarChunk,
        events.JobState,
        events.AgentCommand,
        events.AgentEvent,
        events.ChatEvent,
        events.UserUpdate,
        events.StreamRenewal,
        events.TradeBatch,
        events.Candle,
        events.CandleState,
        events.ReturnBatch,
        events.RiskMeasure,
        events.RiskAlert,
        events.RiskLimits,
        events.AlertAck,
        events.OpenAlert,
        events.RebuildDone,
        events.Book,
        events.SeriesWanted,
        events.SeriesReturns,
        events.BookRisk,
        events.SeriesState,
        events.DashboardUpdate,
        events.WindowTally,
        events.BoardState,
        events.DeadLetter,
        events.PortfolioState,
    )
}


_PARTS: Mapping[type[Record], Mapping[str, type[Any]]] = {
    BoardState: {"sources": SourceState, "slices": WindowSlice, "totals": WindowTotal},
    BarChunk: {"bars": Bar},
    Book: {"holdings": Holding},
    BookRisk: {"estimates": RiskEstimate, "parts": BookPart},
    SeriesReturns: {"returns": Return},
    BacktestProgress: {"job": JobStep},
    CandleState: {"forming": Candle},
    PortfolioState: {"watches": WatchState, "limits": RiskLimit, "estimates": RiskEstimate},
    RiskLimits: {"limits": RiskLimit},
    RiskMeasure: {"estimates": RiskEstimate, "model_backtests": ModelBacktest},
    TradeBatch: {"trades": Trade},
    TrainingProgress: {"task": TaskStep},
}
"""The fields of a record that hold another, or a list of others."""

_INSTANTS = ("event_time_us", "watermark_us")
"""What producers say of time."""


def _names(kind: type[Any]) -> tuple[str, ...]:
    named: tuple[str, ...] | None = getattr(kind, "_fields", None)
    return named or tuple(field.name for field in fields(kind))


_PART_NAMES: Mapping[type[Any], tuple[str, ...]] = {
    kind: _names(kind) for parts in _PARTS.values() for kind in parts.values()
}


class _Writer(NamedTuple):
    head: bytes
    schema: Any
    names: tuple[str, ...]


class _Reader(NamedTuple):
    kind: type[Record]
    written: Any
    wanted: Any


def encode(record: Record) -> bytes:
    """Write a record in the newest version of its schema.

    Raises:
        UnknownEvent: no schema has the name of its class.
        ValueError, TypeError: a field's value does not fit the schema.
    """
    writer = _writers().get(type(record).__name__)
    if writer is None:
        raise UnknownEvent(
            f"no schema is called {type(record).__name__}; there are {', '.join(sorted(_RECORDS))}"
        )
    body = BytesIO(writer.head)
    body.seek(_HEAD_BYTES)
    fastavro.schemaless_writer(body, writer.schema, _as_datum(record, writer.names))
    return body.getvalue()


def decode(value: bytes | None) -> Record:
    """Read a record of any version.

    Raises:
        Undecodable: saying whether the marker, the fingerprint, the body, its end or its time is
            wrong.
        TooLarge: the value exceeds `VALUE_BYTES_MAX`.
    """
    if value is None or value[:2] != MARKER or len(value) < _HEAD_BYTES:
        found = "nothing" if value is None else (value[:_HEAD_BYTES].hex(" ") or "no bytes")
        raise Undecodable(f"expected Avro's single-object marker c3 01, found {found}")
    if len(value) > VALUE_BYTES_MAX:
        raise TooLarge(f"{len(value)} bytes are over the limit of {VALUE_BYTES_MAX}")
    reader = _readers().get(value[2:_HEAD_BYTES])
    if reader is None:
        raise Undecodable(f"no schema has the fingerprint {value[2:_HEAD_BYTES].hex()}")
    body = BytesIO(value)
    body.seek(_HEAD_BYTES)
    try:
        datum: Any = fastavro.schemaless_reader(body, reader.written, reader.wanted)
    except Exception as error:  # fastavro raises whatever its C code meets
        raise Undecodable(f"the body is no {reader.kind.__name__}: {error!r}") from error
    if body.tell() != len(value):
        raise Undecodable(f"{len(value) - body.tell()} bytes follow the {reader.kind.__name__}")
    return _return_batch(datum) if reader.kind is ReturnBatch else _record(reader.kind, datum)


def versions(name: str) -> list[dict[str, Any]]:
    """Every version of a record's schema on disk, oldest first, as JSON objects."""
    folder = files("schemas") / "avro" / name
    paths = sorted(folder.iterdir(), key=lambda path: int(path.name.removesuffix(".avsc")))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def record_names() -> list[str]:
    """The records there are schemas for."""
    return sorted(_RECORDS)


def _record(kind: type[Record], datum: Any) -> Record:
    for name in _INSTANTS:
        at_us = datum.get(name, 0)
        if not EARLIEST_US <= at_us <= LATEST_US:
            raise Undecodable(f"{name} is {at_us}; it must be microseconds since 1970 UTC")
    for name, part in _PARTS.get(kind, {}).items():
        inside = datum[name]
        if isinstance(inside, list):
            datum[name] = [part(**one) for one in inside]
        elif inside is not None:
            datum[name] = part(**inside)
    return kind(**datum)


def _return_batch(datum: Any) -> ReturnBatch:
    """Returns in columns, or, of the first version, one by one: these are many."""
    one_by_one, *columns, versions = datum.values()
    if one_by_one:
        return ReturnBatch(returns=[Return(*one.values()) for one in one_by_one])
    if len({len(column) for column in columns}) > 1 or len(versions) not in (0, len(columns[0])):
        raise Undecodable("the columns of the ReturnBatch are not of one length")
    with_versions = (*columns, versions) if versions else columns
    return ReturnBatch(returns=list(map(Return, *with_versions)))


def _columns(returns: Sequence[Return]) -> dict[str, Any]:
    portfolio_ids, times_us, values, versions = zip(*returns, strict=True) if returns else [()] * 4
    return {
        "returns": (),
        "portfolio_ids": portfolio_ids,
        "times_us": times_us,
        "values": values,
        "versions": () if set(versions) == {1} else versions,
    }


def _as_datum(record: Record, names: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(record, ReturnBatch):
        return _columns(record.returns)
    datum = {name: getattr(record, name) for name in names}
    for name, kind in _PARTS.get(type(record), {}).items():
        inside = datum[name]
        if isinstance(inside, Sequence):
            datum[name] = [_as_part(one, kind) for one in inside]
        elif inside is not None:
            datum[name] = _as_part(inside, kind)
    return datum


def _as_part(part: object, kind: type[Any]) -> dict[str, Any]:
    if isinstance(part, tuple):
        return dict(zip(_PART_NAMES[kind], part, strict=True))
    return {name: getattr(part, name) for name in _PART_NAMES[kind]}


@cache
def _writers() -> dict[str, _Writer]:
    writers = {}
    for name, kind in _RECORDS.items():
        newest = versions(name)[-1]
        head = MARKER + _fingerprint(newest)
        writers[name] = _Writer(head, _parse(newest), _names(kind))
    return writers


@cache
def _readers() -> dict[bytes, _Reader]:
    readers = {}
    for name, kind in _RECORDS.items():
        wanted = _writers()[name].schema
        for version in versions(name):
            mark = _fingerprint(version)
            written = _parse(version)
            same = mark == _writers()[name].head[2:]
            readers[mark] = _Reader(kind, written, None if same else wanted)
    return readers


def _parse(schema: dict[str, Any]) -> Any:
    parse_strictly(json.dumps(schema))  # avro's own parser is the stricter one
    bare = _without_logical_types(schema)
    _refuse_zero_size_items(bare)
    return parse_schema(bare)


def _fingerprint(schema: dict[str, Any]) -> bytes:
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def _without_logical_types(schema: Any) -> Any:
    """Keep times integers; the canonical form, and so the fingerprint, has no logical types."""
    if isinstance(schema, dict):
        return {
            key: _without_logical_types(value)
            for key, value in schema.items()
            if key != "logicalType"
        }
    return [_without_logical_types(one) for one in schema] if isinstance(schema, list) else schema


def _refuse_zero_size_items(schema: Any) -> None:
    if isinstance(schema, list):
        for one in schema:
            _refuse_zero_size_items(one)
    if not isinstance(schema, dict):
        return
    items = schema.get("items")
    empty = isinstance(items, dict) and (items.get("fields") == [] or items.get("size") == 0)
    if items == "null" or empty:
        raise ValueError(f"an array of items without a size can be a bomb: {schema}")
    for value in schema.values():
        _refuse_zero_size_items(value)
