"""Decodes many records of one version of a schema at once, into the columns of their class.

The bodies of records, one after the other, are a block of an Avro file. So a file in memory is
made of them, and a native library reads it as columns. After each body stand 16 random bytes, a
field of their own: where a body is too short or too long, they are not found where they must be.

The gate's bounds hold for what is returned. They are checked by whole columns, so a `Doubt` does
not say which record is to blame, nor that any is: the caller decodes smaller groups, or record by
record.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any, get_args, get_type_hints

import polars as pl
import pyarrow as pa
from polars_avro._avro_rs import AvroSource
from polars_avro._source import seekable_factory

from analytics.arrow_compute import pc
from analytics.column_bounds import Bounds, Unbounded, bounds_of
from analytics.columns import PRIMITIVES, TIMESTAMP, arrow_type, event_schema
from schemas.bounds import NAME_CHARS_MAX, Observed, Paced
from schemas.codec import versions
from schemas.events import Record, ReturnBatch
from schemas.gate import paced_max

_MARK_BYTES = 16
_HEAD_BYTES = 10
"""Before the body: the marker and the fingerprint of single-object encoding."""


class Doubt(Exception):  # it says that nothing is known to be wrong
    """A group of values has to be decoded in another way."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A version of the schema of a class, and what decoding it needs."""

    kind: type[Record]
    header: bytes
    """The beginning of an Avro file of framed bodies, without the sync marker."""
    written: Mapping[str, Any]
    newest: Mapping[str, Any]
    bounds: Mapping[str, Bounds]
    observed: Sequence[str]
    """The columns of times that may not be far ahead of the log's."""
    paced: Sequence[str]
    """The columns of numbers that grow by at most one a second."""


@cache
def layout_of(kind: type[Record], version: int) -> Layout | None:
    """Return the layout of a version of a class's schema.

    Args:
        kind: the class.
        version: the version's number, from 1 on.

    Returns:
        The layout; None if records of this version are decoded one by one: those with a map, whose
        keys may repeat, or with a union of several types.
    """
    known = versions(kind.__name__)
    written, newest = known[version - 1], known[-1]
    if not (is_plain(written) and is_plain(newest)):
        return None
    if kind is ReturnBatch:
        return Layout(kind, _header(written), written, newest, {}, (), ("lap",))
    hints = get_type_hints(kind, include_extras=True)
    try:
        bounds = {name: bounds_of(hints[name]) for name in _names(newest)}
    except (Unbounded, KeyError):
        return None
    marked = {
        mark: tuple(name for name in bounds if _has_mark(hints[name], mark))
        for mark in (Observed, Paced)
    }
    header = _header(written)
    return Layout(kind, header, written, newest, bounds, marked[Observed], marked[Paced])


def read(
    layout: Layout, values: Sequence[bytes], logged_us: Sequence[int], ahead_us: float
) -> pa.StructArray:
    """Return the events of values, as structs with the columns of their class.

    Args:
        layout: that of the version that all values have.
        values: the values of records in Kafka.
        logged_us: when the log got each, in microseconds since 1970 UTC; 0 if it is unknown.
        ahead_us: how far ahead of that observed times may be, in microseconds.

    Raises:
        Doubt: a value among them may be malformed, out of bounds, or in need of more care.
    """
    found = _framed(layout, values)
    columns = _fit(found, layout.written, layout.newest)
    named = dict(zip(_names(layout.newest), columns.flatten(), strict=True))
    if layout.kind is ReturnBatch:
        _put_versions(named)
    for name, bounds in layout.bounds.items():
        if not bounds.hold(named[name]):
            raise Doubt(name)
    _check_times(named, layout, logged_us, ahead_us)
    schema = event_schema(layout.kind)
    missing = pa.nulls(len(values))
    arrays = [named[f.name] if f.name in named else missing.cast(f.type) for f in schema]
    return pa.StructArray.from_arrays(arrays, fields=list(schema))


def is_plain(schema: Any) -> bool:
    """Return whether an Avro schema has neither maps nor unions of several types beside null."""
    if isinstance(schema, str):
        return schema in PRIMITIVES
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        return len(branches) == 1 and is_plain(branches[0])
    kind = schema["type"]
    if kind == "record":
        return all(is_plain(part["type"]) for part in schema["fields"])
    if kind == "array":
        return is_plain(schema["items"])
    return kind != "map" and is_plain(kind)


def _framed(layout: Layout, values: Sequence[bytes]) -> pa.StructArray:
    """Return the bodies as the library reads them."""
    mark, sync = os.urandom(_MARK_BYTES), os.urandom(16)
    bodies = mark.join([value[_HEAD_BYTES:] for value in values])
    count, size = len(values), len(bodies) + _MARK_BYTES
    file = b"".join((layout.header, sync, _long(count), _long(size), bodies, mark, sync))
    try:
        # The first batch is full when all bodies are read. `polars_avro.read_avro` would ask for
        # another, and look for it for ever in bytes that an over-long body leaves over.
        source = AvroSource([seekable_factory(BytesIO(file))], strict=False, utf8_view=False)
        batches = source.batch_iter(count, None)
        table = pl.DataFrame(next(iter(batches))).to_arrow()
        table.validate(full=True)  # the library takes any bytes for a text
    except Exception as error:  # it raises whatever its native code meets
        raise Doubt(str(error)) from error
    marks = table["mark"]
    is_whole = pc.all(pc.equal(marks, pa.scalar(mark, marks.type))).as_py()
    if table.num_rows != count or not is_whole:
        raise Doubt("a body is too short or too long")
    return table["event"].combine_chunks()


def _fit(array: pa.Array, written: Any, newest: Any) -> pa.Array:
    """Return values in the types of the columns, with what the newest version adds."""
    written, newest = _branch(written), _branch(newest)
    kind = newest["type"] if isinstance(newest, dict) else newest
    if isinstance(kind, dict):
        return _fit(array, written["type"] if isinstance(written, dict) else written, kind)
    if kind == "record":
        return _fit_record(array, written, newest)
    if kind == "array":
        items = _fit(array.values, written["items"], newest["items"])
        mask = array.is_null() if array.null_count else None
        return pa.ListArray.from_arrays(array.offsets.cast(pa.int32()), items, mask=mask)
    if isinstance(newest, dict) and "logicalType" in newest:
        return array.cast(pa.int64()).view(TIMESTAMP)
    return array.cast(PRIMITIVES[kind])


def _fit_record(array: pa.StructArray, written: Any, newest: Any) -> pa.StructArray:
    parts = dict(zip(_names(written), array.flatten(), strict=True))
    types = {part["name"]: part["type"] for part in written["fields"]}
    columns, names = [], []
    for part in newest["fields"]:
        name = part["name"]
        if name in parts:
            column = _fit(parts[name], types[name], part["type"])
        else:
            column = _default(part, len(array))
        columns.append(column)
        names.append(name)
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(columns, names=names, mask=mask)


def _default(part: Mapping[str, Any], count: int) -> pa.Array:
    kind = arrow_type(part["type"])
    if part["default"] is None:
        return pa.nulls(count, kind)
    return pa.repeat(pa.scalar(part["default"], kind), count)


def _branch(schema: Any) -> Any:
    """Return the type of a schema beside null."""
    if isinstance(schema, list):
        return next(branch for branch in schema if branch != "null")
    return schema


def _put_versions(columns: dict[str, pa.Array]) -> None:
    """Give each return of a batch its version, and check what the codec checks of batches."""
    ids, versions_of = columns["portfolio_ids"], columns["versions"]
    sizes = pc.list_value_length(ids)
    if any(
        not pc.all(pc.equal(pc.list_value_length(columns[name]), sizes), min_count=0).as_py()
        for name in ("times_us", "values")
    ):
        raise Doubt("columns of several lengths")
    if len(columns["returns"].flatten()):
        raise Doubt("the first version's returns")
    longest = pc.max(pc.utf8_length(ids.flatten())).as_py() or 0
    lowest = pc.min(columns["lap"]).as_py() or 0
    if longest > NAME_CHARS_MAX or lowest < 0:
        raise Doubt("out of bounds")
    if len(versions_of.flatten()):
        given = pc.list_value_length(versions_of)
        if not pc.all(pc.equal(given, sizes)).as_py():
            raise Doubt("versions of some")
        return
    unchanged = pa.repeat(pa.scalar(1, pa.int32()), len(ids.values))
    columns["versions"] = pa.ListArray.from_arrays(ids.offsets, unchanged)


def _check_times(
    columns: Mapping[str, pa.Array], layout: Layout, logged_us: Sequence[int], ahead_us: float
) -> None:
    if layout.paced:
        most = pa.array([paced_max(at_us) for at_us in logged_us], pa.int64())
        for name in layout.paced:
            if pc.any(pc.greater(columns[name], most)).as_py():
                raise Doubt(name)
    if layout.observed:
        unlimited = (1 << 63) - 1
        limits = [
            min(int(at_us + ahead_us), unlimited) if at_us > 0 else unlimited for at_us in logged_us
        ]
        latest = pa.array(limits, pa.int64()).view(TIMESTAMP)
        for name in layout.observed:
            if pc.any(pc.greater(columns[name], latest)).as_py():
                raise Doubt(name)


def _has_mark(hint: Any, mark: type[object]) -> bool:
    return any(isinstance(bound, mark) for bound in get_args(hint)[1:])


def _names(schema: Mapping[str, Any]) -> list[str]:
    return [part["name"] for part in schema["fields"]]


def _header(schema: Mapping[str, Any]) -> bytes:
    """Return the beginning of an Avro file whose records are a body and a mark."""
    mark = {"type": "fixed", "name": "Mark", "size": _MARK_BYTES}
    fields = [{"name": "event", "type": _bare(schema)}, {"name": "mark", "type": mark}]
    framed = json.dumps({"type": "record", "name": "Framed", "fields": fields}).encode()
    entries = {b"avro.schema": framed, b"avro.codec": b"null"}
    texts = (_sized(text) for entry in entries.items() for text in entry)
    return b"".join([b"Obj\x01", _long(len(entries)), *texts, _long(0)])


def _bare(schema: Any) -> Any:
    """Return a schema without its docs, defaults and logical types: times are read as numbers."""
    if isinstance(schema, list):
        return [_bare(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = {"doc", "default", "logicalType"}
    return {name: _bare(part) for name, part in schema.items() if name not in left_out}


def _sized(text: bytes) -> bytes:
    return _long(len(text)) + text


def _long(number: int) -> bytes:
    """Return a count or size as Avro writes it."""
    rest, found = number << 1, bytearray()
    while rest > 0x7F:  # noqa: PLR2004  # seven bits a byte
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)
