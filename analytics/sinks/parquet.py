"""Tables of plain Parquet files in a folder of this machine, which any tool reads by their names.

The rows of a span of offsets are a folder, whose name is the first offset:

    TABLE/TOPIC/EPOCH/PARTITION/00000000000000000100/_until-200
                                                     day=2026-11-30/00000000000000000100-200.parquet

It is written and synced to the disk elsewhere, and gets its name by one rename. The rename fails
where the folder exists, so of two writers one wins, and readers of `TABLE/**/*.parquet` see all of
a span or nothing. A lane's position is the end of its last folder; each folder begins where one
ended, so a writer that comes back late finds the folder of its next span there.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from analytics.arrow_compute import pc
from analytics.sinks.address import Address
from analytics.sinks.base import Compacted, Lane, Snapshot, Span
from analytics.sinks.errors import (
    BrokenTable,
    ForeignTable,
    InvalidAddress,
    LakeError,
    LakeUnavailable,
    Overtaken,
    UnknownTable,
)

_ABOUT = "_tapewire_lake.json"
_PREPARED = "_prepared"
_UNTIL = re.compile(r"_until-(\d+)")
_TABLE = re.compile(r"[a-z][a-z0-9_]*")
_DIGITS = 20


def open_at(address: Address) -> "ParquetSink":
    """Return the sink of a folder.

    Raises:
        InvalidAddress: the address is that of an object store, which renames no folders.
        ForeignTable: the folder has other files.
        LakeUnavailable: it cannot be read or made.
    """
    if address.is_remote:
        raise InvalidAddress(
            "a lake of plain Parquet files is a folder of this machine, since an object store "
            "renames no folders; write delta: or iceberg: before an s3:// address"
        )
    return ParquetSink(Path(address.place).resolve())


class ParquetSink:
    """Writes tables of plain Parquet files; see the module."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._workshop: Path | None = None
        _check_folder(root)

    def tables(self) -> Sequence[str]:
        """Return the names of all tables, sorted."""
        names = sorted(path.name for path in _folders(self._root) if _TABLE.fullmatch(path.name))
        return [name for name in names if next(self._lanes(name), None) is not None]

    def positions(self, table: str) -> Mapping[Lane, int]:
        """Return the next offset of each lane of a table; none of a table that is not there yet."""
        found = {}
        for lane, folder in self._lanes(table):
            last = max((path.name for path in _folders(folder)), default=None)
            if last is not None:
                found[lane] = _end_of(folder / last)
        return found

    def append(self, table: str, rows: pa.Table, spans: Sequence[Span]) -> None:
        """Append rows and advance lanes, one lane after the other: each as a whole or not at all.

        Raises:
            Overtaken: a lane's position is not where its span begins. Lanes before it in `spans`
                are written.
            LakeUnavailable: the disk refuses; the message says why.
        """
        positions = self.positions(table)
        for span in spans:
            if span.begin != positions.get(span.lane, 0):
                raise Overtaken(table, span.lane)
        try:
            for span in spans:
                self._append(table, rows, span)
        except OSError as error:
            raise LakeUnavailable(
                f"{error.filename or self._root} cannot be written: {error.strerror or error}"
            ) from error

    def snapshot(self, table: str) -> Snapshot:
        """Return the current state of a table."""
        self._require(table)
        return Snapshot(str(self._root / table), None, self.positions(table))

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows of a table, in no order.

        Raises:
            UnknownTable: there is no such table.
            BrokenTable: a file is malformed; the message names it.
        """
        parts = [_read_whole(Path(path), columns) for path in self.files(table)]
        return pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})

    def files(self, table: str) -> Sequence[str]:
        """Return the paths of the files of a table, sorted."""
        self._require(table)
        return sorted(map(str, (self._root / table).rglob("*.parquet")))

    def count(self, table: str) -> int:
        """Return the number of rows of a table, by the footers of its files.

        Raises:
            UnknownTable: there is no such table.
            BrokenTable: a file is malformed; the message names it.
        """
        self._require(table)
        rows = 0
        for path in (self._root / table).rglob("*.parquet"):
            try:
                rows += pq.read_metadata(path).num_rows
            except (pa.ArrowException, OSError) as error:
                raise BrokenTable(f"{path} is no whole Parquet file: {error}") from error
        return rows

    def compact(self, table: str) -> Compacted:
        """Refuse, since readers of plain files would see rows twice, or not at all.

        Raises:
            LakeError: always.
        """
        raise LakeError(
            f"{table} is made of plain Parquet files, which have no state that could replace "
            "another at once; write fewer by a longer TAPEWIRE_LAKE_INTERVAL_S, or keep a lake of "
            "delta: or iceberg:"
        )

    def erase(self, table: str, column: str, value: str) -> int:
        """Delete the rows with a value in a column of texts, file by file, and return how many."""
        self._require(table)
        erased = 0
        for path in sorted((self._root / table).rglob("*.parquet")):
            rows = _read_whole(path, None)
            if column not in rows.column_names:
                continue
            is_kept = pc.fill_null(pc.not_equal(rows[column], value), fill_value=True)
            kept = rows.filter(is_kept)
            if kept.num_rows < rows.num_rows:
                unfinished = self._prepared() / uuid4().hex
                _write_rows(unfinished, kept)
                unfinished.replace(path)
                _sync(path.parent)
                erased += rows.num_rows - kept.num_rows
        return erased

    def expire(self, table: str, older_than: timedelta) -> int:
        """Return 0: plain files have no earlier states."""
        del older_than
        self._require(table)
        return 0

    def vacuum(self, table: str, older_than: timedelta) -> Sequence[str]:
        """Return nothing: the next writer clears away what dead ones have left."""
        del older_than
        self._require(table)
        return ()

    def _append(self, table: str, rows: pa.Table, span: Span) -> None:
        prepared = self._prepared() / uuid4().hex
        prepared.mkdir()
        _write_synced(prepared / f"_until-{span.end}", b"")
        for day, part in _by_day(_rows_of(rows, span.lane), is_first=span.begin == 0):
            folder = prepared / f"day={day}"
            folder.mkdir()
            name = f"{span.begin:0{_DIGITS}d}-{span.end}.parquet"
            _write_rows(folder / name, part)
            _sync(folder)
        _sync(prepared)
        lane = self._folder(table, span.lane)
        lane.mkdir(parents=True, exist_ok=True)
        try:
            prepared.rename(lane / f"{span.begin:0{_DIGITS}d}")
        except OSError as error:
            shutil.rmtree(prepared, ignore_errors=True)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise Overtaken(table, span.lane) from error
            raise
        for folder in (lane, *lane.parents):
            _sync(folder)
            if folder == self._root:
                break

    def _folder(self, table: str, lane: Lane) -> Path:
        return self._root / table / lane.topic / lane.epoch / str(lane.partition)

    def _lanes(self, table: str) -> Iterator[tuple[Lane, Path]]:
        for topic in _folders(self._root / table):
            for epoch in _folders(topic):
                for folder in _folders(epoch):
                    yield Lane(topic.name, epoch.name, int(folder.name)), folder

    def _require(self, table: str) -> None:
        known = self.tables()
        if table not in known:
            names = ", ".join(known) or "no tables yet"
            raise UnknownTable(f"{self._root} has no table {table}; it has {names}")

    def _prepared(self) -> Path:
        """Return this process's folder of unfinished files; clear away those of dead processes."""
        if self._workshop is None:
            self._root.mkdir(parents=True, exist_ok=True)
            about = self._root / _ABOUT
            if not about.exists():
                unfinished = about.with_name(f"{_ABOUT}.{uuid4().hex}")
                _write_synced(unfinished, json.dumps({"format": "parquet", "version": 1}).encode())
                unfinished.rename(about)
            for remains in _folders(self._root / _PREPARED):
                _clear(remains)
            workshop = self._root / _PREPARED / uuid4().hex
            workshop.mkdir(parents=True)
            # Held as long as this sink lives, so that others do not take its files for remains.
            lock = os.open(workshop / "lock", os.O_CREAT | os.O_RDWR)
            weakref.finalize(self, os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._workshop = workshop
        return self._workshop


def _check_folder(root: Path) -> None:
    """Check that a folder is a lake of this format, or empty, or not there yet."""
    try:
        names = {path.name for path in root.iterdir()} if root.exists() else set()
        about = root / _ABOUT
        if _ABOUT not in names:
            if names - {_PREPARED}:
                raise ForeignTable(
                    f"{root} has files of others, and no {_ABOUT}; name an empty folder, or that "
                    "of a lake of plain Parquet files"
                )
            return
        found = json.loads(about.read_text(encoding="utf-8"))
    except OSError as error:
        raise LakeUnavailable(f"{root} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise BrokenTable(f"{root / _ABOUT} is no JSON: {error}") from error
    if found != {"format": "parquet", "version": 1}:
        raise ForeignTable(f"{root} is a lake of another form: {about.name} says {found}")


def _folders(place: Path) -> list[Path]:
    """Return the folders in a place, without those of unfinished files; none if it is not there."""
    try:
        return (
            [path for path in place.iterdir() if not path.name.startswith("_") and path.is_dir()]
            if place.name != _PREPARED
            else [path for path in place.iterdir() if path.is_dir()]
        )
    except FileNotFoundError:
        return []


def _end_of(folder: Path) -> int:
    ends = [found for path in folder.iterdir() if (found := _UNTIL.fullmatch(path.name))]
    if len(ends) != 1:
        raise BrokenTable(
            f"{folder} has no file that is called _until- and the offset where its rows end; "
            "restore it, or move the folder away if it is the last of its partition"
        )
    return int(ends[0][1])


def _rows_of(rows: pa.Table, lane: Lane) -> pa.Table:
    if not rows.num_rows:
        return rows
    is_lane = pc.and_(
        pc.equal(rows["_topic"], lane.topic),
        pc.and_(
            pc.equal(rows["_epoch"], lane.epoch),
            pc.equal(rows["_partition"], pa.scalar(lane.partition, pa.int32())),
        ),
    )
    return rows.filter(is_lane)


def _by_day(rows: pa.Table, *, is_first: bool) -> Iterator[tuple[str, pa.Table]]:
    """Yield rows by the day on which the log got them, in UTC; `unknown` where it is unknown.

    The first span of a lane always has a file, so that a table without rows has columns.
    """
    if not rows.num_rows:
        if is_first:
            yield "unknown", rows
        return
    days = pc.fill_null(pc.strftime(rows["_ingested_at"], "%Y-%m-%d"), "unknown")
    for day in sorted(days.unique().to_pylist()):
        yield day, rows.filter(pc.equal(days, day))


def _read_whole(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise BrokenTable(f"{path} is no whole Parquet file: {error}") from error


def _write_rows(path: Path, rows: pa.Table) -> None:
    with path.open("wb") as file:
        pq.write_table(rows, file, compression="zstd", compression_level=1)
        file.flush()
        os.fsync(file.fileno())


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Let the disk have the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear(remains: Path) -> None:
    """Delete the unfinished files of a process if it is dead."""
    try:
        with (remains / "lock").open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(remains, ignore_errors=True)
    except BlockingIOError:
        return  # its process lives
    except FileNotFoundError:
        return  # it has just been made, or is being deleted
