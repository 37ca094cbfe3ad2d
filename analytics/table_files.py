"""Writes rows as a file: Parquet, CSV, Arrow, NDJSON or JSON, a batch at a time.

A file appears under its name only when it is whole. In CSV, nested columns are JSON. In CSV, NDJSON
and JSON, times are RFC 3339, bytes are Base64, and numbers that are not finite are missing.
"""

import json
import math
import os
import sys
from base64 import b64encode
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.ipc
import pyarrow.parquet as pa_parquet

from analytics.errors import NotWritten
from schemas.instants import from_datetime, to_rfc3339


class Format(StrEnum):
    """The form of a file of rows."""

    PARQUET = "parquet"
    CSV = "csv"
    ARROW = "arrow"
    NDJSON = "ndjson"
    JSON = "json"


class Writer(Protocol):
    """Takes the rows of a file."""

    def write(self, rows: pa.RecordBatch) -> None:
        """Write rows at the end."""
        ...

    def close(self) -> None:
        """Write the end of the file."""
        ...


@contextmanager
def open_writer(path: Path | None, form: Format, schema: pa.Schema) -> Generator[Writer]:
    """Write a file, which has its name only if no error was raised within.

    Args:
        path: the file, which is replaced if it exists; None for the standard output. Arrow's form
            is that of files in a file, and that of streams on the standard output.
        form: the form.
        schema: the columns.

    Raises:
        NotWritten: the file cannot be written.
    """
    is_stream = path is None
    with _whole_file(path) as file:
        try:
            writer = _WRITERS[form](file, schema, is_stream)
            yield writer
            writer.close()
        except OSError as error:
            raise NotWritten(_reason(path, error)) from error


@contextmanager
def _whole_file(path: Path | None) -> Generator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise NotWritten(_reason(path, error)) from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def _reason(path: Path | None, error: OSError) -> str:
    where = "the standard output" if path is None else path
    return f"{where} cannot be written: {error.strerror or error}"


class _Parquet:
    def __init__(self, file: BinaryIO, schema: pa.Schema, is_stream: bool) -> None:  # noqa: ARG002, FBT001  # as all
        self._writer = pa_parquet.ParquetWriter(file, schema, compression="zstd")

    def write(self, rows: pa.RecordBatch) -> None:
        if rows.num_rows:
            self._writer.write_batch(rows)

    def close(self) -> None:
        self._writer.close()


class _Arrow:
    def __init__(self, file: BinaryIO, schema: pa.Schema, is_stream: bool) -> None:  # noqa: FBT001  # as all
        new = pa.ipc.new_stream if is_stream else pa.ipc.new_file
        self._writer = new(file, schema)

    def write(self, rows: pa.RecordBatch) -> None:
        self._writer.write_batch(rows)

    def close(self) -> None:
        self._writer.close()


class _Csv:
    def __init__(self, file: BinaryIO, schema: pa.Schema, is_stream: bool) -> None:  # noqa: ARG002, FBT001  # as all
        self._schema = pa.schema([pa.field(field.name, _csv_type(field.type)) for field in schema])
        self._writer = pa_csv.CSVWriter(file, self._schema)

    def write(self, rows: pa.RecordBatch) -> None:
        columns = [
            column if kind == column.type else pa.array(map(_csv_text, column), kind)
            for column, kind in zip(rows.columns, self._schema.types, strict=True)
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


class _Ndjson:
    def __init__(self, file: BinaryIO, schema: pa.Schema, is_stream: bool) -> None:  # noqa: ARG002, FBT001  # as all
        self._file = file
        self._names = schema.names

    def write(self, rows: pa.RecordBatch) -> None:
        for row in plain_rows(rows):
            line = json.dumps(dict(zip(self._names, row, strict=True)), ensure_ascii=False)
            self._file.write(f"{line}\n".encode())

    def close(self) -> None:
        self._file.flush()


class _Json:
    """Writes an array of objects, an object a line."""

    def __init__(self, file: BinaryIO, schema: pa.Schema, is_stream: bool) -> None:  # noqa: ARG002, FBT001  # as all
        self._file = file
        self._names = schema.names
        self._before = b"[\n"

    def write(self, rows: pa.RecordBatch) -> None:
        for row in plain_rows(rows):
            line = json.dumps(dict(zip(self._names, row, strict=True)), ensure_ascii=False)
            self._file.write(self._before + line.encode())
            self._before = b",\n"

    def close(self) -> None:
        self._file.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")


_WRITERS: dict[Format, Callable[[BinaryIO, pa.Schema, bool], Writer]] = {
    Format.PARQUET: _Parquet,
    Format.CSV: _Csv,
    Format.ARROW: _Arrow,
    Format.NDJSON: _Ndjson,
    Format.JSON: _Json,
}


def _csv_type(kind: pa.DataType) -> pa.DataType:
    is_plain = pa.types.is_primitive(kind) and not pa.types.is_temporal(kind)
    return kind if is_plain else pa.string()


def _csv_text(value: pa.Scalar) -> str | None:
    plain = _plain(value)
    return (
        plain if plain is None or isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    )


def plain_rows(rows: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """Yield the values of each row as JSON has them."""
    columns = [[_plain(value) for value in column] for column in rows.columns]
    return zip(*columns, strict=True)


def _plain(value: pa.Scalar) -> Any:
    """Return a value of Arrow as JSON has it."""
    return plain_value(value.as_py(maps_as_pydicts="lossy"))


def plain_value(value: Any) -> Any:
    """Return a value of Python as JSON has it."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, dict):
        return {str(name): plain_value(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(part) for part in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> str | float | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return to_rfc3339(from_datetime(value))
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return str(value)  # dates, decimals and identifiers of DuckDB
