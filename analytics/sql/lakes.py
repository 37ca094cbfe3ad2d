"""The tables of a lake as relations of SQL, each with the offsets up to which it has the log."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from analytics.errors import InvalidLake
from analytics.sinks.address import open_sink, parse_address
from analytics.sinks.base import Lane, Tables
from analytics.sql.database import quoted

_EXTENSIONS: Mapping[str, Sequence[str]] = {
    "delta": ("delta",),
    "iceberg": ("avro", "iceberg"),
    "parquet": (),
}


class LakeTable(NamedTuple):
    """A table of a lake."""

    relation: str
    """The SQL expression that returns its rows, such as a call of `delta_scan`."""
    positions: Mapping[Lane, int]
    """The offset of the next record of each lane."""


class Lake:
    """A lake, of any format."""

    def __init__(self, format_name: str, place: str, sink: Tables) -> None:
        """Take a lake.

        Args:
            format_name: `delta`, `iceberg` or `parquet`.
            place: its folder, or its prefix in a bucket.
            sink: its tables.
        """
        self._format = format_name
        self._sink = sink
        self.place = place
        self.is_remote = place.startswith("s3://")
        self.extensions: Sequence[str] = (
            *(("httpfs",) if self.is_remote else ()),
            *_EXTENSIONS[format_name],
        )

    def tables(self) -> Sequence[str]:
        """Return the names of its tables."""
        return self._sink.tables()

    def find(self, name: str) -> LakeTable | None:
        """Return a table; None if the lake has none of the name."""
        if name not in self._sink.tables():
            return None
        snapshot = self._sink.snapshot(name)
        return LakeTable(self._relation(snapshot.location), snapshot.positions)

    def files(self, name: str) -> Sequence[str]:
        """Return the Parquet files with the rows of a table; none if the lake has no such table."""
        return self._sink.files(name) if name in self._sink.tables() else ()

    def _relation(self, location: str) -> str:
        if self._format == "delta":
            return f"delta_scan({quoted(location)})"
        if self._format == "iceberg":
            return f"iceberg_scan({quoted(location)})"
        files = quoted(f"{location.rstrip('/')}/**/*.parquet")
        return f"read_parquet({files}, union_by_name = true, hive_partitioning = false)"


def open_lake(text: str) -> Lake:
    """Open the lake of an address, such as `delta:/srv/lake`.

    Raises:
        InvalidLake: no tables can be read from a lake of this format.
        LakeError: the address cannot be understood, or a library is missing.
    """
    address = parse_address(text)
    if address.format not in _EXTENSIONS:
        known = ", ".join(_EXTENSIONS)
        raise InvalidLake(f"SQL reads lakes of {known}, not of {address.format}")
    sink = open_sink(text)
    missing = [name for name in ("tables", "snapshot", "files") if not hasattr(sink, name)]
    if missing:
        raise InvalidLake(f"the tables of {text} cannot be listed")
    place = address.place if address.is_remote else str(Path(address.place).resolve())
    return Lake(address.format, place, sink)  # type: ignore[arg-type]  # it has what `Tables` asks for
